"""Leases: taking, renewal, lapse, retry and back-off, and who may act on a job."""

from enum import Enum
from typing import Final

import msgspec

from pithead.core.errors import Conflict, Fenced, JobFinished, JobTaken, NotHolder
from pithead.core.jobs import HELD, Attempt, Event, Job, State, apply, is_finished, is_held

#: Failures after which no other miner need try: it would fail in the same way.
FINAL_FAILURES: Final = frozenset({"bad_input", "rejected"})


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets of all this. Seconds."""

    lease_ttl: float = 120.0
    #: Back-off before the attempt that follows the second failure; doubles with each further one. The first retry is at once.
    retry_base: float = 5.0
    retry_cap: float = 300.0
    #: How long a job is not offered again to the miner where it failed.
    avoid_for: float = 60.0


class Standing(Enum):
    """What a miner is to a job."""

    HOLDS = "holds"  #: Its lease is the present one.
    LATE = "late"  #: Its lease lapsed and nobody has the job: it may still deliver.
    SETTLED = "settled"  #: Its attempt has ended by its own word: a repeat is answered as the first time.


def lease_end(now: float, ttl: float, limit: float) -> float:
    """When a lease given or renewed now lapses."""
    return min(now + ttl, limit)


def renewed(job: Job, until: float) -> Job:
    """A held job whose lease is to run to `until`, or to its limit if that is sooner; never shorter than it does."""
    if job.lease_expires_at is None or job.lease_limit_at is None or job.lease_expires_at >= until:
        return job
    return msgspec.structs.replace(job, lease_expires_at=min(until, job.lease_limit_at))


def take(job: Job, miner: int, token: str, now: float, policy: Policy) -> tuple[Job, Attempt]:
    """Give the job to `miner` under a new lease. Raises `JobTaken`, `JobFinished`."""
    if is_held(job):
        raise JobTaken(f"job {job.id} is held by another miner")
    if is_finished(job):
        raise JobFinished(f"job {job.id} is {job.state}")
    limit = job.deadline if job.attempt_timeout is None else min(job.deadline, now + job.attempt_timeout)
    taken = msgspec.structs.replace(
        job,
        state=apply(job, Event.ACCEPT),
        attempts=job.attempts + 1,
        miner=miner,
        lease_token=token,
        accepted_at=now,
        lease_expires_at=lease_end(now, policy.lease_ttl, limit),
        lease_limit_at=limit,
        progress=None,
        progress_message="",
    )
    return taken, Attempt(job.seq, taken.attempts, miner, token, now)


def check_fence(job: Job, named: Attempt | None) -> None:
    """Whether the attempt that a lease token names is the job's newest. Raises `NotHolder` where it names none, `Fenced`."""
    if named is None:
        raise NotHolder(f"job {job.id} was not given to you under this lease")
    if named.number < job.attempts:
        raise Fenced(f"job {job.id} has been given out again since; stop working on it")


def standing(job: Job, mine: Attempt | None, token: str | None) -> Standing:
    """What the miner of the attempt `mine` may do with the job.

    `mine` is the attempt that `token` names, or without a token the miner's newest one on this job.
    Raises `NotHolder`, `Fenced`, `JobTaken`, `JobFinished`.
    """
    if mine is None:
        if is_finished(job):
            raise JobFinished(f"job {job.id} is {job.state}")
        raise NotHolder(f"job {job.id} is not yours: accept it first")
    if mine.outcome in ("completed", "failed", "released"):
        return Standing.SETTLED
    if token is not None:
        check_fence(job, mine)
    if job.state in HELD:
        if mine.number == job.attempts:
            return Standing.HOLDS
        raise JobTaken(f"your lease on job {job.id} lapsed and another miner has it; stop working on it")
    if job.state is State.QUEUED and mine.outcome == "lapsed":
        return Standing.LATE
    raise JobFinished(f"job {job.id} is {job.state}; stop working on it")


def back_off(failures: int, policy: Policy) -> float:
    """Seconds to wait after this many failures: 0 after the first, then doubling up to the cap."""
    if failures < 2:
        return 0.0
    return float(min(policy.retry_cap, policy.retry_base * 2 ** min(failures - 2, 30)))


def end_attempt(job: Job, event: Event, now: float) -> Job:
    """The job once nobody holds it any more: back in the queue, or finished. Its lease is gone."""
    state = apply(job, event)
    finished = state is not State.QUEUED
    return msgspec.structs.replace(
        job,
        state=state,
        miner=None,
        lease_token=None,
        lease_expires_at=None,
        lease_limit_at=None,
        progress=None,
        progress_message="",
        finished_at=now if finished else None,
    )


def after_failure(job: Job, kind: str, reason: str, now: float, policy: Policy) -> Job:
    """The job after its attempt failed or lapsed: queued again with back-off, or failed for good."""
    if not is_held(job):
        raise Conflict(f"job {job.id} is {job.state}: there is no attempt to fail")
    failures = job.failures + 1
    final = failures >= job.max_attempts or kind in FINAL_FAILURES
    ended = end_attempt(job, Event.FAIL if final else Event.REQUEUE, now)
    if final:
        return msgspec.structs.replace(ended, failures=failures, failure_kind=kind, failure_reason=reason)
    return msgspec.structs.replace(
        ended,
        failures=failures,
        not_before=now + back_off(failures, policy),
        avoid_miner=job.miner,
        avoid_until=now + policy.avoid_for,
    )


def released(job: Job, now: float, policy: Policy) -> Job:
    """The job after its holder handed it back: queued again, no failure counted, and not offered to it for a while."""
    ended = end_attempt(job, Event.REQUEUE, now)
    return msgspec.structs.replace(ended, avoid_miner=job.miner, avoid_until=now + policy.avoid_for)


def completed(job: Job, attempt: Attempt, result_hash: str, size: int | None, now: float) -> Job:
    """The job after `attempt` delivered."""
    return msgspec.structs.replace(
        job,
        state=apply(job, Event.COMPLETE),
        miner=attempt.miner,
        lease_token=None,
        lease_expires_at=None,
        lease_limit_at=None,
        accepted_at=attempt.accepted_at,
        finished_at=now,
        completed_attempt=attempt.number,
        result_hash=result_hash,
        result_size=size,
        progress=None,
        progress_message="",
    )
