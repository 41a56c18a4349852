"""Counting requests against limits, with the `limits` library.

A moving window: no interval of the window's length ever admits more than the limit, wherever it begins.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol, TypeVar, runtime_checkable

from limits import RateLimitItemPerSecond
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter

T = TypeVar("T")

_log = logging.getLogger("pithead.http")

#: Threads that ask a storage which is not in memory.
_THREADS: Final = 4
#: Seconds that a storage has to answer.
_PATIENCE: Final = 1.0
#: Seconds for which one that did not is not asked again.
_PAUSE: Final = 5.0


class Rule(NamedTuple):
    """At most `limit` requests of `key` in any `window` seconds; a limit of 0 is none."""

    name: str
    key: str
    limit: int
    window: int


class Standing(NamedTuple):
    """How a rule stands after a request."""

    rule: Rule
    #: Requests left in the window.
    remaining: int
    #: Seconds until another one is admitted, or until the window is empty where some are left.
    reset: float


Outcome = tuple[bool, list[Standing]]


@runtime_checkable
class Connected(Protocol):
    """A storage with connections of its own."""

    def open(self) -> None: ...
    def close(self) -> None: ...


class Counts(Protocol):
    """What the middleware asks."""

    def hit(self, rules: Sequence[Rule]) -> Outcome | Awaitable[Outcome]:
        """Whether all rules admit one more request, which is then counted, and how they stand then."""

    def look(self, rules: Sequence[Rule]) -> list[Standing] | Awaitable[list[Standing]]:
        """How the rules stand; nothing is counted."""


class Limiter:
    """Counts in memory: for one process; the state of a key goes when its window is over. Or in another storage."""

    def __init__(self, storage: Storage | None = None) -> None:
        """Raises nothing in memory, and `limits.errors.StorageError` where another storage does not answer."""
        self._window = MovingWindowRateLimiter(storage or MemoryStorage())
        self._items: dict[tuple[int, int], RateLimitItemPerSecond] = {}

    def _item(self, rule: Rule) -> RateLimitItemPerSecond:
        item = self._items.get((rule.limit, rule.window))
        if item is None:
            item = self._items[rule.limit, rule.window] = RateLimitItemPerSecond(rule.limit, rule.window)
        return item

    def hit(self, rules: Sequence[Rule]) -> Outcome:
        """Whether all rules admit one more request, which is then counted; a refused one is counted nowhere.

        Where several processes count in one storage, a rule can be used up by another between the look and the count: then
        the request is refused, and may have been counted by a rule before.
        """
        binding = [rule for rule in rules if rule.limit]
        admitted = len(binding) < 2 or all(self._window.test(self._item(rule), rule.name, rule.key) for rule in binding)
        if admitted:
            admitted = all(self._window.hit(self._item(rule), rule.name, rule.key) for rule in binding)
        return admitted, self.look(binding)

    def look(self, rules: Sequence[Rule]) -> list[Standing]:
        """How the rules stand; nothing is counted."""
        now = time.time()
        standings = []
        for rule in rules:
            reset, remaining = self._window.get_window_stats(self._item(rule), rule.name, rule.key)
            standings.append(Standing(rule, remaining, max(0.0, reset - now)))
        return standings

    def open(self) -> None:
        """There is nothing to open in memory."""

    def close(self) -> None:
        """There is nothing to close."""


def redis_storage(url: str) -> Storage:
    """Redis or Valkey, which speak alike, behind such a URL. Raises `StorageError` where the `redis` package is not there."""
    try:
        # Not under its own scheme: for Valkey `limits` would want another client library.
        return RedisStorage(
            re.sub(r"^valkey", "redis", url),
            wrap_exceptions=True,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
        )
    except ConfigurationError as error:
        raise StorageError(error) from error


class SharedLimiter:
    """Counts in a storage that other processes count in too, from threads of its own.

    While the storage does not answer, it counts in memory: the limits hold then for each process by itself.
    """

    def __init__(self, storage: Storage) -> None:
        """`storage` raises `limits.errors.StorageError` where it cannot be reached."""
        self._storage = storage
        self._shared, self._own = Limiter(storage), Limiter()
        self._threads = ThreadPoolExecutor(_THREADS, "pithead-limits")
        self._paused_until = float("-inf")

    async def hit(self, rules: Sequence[Rule]) -> Outcome:
        """Whether all rules admit one more request, which is then counted."""
        return await self._ask(self._shared.hit, self._own.hit, rules)

    async def look(self, rules: Sequence[Rule]) -> list[Standing]:
        """How the rules stand; nothing is counted."""
        return await self._ask(self._shared.look, self._own.look, rules)

    async def _ask(
        self, shared: Callable[[Sequence[Rule]], T], own: Callable[[Sequence[Rule]], T], rules: Sequence[Rule]
    ) -> T:
        if time.monotonic() >= self._paused_until:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, shared, rules)
            except StorageError as error:
                self._paused_until = time.monotonic() + _PAUSE
                _log.warning("rate limits are counted in memory for now: %s", " ".join(str(error).split()))
        return own(rules)

    def open(self) -> None:
        """Connect, where the storage wants to be told."""
        if isinstance(self._storage, Connected):
            self._storage.open()

    def close(self) -> None:
        """Let its threads and connections end."""
        self._threads.shutdown()
        if isinstance(self._storage, Connected):
            self._storage.close()
