"""Why a miner gets no job, and why a job finds no miner: the rules of `core.matching`, counted.

Neither looks at jobs or miners one by one. Queued jobs come as kinds, miners as groups of those that are alike; both are
given piece by piece, so that whoever counts a long queue can let others have their turn in between.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from pithead.core import matching
from pithead.core.board import Kind
from pithead.core.matching import ANY, Rule, Wanted
from pithead.core.miners import Admission, Miner
from pithead.core.money import price_for, units

#: Kinds and reasons that are told one by one; of the rest, how many there are.
MOST: Final = 50


# ---- Of a miner


class Stop(msgspec.Struct, frozen=True):
    """What keeps a miner from every job."""

    rule: str
    reason: str
    remedy: str


class Reason(msgspec.Struct, frozen=True):
    """What keeps so many jobs from a miner: a rule, and what these jobs have in common."""

    rule: str
    wants: str
    jobs: int
    kinds: int
    reason: str
    remedy: str


class KindStop(msgspec.Struct, frozen=True):
    """What keeps the jobs of one kind from a miner."""

    kind: Kind
    jobs: int
    rule: str
    reason: str
    remedy: str


class MinerWhy(msgspec.Struct, frozen=True):
    """Which queued jobs a miner gets, and why not the others."""

    #: What keeps it from every job, now.
    stops: list[Stop]
    #: Queued jobs that could be taken, how many of them fit its registration, and how many of those failed there last.
    queued: int
    fits: int
    avoided: int
    #: Jobs that wait after a failed attempt: nobody gets these.
    resting: int
    #: The most frequent first; and how many kinds of jobs it does not get that are in no list.
    reasons: list[Reason]
    kinds: list[KindStop]
    kinds_left_out: int


class _Reason:
    __slots__ = ("jobs", "kinds", "nearest")

    def __init__(self, nearest: Kind) -> None:
        self.jobs = self.kinds = 0
        self.nearest = nearest


class MinerTally:
    """Counts the kinds of the queue that a miner gets and does not get."""

    def __init__(self, miner: Miner) -> None:
        self._miner = miner
        self.queued = self.fits = 0
        self._reasons: dict[tuple[Rule, str], _Reason] = {}
        self._stopped: list[tuple[int, Kind, Rule]] = []

    def add(self, kind: Kind, jobs: int) -> bool:
        """So many queued jobs are of this kind; whether the miner gets them."""
        self.queued += jobs
        rule = matching.first_broken(self._miner, kind)
        if rule is None:
            self.fits += jobs
            return True
        named = rule, rule.wants(kind)
        reason = self._reasons.get(named)
        if reason is None:
            reason = self._reasons[named] = _Reason(kind)
        elif kind.rate > reason.nearest.rate:
            reason.nearest = kind
        reason.jobs += jobs
        reason.kinds += 1
        self._stopped.append((jobs, kind, rule))
        return False

    def result(self, stops: list[Stop], avoided: int, resting: int) -> MinerWhy:
        """What was counted, with what keeps the miner from every job and what keeps jobs from it for a while."""
        reasons = sorted(self._reasons.items(), key=lambda item: -item[1].jobs)
        self._stopped.sort(key=lambda stop: (-stop[0], stop[1]))
        return MinerWhy(
            stops=stops,
            queued=self.queued,
            fits=self.fits,
            avoided=avoided,
            resting=resting,
            reasons=[
                Reason(
                    rule.name, wants, of.jobs, of.kinds, rule.of_jobs(of.jobs, self._miner, of.nearest),
                    rule.remedy(of.nearest),
                )
                for (rule, wants), of in reasons[:MOST]
            ],
            kinds=[
                KindStop(kind, jobs, rule.name, rule.of_jobs(jobs, self._miner, kind), rule.remedy(kind))
                for jobs, kind, rule in self._stopped[:MOST]
            ],
            kinds_left_out=max(0, len(self._stopped) - MOST),
        )  # fmt: skip


def stops_of(miner: Miner, held: int) -> list[Stop]:
    """What keeps the miner from every job, where it holds so many."""
    return [
        Stop(one.name, one.to_miner(miner, held), one.remedy(miner, held))
        for one in matching.CONDITIONS
        if not one.passes(miner, held)
    ]


# ---- Of a job


class Group(msgspec.Struct, frozen=True):
    """Miners that are alike in all that matching looks at."""

    #: One of them, without a name; it takes one job at a time.
    like: Miner
    #: Whether each of them holds as many jobs as it takes.
    busy: bool
    miners: int
    #: How many jobs they take together, and how many more they could.
    slots: int
    free: int

    @property
    def held(self) -> int:
        """As many jobs as `like` holds."""
        return 1 if self.busy else 0


class Census:
    """All miners that are not retired, by group."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = tuple(groups)
        #: gpu type -> models -> (GPUs, price), those left out that another one beats in both.
        self._best: dict[str, dict[frozenset[str] | None, list[tuple[int, int]]]] = {}
        for group in self.groups:
            like = group.like
            if like.admission is not Admission.SUSPENDED:
                of_type = self._best.setdefault(like.gpu_type, {})
                _note(of_type.setdefault(like.models, []), like.gpu_count, like.price_per_hour)

    def serves(self, wanted: Wanted) -> bool:
        """Whether the registration of any miner that is not suspended fits, whatever it does now.

        The same as asking `matching.misfit` for each, and as quick for ten thousand miners as for ten.
        """
        return any(
            price <= wanted.rate for models, count, price in self._of_type(wanted) if _has(wanted, models, count)
        )

    def unserved(self, wanted: Wanted, estimated_ms: int) -> str | None:
        """What to say to a client whose job no registration fits; `None` where one does. As quick as `serves`."""
        if self.serves(wanted):
            return None
        kind = "" if wanted.gpu_type == ANY else f" with {wanted.gpu_type}"
        of_type = list(self._of_type(wanted))
        large = [one for one in of_type if one[1] >= wanted.gpu_count]
        fitting = [one for one in large if _has(wanted, one[0], one[1])]
        if not of_type:
            why = f"no miner{kind} is registered"
        elif not large:
            why = f"no registered miner{kind} has {wanted.gpu_count} GPUs"
        elif not fitting:
            why = f"no registered miner{kind} that is large enough lists the model {wanted.model}"
        else:
            least = min(price for _, _, price in fitting)
            price = price_for(least, wanted.gpu_count, estimated_ms)
            why = f"every registered miner that fits asks for more than it pays: the first would take it at {units(price):f}"
        return f"{why}; the job waits until one comes"

    def _of_type(self, wanted: Wanted) -> Iterator[tuple[frozenset[str] | None, int, int]]:
        types = self._best.values() if wanted.gpu_type == ANY else (self._best.get(wanted.gpu_type, {}),)
        for of_type in types:
            for models, best in of_type.items():
                for count, price in best:
                    yield models, count, price


