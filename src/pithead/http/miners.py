"""The Miner API."""

import asyncio
import base64
from functools import lru_cache, partial

import msgspec
from msgspec import UNSET

from pithead.core import matching
from pithead.core.miners import Status, status
from pithead.exchange import dispatch, miners
from pithead.exchange.blobs import name_of
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.dispatch import Measured
from pithead.exchange.ids import new_id, new_key, new_token
from pithead.exchange.miners import Beat, Registration
from pithead.exchange.ports import Tx
from pithead.exchange.rules import Rules
from pithead.http import shapes
from pithead.http.api import Call, Late, Operation, Ready, handles, operates, quick
from pithead.http.uploads import Incoming
from pithead.wire import miners as wire
from pithead.wire.base import encode


@handles("register_miner")
async def register(call: Call) -> Operation:
    body: wire.RegisterMiner = call.body
    miner_id, key = new_id("miner"), new_key()
    registration = Registration(
        name=body.name,
        gpu_type=body.gpu_type,
        gpu_count=body.gpu_count,
        location=body.location,
        price_per_hour=body.price_per_hour,
        max_concurrent=body.max_concurrent,
        models=None if body.models is None else frozenset(body.models),
        speeds=body.speeds,
    )
    rules, token = call.exchange.rules, body.enrollment_token

    def operation(tx: Tx, now: float) -> wire.Registered:
        miner = miners.register(tx, now, rules, miner_id=miner_id, key=key, registration=registration, token=token)
        return wire.Registered(miner_id=miner.id, api_key=key, status=status(miner).value)

    return operation


@handles("update_miner")
async def update(call: Call) -> wire.MinerView:
    body: wire.UpdateMiner = call.body
    given = {
        name: value
        for name in (
            "name",
            "gpu_type",
            "gpu_count",
            "location",
            "price_per_hour",
            "max_concurrent",
            "draining",
            "payout_destination",
            "speeds",
        )
        if (value := getattr(body, name)) is not UNSET
    }
    models = None if body.models is UNSET or body.models is None else frozenset(body.models)
    registration = Registration(**given, models=models, keep_models=body.models is UNSET)
    miner_id = call.caller.id
    return shapes.miner_view(await call.exchange.run(lambda tx, now: miners.update(tx, miner_id, registration)))


@handles("get_miner")
async def get(call: Call) -> wire.MinerView:
    found = await call.exchange.peek(lambda tx: miners.find(tx, call.caller.id))
    return shapes.miner_view(call.exchange.presence.seen(found))


@handles("deregister_miner")
async def deregister(call: Call) -> wire.MinerView:
    rules, miner_id = call.exchange.rules, call.caller.id
    return shapes.miner_view(await call.exchange.run(lambda tx, now: miners.retire(tx, now, rules, miner_id, miner_id)))


@lru_cache(maxsize=10_000)
def _idle(standing: Status, fitting: int) -> Ready:
    """What a miner that holds nothing is answered: most of all answers, and few different ones."""
    answer = wire.HeartbeatAnswer(
        status="ok", jobs_assigned=0, queue_length=fitting, miner_status=standing.value, stop=[], leases=[]
    )
    return Ready(200, encode(answer))


@quick("heartbeat")
def heartbeat_now(call: Call) -> Ready | None:
    """The answer to a heartbeat that changes nothing that has to be durable at once."""
    exchange = call.exchange
    body: wire.Heartbeat | None = call.body
    telemetry = encode(body.telemetry) if body and body.telemetry else None
    beat = exchange.beat_now(call.caller.id, body.jobs if body else (), telemetry)
    return None if beat is None else _beaten(exchange, beat)


def _beaten(exchange: Coordinator, beat: Beat) -> Ready:
    fitting = exchange.queue_length(beat.miner, len(beat.held))
    if not beat.held and not beat.stop:
        return _idle(status(beat.miner), fitting)
    return Ready(200, encode(shapes.beat(beat, fitting, exchange.now())))


