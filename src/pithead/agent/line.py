"""The line to the coordinator: calls that are made again until they are answered, and the limits that are kept to."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pithead.client import ApiError, BadAnswer, RateLimited, Unreachable

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often things are done. Seconds."""

    heartbeat: float = 15.0
    #: How long the coordinator may hold the question for jobs while there are none.
    hold: float = 20.0
    #: Between two questions for jobs that brought none at once.
    idle: float = 3.0
    #: The back-off while the coordinator is away: doubling from the first to the longest.
    first_pause: float = 0.5
    longest_pause: float = 10.0
    #: Between two reports of progress; a run that is over sooner makes none.
    progress: float = 10.0
    #: Between two reports that bring output, whichever jobs they are about: what they use of the limits is the owner's.
    output: float = 3.0
    #: How long the coordinator may hold the question what there is to hear.
    listen: float = 50.0
    #: Between two such questions at the least; and how soon it is asked again whether it knows such questions at all.
    breath: float = 1.0
    deaf: float = 600.0
    #: Between two looks at the machine and at what its owner set.
    look: float = 2.0
    #: What may be spent on a good end.
    farewell: float = 5.0

    def pauses(self) -> Iterator[float]:
        """Exponential back-off. The jitter keeps a hundred miners from coming back at the same moment."""
        longest = self.first_pause
        while True:
            yield longest * (0.5 + 0.5 * draw())
            longest = min(2 * longest, self.longest_pause)


#: [0, 1); seldom the same for two agents.
draw: Callable[[], float] = random.SystemRandom().random


class Line:
    """Makes calls until they are answered. `ApiError`s that another try would not mend are raised."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._pace, self._clock = pace, clock
        self._away = False
        #: By the clock: job operations were refused until then.
        self._quiet_until = 0.0
        #: Deliveries under way, and whether there are none.
        self._deliveries = 0
        self._none_delivers = asyncio.Event()
        self._none_delivers.set()

    @property
    def away(self) -> bool:
        """Whether the coordinator gave no answer when it was last asked."""
        return self._away

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it is answered."""
        for pause in self._pace.pauses():
            try:
                answer = await call()
                self.reached()
                return answer
            except RateLimited as limited:
                pause = max(pause, limited.retry_after)
            except (Unreachable, BadAnswer) as error:
                self.lost(error)
            except ApiError as error:
                if error.status < 500:
                    self.reached()
                    raise
                self.lost(error)
            await asyncio.sleep(pause)
        raise AssertionError("pauses do not end")

    async def accept(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call likewise, but never while a delivery is under way: what limits leave is for finished work first."""
        return await self._operate(call, last=True)

    async def deliver(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call likewise, before any accept."""
        with self._delivering():
            return await self._operate(call, last=False)

    async def _operate(self, call: Callable[[], Awaitable[T]], *, last: bool) -> T:
        async def within_limits() -> T:
            await self._quiet()
            while last and not self._none_delivers.is_set():
                await self._none_delivers.wait()
                await self._quiet()
            try:
                return await call()
            except RateLimited as limited:
                if self._clock() >= self._quiet_until:
                    log.info("over the limit of job operations: none for %.0f s", limited.retry_after)
                self._quiet_until = self._clock() + limited.retry_after
                raise

        return await self.insist(within_limits)

    async def _quiet(self) -> None:
        while (left := self._quiet_until - self._clock()) > 0:  # noqa: ASYNC110 (a time is waited for, not an event)
            await asyncio.sleep(left)

    @contextmanager
    def _delivering(self) -> Iterator[None]:
        self._deliveries += 1
        self._none_delivers.clear()
        try:
            yield
        finally:
            self._deliveries -= 1
            if not self._deliveries:
                self._none_delivers.set()

    def reached(self) -> None:
        """The coordinator answered."""
        if self._away:
            log.info("the coordinator is back")
        self._away = False

    def lost(self, error: Exception) -> None:
        """It did not; said once, until it is back."""
        if not self._away:
            log.warning("%s; trying again, and what runs goes on", error)
        self._away = True
