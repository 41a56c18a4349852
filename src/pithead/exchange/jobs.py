"""The client's side: submit, cancel."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pithead.core import estimates, money
from pithead.core.errors import Fault, FileUnknown, Invalid, JobArchived, JobFinished, NotFound, PaymentRequired
from pithead.core.jobs import Event, Job, State, is_finished, is_held
from pithead.core.leases import end_attempt
from pithead.core.money import affordable_rate, micros, units
from pithead.core.needs import Limits, Needs
from pithead.exchange import inputs
from pithead.exchange.dispatch import save
from pithead.exchange.events import JobChanged
from pithead.exchange.input_ports import InputFile
from pithead.exchange.ports import Client, Tx
from pithead.exchange.rules import Rules


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants done."""

    model: str
    input: bytes
    price: float
    gpu_type: str
    gpu_count: int
    #: Seconds; `None`: to be estimated.
    estimated_time: float | None
    priority: int
    timeout: float | None
    attempt_timeout: float | None
    max_attempts: int | None
    require_result: bool
    #: Files of the client's, each as the name that the job gives it and its hash.
    input_files: Sequence[tuple[str, str]] = ()
    limits: Limits | None = None


def client(tx: Tx, client_id: str) -> Client:
    """The client. Raises `NotFound`."""
    found = tx.client_by_id(client_id)
    if found is None:
        raise NotFound(f"there is no client {client_id}")
    return found


def submit(
    tx: Tx, now: float, rules: Rules, client_id: str, orders: Sequence[Order], ids: Sequence[str], *, batch: bool
) -> list[Job]:
    """Queue jobs and set their prices aside, all or none.

    Raises `PaymentRequired` where balance and credit line do not cover them together, `Invalid`, `FileUnknown`.
    """
    owner = client(tx, client_id)
    jobs: list[Job] = []
    # Most jobs need nothing beside their input: by their place in the batch.
    needs: dict[int, Needs] = {}
    files: dict[str, InputFile | None] = {}
    faults: list[Fault] = []
    unknown: list[Fault] = []
    if sum(len(order.input_files) for order in orders) > inputs.MOST_NAMED:
        raise Invalid(
            Fault("jobs", f"name more than {inputs.MOST_NAMED} files together: submit them in several batches")
        )
    for index, (order, job_id) in enumerate(zip(orders, ids, strict=True)):
        where = f"jobs[{index}]." if batch else ""
        try:
            estimated = _estimated(tx, order) if order.estimated_time is None else order.estimated_time
            jobs.append(_job(owner, order, estimated, job_id, now, rules, where))
            if order.input_files or order.limits is not None:
                needs[index] = Needs(inputs.named(tx, now, owner, order.input_files, files, where), order.limits)
        except FileUnknown as refusal:
            unknown.extend(refusal.faults)
        except Invalid as refusal:
            faults.extend(refusal.faults)
    if faults:
        raise Invalid(*faults, *unknown)
    if unknown:
        raise FileUnknown(*unknown)
    total, balance = sum(job.price for job in jobs), tx.balance(owner.seq)
    if total > balance + owner.credit_line:
        line = f", with a credit line of {units(owner.credit_line)}" if owner.credit_line else ""
        raise PaymentRequired(
            f"this costs {units(total)} and the balance is {units(balance)}{line}; ask the operator for credit"
        )
    queued = []
    for index, (job, order) in enumerate(zip(jobs, orders, strict=True)):
        stored = tx.add_job(job, order.input)
        if index in needs:
            tx.add_needs(stored.seq, needs[index], [f.seq for f in _of(needs[index], files)])
        tx.post(now, money.hold(owner.seq, stored.seq, stored.price))
        tx.emit(JobChanged(None, stored))
        queued.append(stored)
    return queued


def _of(needs: Needs, files: Mapping[str, InputFile | None]) -> Iterator[InputFile]:
    for sha256 in {named.sha256 for named in needs.files}:
        file = files[sha256]
        assert file is not None
        yield file


class _Asked(msgspec.Struct):
    """What an input may say of the answer's length."""

    max_tokens: int | None = None


def _estimated(tx: Tx, order: Order) -> float:
    """Seconds that the job should take, by what miners measured with its model."""
    asked = _Asked()
    # The input is the client's and the runner's affair: what cannot be read says nothing here.
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        asked = msgspec.json.decode(order.input, type=_Asked)
    tokens = asked.max_tokens
    return estimates.seconds(tokens if tokens is None or tokens > 0 else None, tx.speeds_of_model(order.model))


def _job(owner: Client, order: Order, estimated: float, job_id: str, now: float, rules: Rules, where: str) -> Job:
    faults: list[Fault] = []
    price, estimated_ms = 0, round(estimated * 1000)
    try:
        price = micros(order.price, where + "price")
    except Invalid as refusal:
        faults.extend(refusal.faults)
    if estimated_ms < 1:
        faults.append(Fault(where + "estimated_time", "must be at least a millisecond"))
    if faults:
        raise Invalid(*faults)
    timeout = rules.job_timeout if order.timeout is None else order.timeout
    return Job(
        seq=0,
        id=job_id,
        client=owner.seq,
        model=order.model,
        gpu_type=order.gpu_type.lower(),
        gpu_count=order.gpu_count,
        estimated_ms=estimated_ms,
        price=price,
        rate=affordable_rate(price, order.gpu_count, estimated_ms),
        priority=order.priority,
        timeout=timeout,
        attempt_timeout=order.attempt_timeout,
        max_attempts=rules.max_attempts if order.max_attempts is None else order.max_attempts,
        require_result=order.require_result,
        created_at=now,
        deadline=now + timeout,
    )


def find_own(tx: Tx, job_id: str, client_id: str | None) -> Job:
    """The job, if it is the client's (`None`: the operator asks). Raises `NotFound`, `JobArchived`."""
    job = tx.job_by_id(job_id)
    known = job or tx.archived(job_id)
    if known is None or (client_id is not None and client(tx, client_id).seq != known.client):
        raise NotFound(f"there is no job {job_id}")
    if job is None:
        raise JobArchived(f"job {job_id} was {known.state}; of a job so old only the ledger tells")
    return job


def cancel(tx: Tx, now: float, job_id: str, client_id: str | None) -> Job:
    """Withdraw a job; its price goes back, its holder is told. Repeating it changes nothing.

    Raises `NotFound`, `JobArchived`, `JobFinished`.
    """
    job = find_own(tx, job_id, client_id)
    if job.state is State.CANCELLED:
        return job
    if is_finished(job):
        raise JobFinished(f"job {job.id} is {job.state}: there is nothing left to cancel")
    return withdraw(tx, now, job, Event.CANCEL, "cancelled")


def withdraw(tx: Tx, now: float, job: Job, event: Event, reason: str) -> Job:
    """End an unfinished job by `event`, tell its holder, and give the money back."""
    if is_held(job):
        assert job.miner is not None
        tx.end_attempt(job.seq, job.attempts, now, reason)
        tx.add_notice(job.miner, job.id, reason, now)
    after = save(tx, job, end_attempt(job, event, now))
    tx.post(now, money.refund(job.client, job.seq, job.price))
    return after