def _has(wanted: Wanted, models: frozenset[str] | None, count: int) -> bool:
    return wanted.gpu_count <= count and (models is None or wanted.model in models)


def _note(best: list[tuple[int, int]], count: int, price: int) -> None:
    if any(c >= count and p <= price for c, p in best):
        return
    best[:] = [(c, p) for c, p in best if c > count or p < price]
    best.append((count, price))


class Excluded(msgspec.Struct, frozen=True):
    """What keeps a job from so many miners."""

    rule: str
    miners: int
    reason: str


class Raise(msgspec.Struct, frozen=True):
    """The price, in millionths, at which more miners would fit, and how many."""

    price: int
    miners: int


class JobWhy(msgspec.Struct, frozen=True):
    """Which miners could take a job, and why not the others."""

    #: Miners that are not retired, how many registrations fit, and how many of those could take the job now.
    registered: int
    fits: int
    ready: int
    #: In the order of the rules: each miner is counted at the first that it breaks.
    excluded: list[Excluded]
    #: Where a higher price would help: among active miners, or among all where it helps with no active one.
    more_at: Raise | None
    #: How many jobs those that fit and are active take together, and how many more they could now.
    slots: int
    free: int


class JobTally:
    """Counts the miners that could take a job, and those that could not."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._registered = self._fits = self._ready = self._slots = self._free = 0
        self._broken = dict.fromkeys(matching.RULES, 0)
        self._unmet: dict[str, tuple[str, int, Miner]] = {}
        self._dearer: dict[bool, dict[int, int]] = {True: {}, False: {}}
        #: The groups that fit and are active.
        self.working: list[Group] = []

    def add(self, group: Group) -> None:
        """There are these miners."""
        like = group.like
        self._registered += group.miners
        rule = matching.first_broken(like, self._wanted)
        condition = matching.first_unmet(like, group.held)
        active = condition is None or condition.name != "status"
        if rule is not None:
            self._broken[rule] += group.miners
            if rule.name == "price" and like.admission is not Admission.SUSPENDED:
                dearer = self._dearer[active]
                dearer[like.price_per_hour] = dearer.get(like.price_per_hour, 0) + group.miners
            return
        self._fits += group.miners
        if active:
            self.working.append(group)
            self._slots += group.slots
            self._free += group.free
        if condition is None:
            self._ready += group.miners
            return
        # Told of together where the words are the same: those that are offline, those that are busy.
        key = condition.of_miners(2, like)
        known = self._unmet.get(key, (condition.name, 0, like))[1]
        self._unmet[key] = (condition.name, known + group.miners, like)

    def result(self, gpu_count: int, estimated_ms: int, avoiding: bool) -> JobWhy:
        """What was counted, for a job of this size; `avoiding`: whether one that could take it failed at it last."""
        excluded = [
            Excluded(rule.name, count, rule.of_miners(count, self._wanted))
            for rule, count in self._broken.items()
            if count
        ]
        for condition in matching.CONDITIONS:
            unmet = [(count, like) for name, count, like in self._unmet.values() if name == condition.name]
            unmet.sort(key=lambda one: -one[0])
            excluded += [Excluded(condition.name, count, condition.of_miners(count, like)) for count, like in unmet]
        if avoiding:
            excluded.append(Excluded("avoids", 1, "1 failed at it last, and is not offered it for a while"))
        dearer = self._dearer[True] or self._dearer[False]
        more = None
        if dearer:
            least = min(dearer)
            more = Raise(price_for(least, gpu_count, estimated_ms), dearer[least])
        return JobWhy(
            registered=self._registered,
            fits=self._fits,
            ready=max(0, self._ready - avoiding),
            excluded=excluded,
            more_at=more,
            slots=self._slots,
            free=self._free,
        )
