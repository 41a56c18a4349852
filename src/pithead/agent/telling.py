"""What the coordinator, and through it the client, is told of runs: how far they are, and what they brought forth so far."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from msgspec import UNSET

from pithead.agent.line import Pace
from pithead.client import AsyncMinerClient, PitheadError, RateLimited

log = logging.getLogger(__name__)

#: Characters of output in one report, and those of one run beyond which the coordinator keeps none.
_PIECE: Final = 32_768
_MOST: Final = 262_144
#: Seconds that the last of it may take before the result is delivered.
_LAST_WORD: Final = 2.0


class Turns:
    """Reports that bring output take turns, so that many runs use no more of the limits than one."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._pace, self._clock = pace, clock
        self._next = clock()
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """Wait for a turn."""
        async with self._lock:
            while (left := self._next - self._clock()) > 0:  # noqa: ASYNC110 (a time is waited for, not an event)
                await asyncio.sleep(left)
            yield
            self._next = self._clock() + self._pace.output

    def later(self, seconds: float) -> None:
        """Nobody's turn comes sooner than that."""
        self._next = max(self._next, self._clock() + seconds)


class Telling:
    """Tells of one run. What cannot be told now is told with the next word; nothing depends on its being heard."""

    def __init__(self, client: AsyncMinerClient, turns: Turns, pace: Pace, job_id: str, token: str) -> None:
        self._client, self._turns, self._pace = client, turns, pace
        self._job_id, self._token = job_id, token
        self._progress: tuple[float | None, str] = (None, "")
        self._said: tuple[float | None, str] | None = None
        #: Output that the coordinator does not have, and how much it has.
        self._text, self._there = "", 0
        #: Whether it takes more of it.
        self._takes = True
        self._news = asyncio.Event()

    def report(self, fraction: float | None, message: str, output: str = "") -> None:
        """How the run gets on; it never waits."""
        self._progress = (fraction, message)
        if output and self._takes:
            self._text += output[: max(0, _MOST - self._there - len(self._text))]
            if self._text:
                self._news.set()

    async def go_on(self) -> None:
        """Tell, until cancelled: of output when a turn comes, of progress alone more seldom."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.progress):
                    await self._news.wait()
            if self._text:
                async with self._turns():
                    await self._tell()
            elif self._progress != self._said:
                await self._tell()

    async def end(self) -> None:
        """The run came to something: tell the rest of its output, where some was told before. Whoever watches sees it whole."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                while self._text and self._there and await self._tell():
                    pass

    async def _tell(self) -> bool:
        """One report; whether it was heard."""
        self._said, piece = self._progress, self._text[:_PIECE]
        try:
            answer = await self._client.progress(
                self._job_id, *self._said, self._token, output=piece, output_offset=self._there
            )
        except RateLimited as limited:
            self._turns.later(limited.retry_after)
            return False
        except PitheadError:
            # Worth no second try: the next word comes soon, and heartbeats tell what else there is to know.
            self._turns.later(self._pace.output)
            return False
        if piece:
            self._heard(self._there if answer.output_size is UNSET else answer.output_size)
        return True

    def _heard(self, size: int) -> None:
        """So much of the output is there."""
        new = size - self._there
        if not 0 < new <= len(self._text):
            # It keeps no more of it, or none at all.
            self._takes, self._text = False, ""
        else:
            self._text, self._there = self._text[new:], size
        if not self._text:
            self._news.clear()
