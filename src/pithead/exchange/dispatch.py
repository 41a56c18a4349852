"""Dispatch: accept, progress, upload, complete, fail, hand back. Every write under a lease is fenced by it."""

import msgspec

from pithead.core import leases, matching, money, outputs
from pithead.core.errors import (
    Conflict,
    Fault,
    HashMismatch,
    Invalid,
    JobFinished,
    JobNotAvailable,
    MinerNotActive,
    NotFound,
    ResultMissing,
)
from pithead.core.jobs import Attempt, Event, Job, State, apply, is_held
from pithead.core.leases import Standing
from pithead.core.miners import Miner, billable_gpu_seconds
from pithead.core.needs import Needs
from pithead.core.receipts import Receipt
from pithead.exchange.blobs import Stored
from pithead.exchange.events import JobChanged, LeaseLapsed
from pithead.exchange.ports import Settlement, Signed, Signer, Ticket, Tx
from pithead.exchange.rules import Rules


class Assigned(msgspec.Struct, frozen=True):
    """A job in the hands of one miner."""

    job: Job
    input: bytes
    client_id: str
    needs: Needs | None = None


class Outcome(msgspec.Struct, frozen=True):
    """A completed job: what it earned, and the receipt."""

    job: Job
    receipt: Receipt
    #: For the receipt's signature. Ask once the completion is durable: then those that became so together share one.
    ticket: Ticket


class Measured(msgspec.Struct, frozen=True):
    """What a miner reports with a completion. Nothing is paid by it."""

    gpu_time_seconds: float | None
    #: All of it, as JSON.
    body: bytes