@handles("heartbeat")
async def heartbeat(call: Call) -> Ready | Operation:
    exchange, miner_id = call.exchange, call.caller.id
    body: wire.Heartbeat | None = call.body
    names = body.jobs if body else ()
    telemetry = encode(body.telemetry) if body and body.telemetry else None
    if call.idempotency_key is None:
        return _beaten(exchange, await exchange.beat(miner_id, names, telemetry))
    # The answer is to be kept, which takes a transaction, and the board is not to be looked at within one.
    fitting = exchange.board.count(await exchange.peek(lambda tx: miners.find(tx, miner_id)))

    def operation(tx: Tx, now: float) -> wire.HeartbeatAnswer:
        beat = miners.heartbeat(tx, now, exchange.rules, miner_id, names, telemetry)
        return shapes.beat(beat, 0 if matching.unready(beat.miner, len(beat.held)) else fitting, now)

    return operation


@handles("miner_orders")
async def orders(call: Call) -> wire.Orders:
    exchange, miner_id, after = call.exchange, call.caller.id, call.query.get("after")
    clock = asyncio.get_running_loop().time
    until = clock() + float(call.query.get("wait", 0))
    miner = await exchange.peek(lambda tx: miners.find(tx, miner_id))
    # Rung before the look: what changes between the two is not missed.
    with exchange.live.bell(miner.seq) as bell:
        while True:
            found = await exchange.peek(lambda tx: miners.orders(tx, miner_id))
            left = until - clock()
            if after is None or found.version != after or left <= 0 or exchange.live.ended:
                return shapes.orders(found)
            await bell.heard(left)


@quick("available_jobs")
def available_now(call: Call) -> Ready | None:
    """Offers that are at hand; where there are none, those who would wait get no answer yet."""
    exchange = call.exchange
    jobs = exchange.offers_now(call.caller.id, int(call.query.get("limit", 20)))
    if jobs is None or (not jobs and call.query.get("wait")):
        return None
    client_ids = exchange.known_client_ids(jobs)
    return None if client_ids is None else Ready(200, call.services.offers.encode(jobs, client_ids))


@handles("available_jobs")
async def available(call: Call) -> Ready:
    jobs = await call.exchange.available(
        call.caller.id, int(call.query.get("limit", 20)), float(call.query.get("wait", 0))
    )
    return Ready(200, call.services.offers.encode(jobs, await call.exchange.client_ids(jobs)))


@operates("accept_job")
def accept(call: Call) -> Operation:
    rules, miner_id, job_id = call.exchange.rules, call.caller.id, call.path["job_id"]
    token, under = new_token("lease"), call.lease_token
    if call.services.tracing:
        return partial(_accept_traced, call.exchange.rules, miner_id, job_id, token, under)
    return lambda tx, now: shapes.assignment(dispatch.accept(tx, now, rules, miner_id, job_id, token, under=under), now)


def _accept_traced(
    rules: Rules, miner_id: str, job_id: str, token: str, under: str | None, tx: Tx, now: float
) -> wire.Assignment:
    assigned = dispatch.accept(tx, now, rules, miner_id, job_id, token, under=under)
    return msgspec.structs.replace(shapes.assignment(assigned, now), traceparent=tx.trace(assigned.job.seq))


@operates("complete_job")
def complete(call: Call) -> Operation:
    rules, signer = call.exchange.rules, call.exchange.signer
    miner_id, job_id, token = call.caller.id, call.path["job_id"], call.lease_token
    body: wire.Complete = call.body
    measured = Measured(body.metrics.gpu_time_seconds, encode(body.metrics))
    # Rendered later: what is committed together is signed together.
    return lambda tx, now: Late(
        shapes.completed,
        dispatch.complete(
            tx,
            now,
            rules,
            signer,
            miner_id=miner_id,
            job_id=job_id,
            token=token,
            result_hash=body.result_hash,
            measured=measured,
        ),
    )


