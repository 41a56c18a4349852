"""When the next heartbeat is due: often enough for the shortest lease, and no oftener than that helps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

#: Heartbeats in the life of a lease, at the least: it survives that some of them are lost.
_BEATS_IN_A_LEASE: Final = 4
#: Seconds between two heartbeats at the least, however short the leases are.
_SHORTEST: Final = 0.1
#: A lease that lasts to within a second of its attempt's end is as long as it gets: no heartbeat makes it longer.
_AS_LONG_AS_IT_GETS: Final = 1.0


@dataclass(frozen=True)
class Lease:
    """A lease that was just given or renewed. Seconds from now."""

    expires_in: float
    #: When the attempt ends whatever is renewed.
    attempt_ends_in: float


class Rhythm:
    """Says when to send a heartbeat. `longest` is the seconds between two of them while nothing asks for more."""

    def __init__(self, longest: float, clock: Callable[[], float]) -> None:
        self._longest, self._clock = longest, clock
        self._interval = longest
        self._last = clock()
        #: Set where the next one is due sooner than it was to be.
        self._sooner = asyncio.Event()

    def taken(self, lease: Lease) -> None:
        """A lease more is held."""
        self._interval = min(self._interval, self._between([lease]))
        self._sooner.set()

    def answered(self, leases: Iterable[Lease]) -> None:
        """A heartbeat was answered, and these are the leases held."""
        self._last = self._clock()
        self._interval = self._between(leases)
        self._sooner.set()

    def hurry(self) -> None:
        """Make the next one due now."""
        self._interval = 0.0
        self._sooner.set()

    async def due(self) -> None:
        """Wait until it is time for the next one."""
        while (left := self._last + self._interval - self._clock()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._sooner.wait()

    def _between(self, leases: Iterable[Lease]) -> float:
        # Towards an attempt's end its lease gets shorter whatever is said. Hurrying would only use up the limits.
        renewable = [one for one in leases if one.expires_in < one.attempt_ends_in - _AS_LONG_AS_IT_GETS]
        return max(_SHORTEST, min([self._longest, *(one.expires_in / _BEATS_IN_A_LEASE for one in renewable)]))
