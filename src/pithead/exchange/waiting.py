"""Miners that wait for an offer, and which of them to wake for a job.

One job is one miner's: were all that fit woken, all but one would ask in vain, and with a hundred thousand waiting nobody
else would be served meanwhile. So a few are woken, those that wait the longest first; should none of them take the job,
others are woken a moment later (`recheck`, from the sweep).
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from pithead.core import matching
from pithead.core.jobs import Job
from pithead.core.matching import ANY
from pithead.core.miners import Miner

#: Miners that are woken for one job: one may just have gone, or hold another offer already.
AT_ONCE: Final = 3
#: How many of a class are looked at to find them: those at the head may all be busy.
_LOOK_AT: Final = 50

#: What of a miner decides which jobs fit it; those alike are one group.
_Class = tuple[int, int, frozenset[str] | None]


class Ticket:
    """One miner's place among those that wait."""

    __slots__ = ("group", "miner", "wake")

    def __init__(self, miner: Miner, wake: Callable[[], None]) -> None:
        self.miner = miner
        self.wake = wake
        self.group: _Class = (miner.gpu_count, miner.price_per_hour, miner.models)


class Waiting:
    """Who waits, by what they can do. Lives on the event loop's thread."""

    def __init__(self, ready: Callable[[Miner], bool] = lambda miner: True) -> None:
        """`ready`: whether the miner could take a job at all now; one that could not is not woken."""
        self._ready = ready
        #: gpu type -> class -> tickets, the oldest first
        self._groups: dict[str, dict[_Class, dict[Ticket, None]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, miner: Miner, wake: Callable[[], None]) -> Ticket:
        """The miner waits; `wake` is called once, if there may be something for it."""
        ticket = Ticket(miner, wake)
        self._groups.setdefault(miner.gpu_type, {}).setdefault(ticket.group, {})[ticket] = None
        self._size += 1
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """It waits no more. One that was woken is gone already."""
        groups = self._groups.get(ticket.miner.gpu_type)
        group = None if groups is None else groups.get(ticket.group)
        if groups is None or group is None or ticket not in group:
            return
        del group[ticket]
        self._size -= 1
        if not group:
            del groups[ticket.group]
            if not groups:
                del self._groups[ticket.miner.gpu_type]

    def wake_for(self, job: Job, now: float) -> None:
        """The job can be taken: wake a few that it fits."""
        left = AT_ONCE
        for gpu_type in [job.gpu_type] if job.gpu_type != ANY else list(self._groups):
            for name, group in list(self._groups.get(gpu_type, {}).items()):
                if matching.misfit(next(iter(group)).miner, job) is not None:
                    continue
                for ticket in self._some(group, left, lambda miner: not matching.avoids(job, miner.seq, now)):
                    self._wake(ticket)
                    left -= 1
                groups = self._groups.get(gpu_type)
                if groups is not None and name in groups:
                    # The next job goes to others that are alike in fitting.
                    groups[name] = groups.pop(name)
                if not left:
                    return

    def recheck(self, has_offer: Callable[[Miner], bool]) -> None:
        """Wake a few of each class for whom there is something, and who were not woken for it."""
        for groups in list(self._groups.values()):
            for group in list(groups.values()):
                for ticket in self._some(group, AT_ONCE, has_offer):
                    self._wake(ticket)

    def wake_all(self) -> None:
        """Let everybody go."""
        for groups in list(self._groups.values()):
            for group in list(groups.values()):
                for ticket in list(group):
                    self._wake(ticket)

    def _wake(self, ticket: Ticket) -> None:
        self.remove(ticket)
        ticket.wake()

    def _some(self, group: dict[Ticket, None], number: int, wanted: Callable[[Miner], bool]) -> list[Ticket]:
        """Up to so many of the class that are wanted and ready."""
        found: list[Ticket] = []
        for ticket in islice(group, _LOOK_AT):
            if len(found) == number:
                break
            if self._ready(ticket.miner) and wanted(ticket.miner):
                found.append(ticket)
        return found
