"""A job's states and what moves it from one to another.

All that affects a transition is in this file: TRANSITIONS says what is legal, `apply` is the only way to change a state,
the functions under it say what else changes with it. The diagram in docs/architecture.md is drawn from TRANSITIONS, and
the property tests read it.
"""

from enum import StrEnum
from typing import Final

import msgspec

from pithead.core.errors import Conflict


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"  #: Waits for a miner.
    ASSIGNED = "assigned"  #: A miner holds it under a lease.
    RUNNING = "running"  #: The holder reported progress.
    UPLOADING = "uploading"  #: The holder began to send the result.
    COMPLETED = "completed"  #: Delivered and paid.
    FAILED = "failed"  #: No attempt is left, or none would help; the money went back.
    CANCELLED = "cancelled"  #: Withdrawn; the money went back.
    EXPIRED = "expired"  #: Not completed in time; the money went back.


class Event(StrEnum):
    """What happens to a job."""

    ACCEPT = "accept"  #: A miner takes it.
    START = "start"  #: The holder reports progress.
    UPLOAD = "upload"  #: The holder begins to send the result.
    COMPLETE = "complete"  #: The holder, or one whose lease lapsed while nobody took over, delivers.
    REQUEUE = "requeue"  #: The attempt failed, lapsed or was handed back, and another may be made.
    FAIL = "fail"  #: The attempt failed or lapsed, and no other is made.
    CANCEL = "cancel"  #: The client, or an operator, withdraws it.
    EXPIRE = "expire"  #: Its time is up.


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.QUEUED: {
        Event.ACCEPT: State.ASSIGNED,
        Event.COMPLETE: State.COMPLETED,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.ASSIGNED: {
        Event.START: State.RUNNING,
        Event.UPLOAD: State.UPLOADING,
        Event.COMPLETE: State.COMPLETED,
        Event.REQUEUE: State.QUEUED,
        Event.FAIL: State.FAILED,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.RUNNING: {
        Event.START: State.RUNNING,
        Event.UPLOAD: State.UPLOADING,
        Event.COMPLETE: State.COMPLETED,
        Event.REQUEUE: State.QUEUED,
        Event.FAIL: State.FAILED,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.UPLOADING: {
        Event.START: State.UPLOADING,
        Event.UPLOAD: State.UPLOADING,
        Event.COMPLETE: State.COMPLETED,
        Event.REQUEUE: State.QUEUED,
        Event.FAIL: State.FAILED,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.COMPLETED: {},
    State.FAILED: {},
    State.CANCELLED: {},
    State.EXPIRED: {},
}

#: The states in which a miner holds the job under a lease.
HELD: Final = frozenset({State.ASSIGNED, State.RUNNING, State.UPLOADING})
#: The states that nothing leaves.
FINISHED: Final = frozenset(state for state, out in TRANSITIONS.items() if not out)


class Job(msgspec.Struct, frozen=True, gc=False):
    """A job as it stands. Times are seconds since the epoch, money is millionths.

    It holds nothing that could refer back to it, so the garbage collector need not look at the many there are.
    """

    seq: int  #: Its number: the order of submission.
    id: str
    client: int  #: The client's number, which is its account too.
    model: str
    gpu_type: str  #: Lower case, or `any`.
    gpu_count: int
    estimated_ms: int
    price: int
    rate: int  #: `money.affordable_rate` of it: the one number a miner's price is compared with.
    priority: int
    timeout: float
    attempt_timeout: float | None
    max_attempts: int
    require_result: bool
    created_at: float
    deadline: float  #: When it expires.
    state: State = State.QUEUED
    attempts: int = 0  #: Leases given. The newest one's number; the fence.
    failures: int = 0  #: Attempts that failed or lapsed: what `max_attempts` bounds.
    not_before: float = 0.0  #: Back-off: nobody may take it earlier.
    avoid_miner: int | None = None  #: Not offered to this miner, where it failed last,
    avoid_until: float = 0.0  #: until then.
    miner: int | None = None  #: The holder's number; when completed, who did it.
    lease_token: str | None = None
    accepted_at: float | None = None
    lease_expires_at: float | None = None
    lease_limit_at: float | None = None  #: No renewal goes beyond.
    progress: float | None = None
    progress_message: str = ""
    finished_at: float | None = None
    completed_attempt: int | None = None
    result_hash: str | None = None
    result_size: int | None = None
    failure_kind: str | None = None
    failure_reason: str | None = None
    result_expired_at: float | None = None  #: When the bytes of its result were given up.


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One lease of one job, and how it ended."""

    job: int
    number: int
    miner: int
    token: str
    accepted_at: float
    ended_at: float | None = None
    #: `completed`, `failed`, `lapsed`, `released`, `cancelled`, `expired`; `None` while it is held.
    outcome: str | None = None
    #: What the coordinator holds of its result: the digest in hex, the length in bytes, and the blob's name.
    upload_digest: str | None = None
    upload_size: int | None = None
    blob: str | None = None
    #: What came of an upload that broke off, and can be gone on with: the blob's name, and its length in bytes.
    part_blob: str | None = None
    part_size: int | None = None


def apply(job: Job, event: Event) -> State:
    """The state after `event`. Raises `Conflict` where the table has no such transition."""
    try:
        return TRANSITIONS[job.state][event]
    except KeyError:
        raise Conflict(f"job {job.id} is {job.state}: it cannot {event} now") from None


def is_held(job: Job) -> bool:
    """Whether a miner holds it."""
    return job.state in HELD


def is_finished(job: Job) -> bool:
    """Whether its state is final."""
    return job.state in FINISHED