@operates("fail_job")
def fail(call: Call) -> Operation:
    rules, miner_id, job_id, token = call.exchange.rules, call.caller.id, call.path["job_id"], call.lease_token
    body: wire.Fail = call.body or wire.Fail()

    def operation(tx: Tx, now: float) -> wire.Returned:
        job = dispatch.fail(
            tx, now, rules, miner_id=miner_id, job_id=job_id, token=token, kind=body.kind, reason=body.reason
        )
        return wire.Returned(job_id=job.id, status=job.state.value)

    return operation


@operates("release_job")
def release(call: Call) -> Operation:
    rules, miner_id, job_id, token = call.exchange.rules, call.caller.id, call.path["job_id"], call.lease_token

    def operation(tx: Tx, now: float) -> wire.Returned:
        job = dispatch.release(tx, now, rules, miner_id=miner_id, job_id=job_id, token=token)
        return wire.Returned(job_id=job.id, status=job.state.value)

    return operation


@operates("report_progress")
def report_progress(call: Call) -> Operation:
    miner_id, job_id, token = call.caller.id, call.path["job_id"], call.lease_token
    body: wire.Progress = call.body or wire.Progress()

    def operation(tx: Tx, now: float) -> wire.Progressed:
        if not body.output:
            job = dispatch.report_progress(
                tx, miner_id=miner_id, job_id=job_id, token=token, fraction=body.fraction, message=body.message
            )
            return wire.Progressed(job_id=job.id, status=job.state.value)
        job, size = dispatch.report_output(
            tx,
            now,
            miner_id=miner_id,
            job_id=job_id,
            token=token,
            fraction=body.fraction,
            message=body.message,
            text=body.output,
            offset=body.output_offset,
        )
        return wire.Progressed(job_id=job.id, status=job.state.value, output_size=size)

    return operation


@handles("upload_result")
async def upload_result(call: Call) -> wire.Uploaded:
    miner_id, job_id, token = call.caller.id, call.path["job_id"], call.lease_token
    blobs, incoming = call.services.blobs, Incoming(call, "a result", call.services.max_result_bytes)
    job, attempt = await call.exchange.run(
        lambda tx, now: dispatch.begin_upload(tx, miner_id=miner_id, job_id=job_id, token=token)
    )
    name = name_of(job.id, attempt.number, blobs.suffix)
    stored = await incoming.take_in(name, attempt.part_blob, attempt.part_size)
    try:
        replaced = await call.exchange.run(
            lambda tx, now: dispatch.end_upload(tx, miner_id=miner_id, job_id=job_id, token=token, stored=stored)
        )
    except BaseException:
        await blobs.delete([stored.blob])
        raise
    await incoming.settle(stored, replaced)
    return wire.Uploaded(job_id=job_id, result_hash=f"sha256:{stored.digest}", size=stored.size)


@handles("upload_state")
async def upload_state(call: Call) -> Ready:
    miner_id, job_id, token = call.caller.id, call.path["job_id"], call.lease_token
    attempt = await call.exchange.peek(
        lambda tx: dispatch.upload_state(tx, miner_id=miner_id, job_id=job_id, token=token)
    )
    complete, digest = attempt.upload_digest is not None, attempt.upload_digest
    state = wire.UploadState(
        job_id=job_id,
        upload_offset=attempt.part_size or 0,
        complete=complete,
        result_hash=f"sha256:{digest}" if complete else None,
    )
    return Ready(200, encode(state), ((b"upload-offset", str(state.upload_offset).encode()),))


@handles("miner_stats")
async def stats(call: Call) -> wire.Stats:
    return shapes.stats(await call.exchange.peek(lambda tx: miners.find(tx, call.caller.id)))


@handles("receipt_keys")
async def receipt_keys(call: Call) -> wire.ReceiptKeys:
    known = await call.exchange.peek(lambda tx: tx.signing_keys())
    return wire.ReceiptKeys(
        keys=[
            wire.ReceiptKey(key_id=key_id, algorithm="Ed25519", public_key=base64.b64encode(public_key).decode())
            for key_id, public_key in known
        ]
    )
