"""Which job fits which miner – and, from the same rules, why one does not, and what would change that.

The rules stand in tables. Dispatch asks them for a yes or no (`misfit`, `unready`, `resting`); `core.why` asks them for
the rest. So the two cannot disagree.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

from pithead.core.jobs import Job
from pithead.core.miners import Miner, Status, status
from pithead.core.money import units

#: The gpu type of a job that any machine may run.
ANY: Final = "any"


class Wanted(Protocol):
    """What a job, or a kind of jobs, asks for."""

    @property
    def gpu_type(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def gpu_count(self) -> int: ...
    @property
    def rate(self) -> int:
        """What it pays at the most per GPU and hour, in millionths."""


class Rule(NamedTuple):
    """One rule of matching: whether it lets a pair pass, the words for when it does not, and what would change that."""

    name: str
    passes: Callable[[Miner, Wanted], bool]
    obstacle: Callable[[Miner, Wanted], str]
    #: What the jobs that it stops have in common: they are told of together.
    wants: Callable[[Wanted], str]
    #: To the miner: what so many jobs want.
    of_jobs: Callable[[int, Miner, Wanted], str]
    #: To the client: what so many miners lack.
    of_miners: Callable[[int, Wanted], str]
    #: To the miner: what would change it,
    remedy: Callable[[Wanted], str]
    #: and the miner once it has done so.
    mended: Callable[[Miner, Wanted], Miner]


def many(count: int, one: str, more: str) -> str:
    """So many, in words: `1 job wants`, `3 jobs want`."""
    return f"{count} {one if count == 1 else more}"


#: What must hold between a miner's registration and a job, in the order in which an obstacle is named.
RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "gpu_type",
        passes=lambda m, w: w.gpu_type in (ANY, m.gpu_type),
        obstacle=lambda m, w: f"the job wants {w.gpu_type}, the miner has {m.gpu_type}",
        wants=lambda w: w.gpu_type,
        of_jobs=lambda n, m, w: f"{many(n, 'job wants', 'jobs want')} {w.gpu_type}, and you have {m.gpu_type}",
        of_miners=lambda n, w: f"{many(n, 'has', 'have')} another type of GPU than {w.gpu_type}",
        remedy=lambda w: f"offer a machine with {w.gpu_type}",
        mended=lambda m, w: msgspec.structs.replace(m, gpu_type=w.gpu_type),
    ),
    Rule(
        "gpu_count",
        passes=lambda m, w: w.gpu_count <= m.gpu_count,
        obstacle=lambda m, w: f"the job wants {w.gpu_count} GPUs, the miner has {m.gpu_count}",
        wants=lambda w: str(w.gpu_count),
        of_jobs=lambda n, m, w: f"{many(n, 'job wants', 'jobs want')} {w.gpu_count} GPUs, and you have {m.gpu_count}",
        of_miners=lambda n, w: f"{many(n, 'has', 'have')} fewer than {w.gpu_count} GPUs",
        remedy=lambda w: f"offer a machine with {w.gpu_count} GPUs",
        mended=lambda m, w: msgspec.structs.replace(m, gpu_count=w.gpu_count),
    ),
    Rule(
        "model",
        passes=lambda m, w: m.models is None or w.model in m.models,
        obstacle=lambda m, w: f"the miner does not list the model {w.model}",
        wants=lambda w: w.model,
        of_jobs=lambda n, m, w: f"{many(n, 'job wants', 'jobs want')} the model {w.model}, which you do not list",
        of_miners=lambda n, w: f"{many(n, 'does', 'do')} not list the model {w.model}",
        remedy=lambda w: f"list the model {w.model} too",
        mended=lambda m, w: msgspec.structs.replace(m, models=(m.models or frozenset()) | {w.model}),
    ),
    Rule(
        "price",
        passes=lambda m, w: m.price_per_hour <= w.rate,
        obstacle=lambda m, w: (
            f"the job pays up to {units(w.rate)} per GPU and hour, the miner asks {units(m.price_per_hour)}"
        ),
        wants=lambda w: "",
        of_jobs=lambda n, m, w: (
            f"{many(n, 'job pays', 'jobs pay')} less than your price: "
            f"{units(w.rate):f} < {units(m.price_per_hour):f} per GPU and hour"
        ),
        of_miners=lambda n, w: (
            f"{many(n, 'asks', 'ask')} more than the {units(w.rate):f} per GPU and hour that it pays"
        ),
        remedy=lambda w: f"ask for {units(w.rate):f} or less",
        mended=lambda m, w: msgspec.structs.replace(m, price_per_hour=w.rate),
    ),
)


class Condition(NamedTuple):
    """What must hold of a miner that holds so many jobs before it can take any at all."""

    name: str
    passes: Callable[[Miner, int], bool]
    obstacle: Callable[[Miner, int], str]
    #: To the miner: what is the matter, and what would change it.
    to_miner: Callable[[Miner, int], str]
    remedy: Callable[[Miner, int], str]
    #: To the client: so many miners, of which this is one.
    of_miners: Callable[[int, Miner], str]


_REMEDIES: Final = {
    Status.PENDING: "send a heartbeat, as 'pithead miner run' does; where that does not admit you, the operator has to approve you",
    Status.SUSPENDED: "ask the operator, who can approve you again",
    Status.RETIRED: "register anew",
    Status.OFFLINE: "send heartbeats: start the agent, or look why it cannot reach the coordinator",
    Status.DRAINING: "end the draining",
}

#: In the order in which an obstacle is named.
CONDITIONS: Final[tuple[Condition, ...]] = (
    Condition(
        "status",
        passes=lambda m, held: status(m) is Status.ACTIVE,
        obstacle=lambda m, held: f"the miner is {status(m)}; only an active miner takes jobs",
        to_miner=lambda m, held: f"you are {status(m)}, and only an active miner takes jobs",
        remedy=lambda m, held: _REMEDIES[status(m)],
        of_miners=lambda n, m: f"{many(n, 'is', 'are')} {status(m)}",
    ),
    Condition(
        "max_concurrent",
        passes=lambda m, held: held < m.max_concurrent,
        obstacle=lambda m, held: f"the miner holds {held} jobs, and takes {m.max_concurrent} at a time",
        to_miner=lambda m, held: f"you are at your {many(m.max_concurrent, 'job', 'jobs')}",
        remedy=lambda m, held: f"finish one, or take {held + 1} at a time",
        of_miners=lambda n, m: f"{many(n, 'has', 'have')} as many jobs as they take at a time",
    ),
)


def first_broken(miner: Miner, wanted: Wanted) -> Rule | None:
    """The first rule that keeps the job from this miner's registration; `None` if it fits."""
    for rule in RULES:
        if not rule.passes(miner, wanted):
            return rule
    return None


def first_unmet(miner: Miner, held: int) -> Condition | None:
    """The first condition that keeps the miner from taking any job; `None` if it can. `held`: how many it holds."""
    for condition in CONDITIONS:
        if not condition.passes(miner, held):
            return condition
    return None


def misfit(miner: Miner, wanted: Wanted) -> str | None:
    """The first rule that keeps the job from this miner's registration, in words; `None` if it fits."""
    rule = first_broken(miner, wanted)
    return None if rule is None else rule.obstacle(miner, wanted)


def unready(miner: Miner, held: int) -> str | None:
    """Why the miner can take no job at all now; `None` if it can. `held`: how many jobs it holds."""
    condition = first_unmet(miner, held)
    return None if condition is None else condition.obstacle(miner, held)


def resting(job: Job, now: float) -> str | None:
    """Why nobody can take the queued job yet; `None` if it can be taken."""
    if job.not_before > now:
        return f"the job waits {job.not_before - now:.0f} s more after a failed attempt"
    if job.deadline <= now:
        return "the job's time is up"
    return None


def avoids(job: Job, miner: int, now: float) -> bool:
    """Whether the job is not offered to this miner for now, having failed there last."""
    return job.avoid_miner == miner and job.avoid_until > now
