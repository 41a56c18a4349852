"""Which job fits which miner – and, from the same rules, why one does not."""

from collections.abc import Callable
from typing import Final, NamedTuple

from pithead.core.jobs import Job
from pithead.core.miners import Miner, Status, status
from pithead.core.money import units

#: The gpu type of a job that any machine may run.
ANY: Final = "any"


class Rule(NamedTuple):
    """One rule of matching: its name, whether it lets the pair pass, and the words for when it does not."""

    name: str
    passes: Callable[[Miner, Job], bool]
    obstacle: Callable[[Miner, Job], str]


#: What must hold between a miner's registration and a job, in the order in which an obstacle is named.
RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "gpu_type",
        lambda m, j: j.gpu_type in (ANY, m.gpu_type),
        lambda m, j: f"the job wants {j.gpu_type}, the miner has {m.gpu_type}",
    ),
    Rule(
        "gpu_count",
        lambda m, j: j.gpu_count <= m.gpu_count,
        lambda m, j: f"the job wants {j.gpu_count} GPUs, the miner has {m.gpu_count}",
    ),
    Rule(
        "model",
        lambda m, j: m.models is None or j.model in m.models,
        lambda m, j: f"the miner does not list the model {j.model}",
    ),
    Rule(
        "price",
        lambda m, j: m.price_per_hour <= j.rate,
        lambda m, j: f"the job pays up to {units(j.rate)} per GPU and hour, the miner asks {units(m.price_per_hour)}",
    ),
)


def misfit(miner: Miner, job: Job) -> str | None:
    """The first rule that keeps the job from this miner's registration, in words; `None` if it fits."""
    for rule in RULES:
        if not rule.passes(miner, job):
            return rule.obstacle(miner, job)
    return None


def unready(miner: Miner, held: int) -> str | None:
    """Why the miner can take no job at all now; `None` if it can. `held`: how many jobs it holds."""
    state = status(miner)
    if state is not Status.ACTIVE:
        return f"the miner is {state}; only an active miner takes jobs"
    if held >= miner.max_concurrent:
        return f"the miner holds {held} jobs, and takes {miner.max_concurrent} at a time"
    return None


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