def find(tx: Tx, job_id: str) -> Job:
    """The job. Raises `NotFound`."""
    job = tx.job_by_id(job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def save(tx: Tx, before: Job, after: Job) -> Job:
    """Save a job that moved on. Raises `Conflict` if somebody else moved it first."""
    if not tx.save_job(before, after):
        raise Conflict(f"job {before.id} has changed meanwhile; ask again")
    tx.emit(JobChanged(before, after))
    return after


def accept(
    tx: Tx, now: float, rules: Rules, miner_id: str, job_id: str, token: str, *, under: str | None = None
) -> Assigned:
    """Give the job to the miner under a lease with this token; the present one if it holds the job already.

    `under` is the token of a lease that the miner believes to be the job's last: it may hold the job anew by now.
    Raises `NotFound`, `MinerNotActive`, `JobNotAvailable`, `JobTaken`, `JobFinished`, `NotHolder`, `Fenced`.
    """
    miner, job = _both(tx, miner_id, job_id)
    if under is not None:
        leases.check_fence(job, tx.newest_attempt(job.seq, miner.seq, under))
    if is_held(job) and job.miner == miner.seq:
        return _assigned(tx, job)
    if job.state is State.QUEUED:
        unready = matching.unready(miner, tx.held_count(miner.seq))
        if unready:
            raise MinerNotActive(unready)
        obstacle = matching.misfit(miner, job) or matching.resting(job, now)
        if obstacle:
            raise JobNotAvailable(obstacle)
    taken, attempt = leases.take(job, miner.seq, token, now, rules.leases)
    save(tx, job, taken)
    tx.add_attempt(attempt)
    return _assigned(tx, taken)


def _assigned(tx: Tx, job: Job) -> Assigned:
    owner = tx.client_by_seq(job.client)
    work, needs = tx.job_work(job.seq)
    return Assigned(job, work, owner.id if owner is not None else "", needs)


def complete(
    tx: Tx,
    now: float,
    rules: Rules,
    signer: Signer,
    *,
    miner_id: str,
    job_id: str,
    token: str | None,
    result_hash: str,
    measured: Measured,
) -> Outcome:
    """Take the result and pay for it, once.

    Raises `NotFound`, `NotHolder`, `Fenced`, `JobTaken`, `JobFinished`, `HashMismatch` (a second time, with another
    hash), `ResultMissing`, `Invalid` (the hash is not that of the bytes that arrived).
    """
    miner, job, mine, standing = _under_lease(tx, miner_id, job_id, token)
    if standing is Standing.SETTLED:
        return _repeat(tx, signer, miner, job, mine, result_hash)
    if mine.upload_digest is None and job.require_result:
        raise ResultMissing(f"job {job.id} needs the bytes of its result: PUT them to its result first")
    if mine.upload_digest is not None and result_hash.lower() != f"sha256:{mine.upload_digest}":
        raise Invalid(Fault("result_hash", f"the bytes that arrived have sha256:{mine.upload_digest}"))
    done = save(tx, job, leases.completed(job, mine, result_hash, mine.upload_size, now))
    transfers = money.pay(job.client, miner.seq, job.seq, job.price, rules.fee_basis_points)
    tx.post(now, transfers)
    earned = sum(t.amount for t in transfers if t.credit == miner.seq)
    wall = max(0.0, now - mine.accepted_at)
    if mine.outcome == "lapsed":
        # It was counted as lapsed; it is a completion after all, and one attempt counts once.
        tx.count_ended(miner.seq, "lapsed", undo=True)
    tx.count_ended(
        miner.seq, "completed", wall=wall, earned=earned,
        gpu_seconds=billable_gpu_seconds(measured.gpu_time_seconds, job.gpu_count, wall),
    )  # fmt: skip
    receipt = _receipt(done, miner, mine, earned)
    settlement = Settlement(receipt.receipt_id, signer.key_id, "", earned, measured.body)
    tx.settle(job.seq, mine.number, now, settlement)
    return Outcome(done, receipt, signer.enlist(receipt))


def fail(
    tx: Tx, now: float, rules: Rules, *, miner_id: str, job_id: str, token: str | None, kind: str, reason: str
) -> Job:
    """The attempt failed: the job is queued again, or fails for good and the client's money goes back.

    Repeating it changes nothing. Raises `NotFound`, `NotHolder`, `Fenced`, `JobTaken`, `JobFinished`.
    """
    miner, job, mine, standing = _under_lease(tx, miner_id, job_id, token)
    if standing is Standing.SETTLED:
        if mine.outcome != "failed":
            raise JobFinished(f"your attempt at job {job.id} was {mine.outcome}")
        return job
    if standing is Standing.LATE:
        return job  # The lapse was counted already.
    # Whatever a model printed when it died: there are databases that hold no NUL.
    reason = reason.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    tx.end_attempt(job.seq, mine.number, now, "failed", f"{kind}: {reason}")
    tx.count_ended(miner.seq, "failed")
    return after_failure(tx, now, rules, job, kind, reason)


def release(tx: Tx, now: float, rules: Rules, *, miner_id: str, job_id: str, token: str | None) -> Job:
    """The miner hands the job back undone; no failure is counted. Repeating it changes nothing.

    Raises `NotFound`, `NotHolder`, `Fenced`, `JobTaken`, `JobFinished`.
    """
    _, job, mine, standing = _under_lease(tx, miner_id, job_id, token)
    if standing is Standing.SETTLED:
        if mine.outcome != "released":
            raise JobFinished(f"your attempt at job {job.id} was {mine.outcome}")
        return job
    if standing is Standing.LATE:
        return job
    return take_back(tx, now, rules, job)


def report_progress(
    tx: Tx, *, miner_id: str, job_id: str, token: str | None, fraction: float | None, message: str
) -> Job:
    """How far the work is. Raises `NotFound`, `NotHolder`, `Fenced`, `JobTaken`, `JobFinished`."""
    return _progress(tx, miner_id, job_id, token, fraction, message)[0]


def report_output(
    tx: Tx,
    now: float,
    *,
    miner_id: str,
    job_id: str,
    token: str | None,
    fraction: float | None,
    message: str,
    text: str,
    offset: int,
) -> tuple[Job, int]:
    """Likewise, and what the work brought forth from the character `offset` on; the job, and how much of that is there now.

    Telling a piece again changes nothing, and one before which something is missing is not taken. Raises likewise.
    """
    job, mine = _progress(tx, miner_id, job_id, token, fraction, message)
    size = tx.output_size(job.seq, mine.number)
    new = outputs.fresh(size, offset, text)
    if new:
        tx.add_output(job.seq, mine.number, size, new, now)
    return job, size + len(new)


def _progress(
    tx: Tx, miner_id: str, job_id: str, token: str | None, fraction: float | None, message: str
) -> tuple[Job, Attempt]:
    _, job, mine, standing = _under_lease(tx, miner_id, job_id, token)
    if standing is not Standing.HOLDS:
        raise JobFinished(f"your attempt at job {job.id} was {mine.outcome}")
    state = apply(job, Event.START)
    after = msgspec.structs.replace(job, state=state, progress=fraction, progress_message=message)
    return save(tx, job, after), mine


def begin_upload(tx: Tx, *, miner_id: str, job_id: str, token: str | None) -> tuple[Job, Attempt]:
    """Whether the miner may send a result now, before its bytes are taken in. Raises as `complete` does."""
    _, job, mine, standing = _under_lease(tx, miner_id, job_id, token)
    if standing is Standing.SETTLED:
        raise JobFinished(f"your attempt at job {job.id} was {mine.outcome}")
    if standing is Standing.HOLDS:
        state = apply(job, Event.UPLOAD)
        if state is not job.state:
            job = save(tx, job, msgspec.structs.replace(job, state=state))
    return job, mine


def end_upload(tx: Tx, *, miner_id: str, job_id: str, token: str | None, stored: Stored) -> list[str]:
    """Record the bytes that arrived; the names of the blobs that they replace. Raises as `begin_upload` does.

    The lease is looked at again: it may have been given to another miner while the bytes came. What is not whole
    replaces an earlier part and leaves an earlier whole upload as it is.
    """
    job, mine = begin_upload(tx, miner_id=miner_id, job_id=job_id, token=token)
    if stored.whole:
        tx.set_upload(job.seq, mine.number, stored.digest, stored.size, stored.blob)
    else:
        tx.set_part(job.seq, mine.number, stored.size, stored.blob)
    replaced = (mine.blob if stored.whole else None, mine.part_blob)
    return [name for name in replaced if name is not None]


def upload_state(tx: Tx, *, miner_id: str, job_id: str, token: str | None) -> Attempt:
    """What has arrived of the attempt's result. Raises as `begin_upload` does, but for an attempt that is settled."""
    return _under_lease(tx, miner_id, job_id, token)[2]


def after_failure(tx: Tx, now: float, rules: Rules, job: Job, kind: str, reason: str) -> Job:
    """Queue the job again, or let it fail for good and give the money back."""
    after = save(tx, job, leases.after_failure(job, kind, reason, now, rules.leases))
    if after.state is State.FAILED:
        tx.post(now, money.refund(job.client, job.seq, job.price))
    return after


def lapse(tx: Tx, now: float, rules: Rules, job: Job) -> Job:
    """The lease ran out: the attempt is counted, the holder is told at its next heartbeat."""
    assert job.miner is not None
    tx.end_attempt(job.seq, job.attempts, now, "lapsed")
    tx.count_ended(job.miner, "lapsed")
    tx.add_notice(job.miner, job.id, "lost", now)
    after = after_failure(tx, now, rules, job, "lapsed", "the miner was not heard of before its lease ran out")
    tx.emit(LeaseLapsed(job.seq))
    return after


def take_back(tx: Tx, now: float, rules: Rules, job: Job) -> Job:
    """Put a held job back into the queue without counting a failure."""
    tx.end_attempt(job.seq, job.attempts, now, "released")
    return save(tx, job, leases.released(job, now, rules.leases))


def _both(tx: Tx, miner_id: str, job_id: str) -> tuple[Miner, Job]:
    miner = tx.miner_by_id(miner_id)
    if miner is None:
        raise NotFound(f"there is no miner {miner_id}")
    return miner, find(tx, job_id)


def _under_lease(tx: Tx, miner_id: str, job_id: str, token: str | None) -> tuple[Miner, Job, Attempt, Standing]:
    miner, job = _both(tx, miner_id, job_id)
    mine = tx.newest_attempt(job.seq, miner.seq, token)
    standing = leases.standing(job, mine, token)
    assert mine is not None
    return miner, job, mine, standing


def _repeat(tx: Tx, signer: Signer, miner: Miner, job: Job, mine: Attempt, result_hash: str) -> Outcome:
    """The answer to a completion that was taken before: the same receipt. Its signature may be another one, if that was long ago."""
    settlement = tx.settlement(job.seq, mine.number)
    if settlement is None:
        raise JobFinished(f"your attempt at job {job.id} was {mine.outcome}")
    if result_hash.lower() != (job.result_hash or "").lower():
        raise HashMismatch(f"job {job.id} was completed with {job.result_hash}")
    receipt = _receipt(job, miner, mine, settlement.earned, settlement.receipt_id)
    # An earlier version stored signatures.
    stored = Signed(settlement.key_id, settlement.signature) if settlement.signature else None
    return Outcome(job, receipt, stored or signer.again(receipt))


def _receipt(job: Job, miner: Miner, mine: Attempt, earned: int, receipt_id: str | None = None) -> Receipt:
    return Receipt(
        # One job is paid once, so its own number names its receipt.
        receipt_id=receipt_id or "receipt_" + job.id.removeprefix("job_"),
        job_id=job.id,
        miner_id=miner.id,
        attempt=mine.number,
        result_hash=job.result_hash or "",
        amount=earned,
        completed_at=job.finished_at or 0.0,
    )
