"""A miner: what it offers, and the state it is in."""

from enum import StrEnum

import msgspec


class Admission(StrEnum):
    """What the operator (or the enrolment rule) decided."""

    PENDING = "pending"  #: Not admitted yet.
    ADMITTED = "admitted"  #: May work.
    SUSPENDED = "suspended"  #: May finish what it holds, takes nothing new.
    RETIRED = "retired"  #: Gone for good.


class Status(StrEnum):
    """The state that everybody sees, from admission, liveness and the owner's wish together."""

    PENDING = "pending"
    ACTIVE = "active"
    DRAINING = "draining"
    SUSPENDED = "suspended"
    OFFLINE = "offline"
    RETIRED = "retired"


class Miner(msgspec.Struct, frozen=True):
    """A miner as it stands. Times are seconds since the epoch, money is millionths."""

    seq: int  #: Its number, which is its account too.
    id: str
    name: str
    gpu_type: str  #: Lower case.
    gpu_count: int
    location: str
    price_per_hour: int  #: Per GPU.
    max_concurrent: int
    models: frozenset[str] | None  #: `None`: takes any.
    created_at: float
    admission: Admission = Admission.PENDING
    draining: bool = False
    online: bool = False
    last_seen_at: float | None = None
    offline_at: float = 0.0  #: When it counts as offline unless a heartbeat comes first.
    requests_per_minute: int | None = None
    job_operations_per_minute: int | None = None
    completed: int = 0
    failed: int = 0
    lapsed: int = 0
    completion_seconds: float = 0.0  #: Between accept and complete, over the completed jobs.
    gpu_seconds: float = 0.0  #: As reported for the completed jobs, each bounded by its wall time × GPUs.
    earnings: int = 0
    payout_destination: str = ""  #: Where its money is to go, in its own words.


def status(miner: Miner) -> Status:
    """The state that everybody sees."""
    if miner.admission is not Admission.ADMITTED:
        return Status(miner.admission.value)
    if not miner.online:
        return Status.OFFLINE
    return Status.DRAINING if miner.draining else Status.ACTIVE


class Stats(msgspec.Struct, frozen=True):
    """What a miner has done, as the contract counts it."""

    total_jobs: int
    success_rate: float
    average_completion_time: float
    earnings: int
    earnings_per_gpu_hour: float


def stats(miner: Miner) -> Stats:
    """The contract's figures. Ratios are for show and are no money: they are floats."""
    total = miner.completed + miner.failed + miner.lapsed
    return Stats(
        total_jobs=total,
        success_rate=miner.completed / total if total else 0.0,
        average_completion_time=miner.completion_seconds / miner.completed if miner.completed else 0.0,
        earnings=miner.earnings,
        earnings_per_gpu_hour=miner.earnings / 1_000_000 / (miner.gpu_seconds / 3600) if miner.gpu_seconds else 0.0,
    )


def billable_gpu_seconds(reported: float | None, gpu_count: int, wall: float) -> float:
    """GPU-seconds that count for a completed job: what was reported, at most what `gpu_count` GPUs could have run."""
    return min(reported, gpu_count * wall) if reported is not None else 0.0
