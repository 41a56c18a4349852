"""Why a miner gets no job, and why a job finds no miner."""

from pithead.wire.base import Amount, Answer, Number
from pithead.wire.miners import JobStatus, MinerStatus


class MinerObstacle(Answer):
    """What keeps a miner from every job."""

    #: `status`, `max_concurrent` or `job_operations`.
    rule: str
    reason: str
    #: What would change it.
    remedy: str


class JobsObstacle(Answer):
    """What keeps so many queued jobs from a miner: the first rule that they break."""

    #: `gpu_type`, `gpu_count`, `model` or `price`, in this order.
    rule: str
    #: What these jobs want, where it is one thing: the GPU type, the number of GPUs, the model.
    wants: str
    jobs: int
    #: How many kinds of jobs they are.
    kinds: int
    reason: str
    #: What would change it for at least one kind of them.
    remedy: str


class KindObstacle(Answer):
    """What keeps the queued jobs of one kind from a miner."""

    gpu_type: str
    model: str
    gpu_count: int
    #: What these jobs pay at the most, per GPU and hour.
    pays: Amount
    jobs: int
    rule: str
    reason: str
    remedy: str


class MinerWhy(Answer):
    """Which queued jobs a miner gets, and why not the others."""

    miner_id: str
    status: MinerStatus
    jobs_assigned: int
    #: Whether it would be offered a job now.
    offered: bool
    #: What keeps it from every job now; empty where nothing does.
    stops: list[MinerObstacle]
    #: Queued jobs that could be taken by somebody,
    queued: int
    #: how many of them fit this miner's registration,
    fits: int
    #: and how many of those are not offered to it for now: it failed at them last.
    avoided: int
    #: Jobs that wait after a failed attempt, and that nobody can take yet.
    resting: int
    #: The jobs that it does not get, by reason; the most frequent 50, the most frequent first.
    reasons: list[JobsObstacle]
    #: The same by kind of job; the 50 kinds with the most jobs.
    kinds: list[KindObstacle]
    #: How many kinds of jobs that it does not get are not in the list.
    kinds_left_out: int


class MinersExcluded(Answer):
    """What keeps a job from so many miners."""

    #: `gpu_type`, `gpu_count`, `model`, `price`, `status`, `max_concurrent` or `avoids`, in this order.
    rule: str
    miners: int
    reason: str


class JobWhy(Answer):
    """Which miners could take a job, and why not the others. There are numbers of miners in it, and no names."""

    job_id: str
    status: JobStatus
    #: What keeps everybody from it: it is not queued any more, or waits after a failed attempt.
    reason: str | None
    #: Miners that are not retired,
    registered: int
    #: how many registrations of them fit,
    fits: int
    #: and how many of those could take it now.
    ready: int
    #: Each of the others is counted at the first rule that stops it.
    excluded: list[MinersExcluded]
    #: The price at which more miners would fit; `null` where none would at any. Of active ones, if there are such.
    price_for_more: Amount | None
    #: How many more that would be.
    more_miners: int
    #: Queued jobs that stand before it, and that the same miners could take.
    ahead: int
    #: Seconds until it should begin, by the estimates of the jobs before it; `null` where no active miner fits.
    expected_start: Number | None
