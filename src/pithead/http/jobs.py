"""The client's side."""

from collections.abc import Callable

import msgspec

from pithead import tracing
from pithead.core.errors import Conflict, NotFound, ResultExpired
from pithead.core.jobs import Job, State, is_finished
from pithead.core.needs import Limits
from pithead.exchange import jobs
from pithead.exchange.ids import new_id
from pithead.exchange.jobs import Order
from pithead.exchange.ports import JobFilter, Tx
from pithead.http import shapes
from pithead.http.api import Call, Operation, handles, operates
from pithead.http.ranges import StoredResult
from pithead.wire import jobs as wire


def _order(job: wire.SubmitJob) -> Order:
    return Order(
        model=job.model,
        input=bytes(job.input),
        price=job.price,
        gpu_type=job.gpu_type,
        gpu_count=job.gpu_count,
        estimated_time=job.estimated_time,
        priority=job.priority,
        timeout=job.timeout,
        attempt_timeout=job.attempt_timeout,
        max_attempts=job.max_attempts,
        require_result=job.require_result,
        input_files=[(file.name, file.sha256) for file in job.input_files or ()],
        limits=Limits(**msgspec.structs.asdict(job.limits)) if job.limits else None,
    )


def _submitted(job: Job, warning: str | None) -> wire.Submitted:
    return wire.Submitted(job_id=job.id, status=job.state.value, warning=warning)


@operates("submit_job")
def submit(call: Call) -> Operation:
    rules, fleet, client_id = call.exchange.rules, call.exchange.fleet, call.caller.id
    orders, ids = [_order(call.body)], [new_id("job")]
    within = tracing.traceparent() if call.services.tracing else None

    def operation(tx: Tx, now: float) -> wire.Submitted:
        (job,) = jobs.submit(tx, now, rules, client_id, orders, ids, batch=False)
        if within is not None:
            tx.keep_trace(job.seq, within)
        return _submitted(job, fleet.unserved(tx, now, job))

    return operation


@operates("submit_batch")
def submit_batch(call: Call) -> Operation:
    rules, fleet, client_id = call.exchange.rules, call.exchange.fleet, call.caller.id
    orders = [_order(job) for job in call.body.jobs]
    ids = [new_id("job") for _ in orders]
    within = tracing.traceparent() if call.services.tracing else None

    def operation(tx: Tx, now: float) -> wire.SubmittedBatch:
        queued = jobs.submit(tx, now, rules, client_id, orders, ids, batch=True)
        if within is not None:
            for job in queued:
                tx.keep_trace(job.seq, within)
        return wire.SubmittedBatch(jobs=[_submitted(job, fleet.unserved(tx, now, job)) for job in queued])

    return operation


async def page(call: Call, where: Callable[[Tx], JobFilter]) -> wire.JobPage:
    """A page of jobs."""
    before, limit = call.cursor, call.limit

    def read(tx: Tx) -> wire.JobPage:
        # One more than asked for tells whether there is a next page.
        found = tx.jobs_page(where(tx), before, limit + 1)
        more = len(found) > limit
        return wire.JobPage(
            jobs=[shapes.job_view(tx, job) for job in found[:limit]],
            next_cursor=str(found[limit - 1].seq) if more else None,
        )

    return await call.exchange.read(read)


@handles("list_jobs")
async def list_jobs(call: Call) -> wire.JobPage:
    state, model, client_id = call.query.get("status"), call.query.get("model"), call.caller.id
    return await page(call, lambda tx: JobFilter(jobs.client(tx, client_id).seq, state, model))


@handles("get_job")
async def get(call: Call) -> wire.JobView:
    job_id, client_id = call.path["job_id"], call.caller.id
    wait = float(call.query.get("wait", 0))
    if wait:
        await call.exchange.finished(job_id, client_id, wait)
    return await call.exchange.peek(lambda tx: shapes.job_in_full(tx, jobs.find_own(tx, job_id, client_id)))


@handles("cancel_job")
async def cancel(call: Call) -> wire.JobView:
    job_id, client_id = call.path["job_id"], call.caller.id
    return await call.exchange.run(lambda tx, now: shapes.job_view(tx, jobs.cancel(tx, now, job_id, client_id)))


@handles("get_result")
async def get_result(call: Call) -> StoredResult:
    job_id, client_id = call.path["job_id"], call.caller.id

    def read(tx: Tx) -> tuple[Job, str | None]:
        job = jobs.find_own(tx, job_id, client_id)
        number = job.completed_attempt
        return job, None if number is None else tx.result_blob(job.seq, number)

    job, blob = await call.exchange.peek(read)
    if job.state is not State.COMPLETED:
        raise Conflict(f"job {job.id} is {job.state}" + ("" if is_finished(job) else ": it has no result yet"))
    if job.result_expired_at is not None:
        raise ResultExpired(f"the result of job {job.id} ({job.result_hash}) was kept for its time, and is deleted")
    if blob is None:
        raise NotFound(f"job {job.id} was completed with its hash alone ({job.result_hash}): no bytes were delivered")
    return StoredResult(
        call.services.blobs,
        blob,
        digest_hex=(job.result_hash or "").lower().removeprefix("sha256:"),
        size=job.result_size or 0,
        filename=job.id,
    )


@handles("get_me")
async def me(call: Call) -> wire.ClientView:
    return await call.exchange.peek(lambda tx: shapes.client_view(tx, jobs.client(tx, call.caller.id)))
