"""The miners by what matching looks at, in memory: what `why` and the warning of a submit read.

Ten thousand miners are a few groups of those that are alike. Nothing is decided by this: it may be some seconds old.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from pithead.core.board import kind_of
from pithead.core.jobs import Job
from pithead.core.why import Census
from pithead.exchange.events import Event, MinerChanged
from pithead.exchange.ports import Tx

T = TypeVar("T")

#: Seconds for which a count of the miners is good enough to tell what is wrong.
FRESH_FOR: Final = 2.0
#: Seconds for which it is good enough to tell that nothing is.
GOOD_FOR: Final = 600.0
#: Of a fleet that has more than so many, so many are counted again for each second since they were counted: to count a large
#: fleet keeps a core from its work for a while, and in such a fleet something changes all the time.
PACE: Final = 10_000
#: Kinds that are known to find a miner; beyond so many all are forgotten.
_MOST: Final = 20_000


class Fleet:
    """The last count of the miners. From the event loop's thread and the writers'."""

    def __init__(self) -> None:
        self._census: Census | None = None
        self._read_at = float("-inf")
        self._miners = 0
        self._changed = True
        #: Whether any submit asked since the last count.
        self._asked = False
        self._served: set[tuple[object, ...]] = set()

    def note(self, events: Sequence[Event]) -> None:
        """Count anew at the next occasion where these events changed anything."""
        for event in events:
            if type(event) is MinerChanged and event.profile:
                self._changed = True

    async def census(self, now: float, read: Callable[[Callable[[Tx], Census]], Awaitable[Census]]) -> Census:
        """The miners, as they were up to `FRESH_FOR` seconds ago."""
        if self._census is None or self._changed or now - self._read_at > FRESH_FOR:
            return await read(lambda tx: self._count(tx, now))
        return self._census

    async def keep(self, now: float, read: Callable[[Callable[[Tx], Census]], Awaitable[Census]]) -> None:
        """Count anew beside the writer, where submits ask and it is about time: so that none of them has to."""
        age = now - self._read_at
        if self._asked and (age > GOOD_FOR / 2 or (self._changed and age > FRESH_FOR / 2 and self._may_count(now))):
            await read(lambda tx: self._count(tx, now))

    def unserved(self, tx: Tx, now: float, job: Job) -> str | None:
        """What to say of a job that no registered miner fits; `None` where one does, which costs a look into a set."""
        self._asked = True
        census, age = self._census, now - self._read_at
        if census is None or age > GOOD_FOR or (self._changed and age > FRESH_FOR and self._may_count(now)):
            census = self._count(tx, now)
        kind = kind_of(job)
        if kind in self._served:
            return None
        words = census.unserved(kind, job.estimated_ms)
        if words is not None and (self._changed or now - self._read_at > FRESH_FOR) and self._may_count(now):
            # Somebody may have come meanwhile.
            words = self._count(tx, now).unserved(kind, job.estimated_ms)
        if words is None:
            if len(self._served) >= _MOST:
                self._served = set()
            self._served.add(kind)
        return words

    def _may_count(self, now: float) -> bool:
        return self._miners <= PACE or (now - self._read_at) * PACE >= self._miners

    def _count(self, tx: Tx, now: float) -> Census:
        self._changed = self._asked = False
        census = Census(tx.census())
        self._miners = sum(group.miners for group in census.groups)
        self._census, self._read_at, self._served = census, now, set()
        return census
