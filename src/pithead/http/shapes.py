"""From what the exchange knows to what travels: entities to wire shapes."""

from typing import Any, Final

import msgspec
from msgspec import UNSET

from pithead.core import miners as core
from pithead.core.jobs import Job, State
from pithead.core.miners import Miner, status
from pithead.core.money import units
from pithead.core.needs import Needs
from pithead.exchange.accounts import balances
from pithead.exchange.dispatch import Assigned, Outcome
from pithead.exchange.input_ports import InputFile
from pithead.exchange.miners import Beat, Orders
from pithead.exchange.ports import Client, Tx
from pithead.wire import admin, jobs, miners

_metrics = msgspec.json.Decoder(miners.Metrics)


def number(value: float) -> int | float:
    """A figure as people write it: 600 rather than 600.0, and no finer than a millionth."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def _miner_fields(miner: Miner) -> dict[str, Any]:
    return {
        "miner_id": miner.id,
        "name": miner.name,
        "gpu_type": miner.gpu_type,
        "gpu_count": miner.gpu_count,
        "location": miner.location,
        "price_per_hour": units(miner.price_per_hour),
        "max_concurrent": miner.max_concurrent,
        "models": None if miner.models is None else sorted(miner.models),
        "status": status(miner).value,
        "created_at": miner.created_at,
        "last_seen_at": miner.last_seen_at,
        "limits": miners.Limits(
            requests_per_minute=miner.requests_per_minute, job_operations_per_minute=miner.job_operations_per_minute
        ),
        "payout_destination": miner.payout_destination,
    }


def miner_view(miner: Miner) -> miners.MinerView:
    """The miner as it stands."""
    return miners.MinerView(**_miner_fields(miner))


def miner_detail(tx: Tx, miner: Miner, telemetry: bytes | None) -> admin.MinerDetail:
    """The miner, with what only the operator sees."""
    return admin.MinerDetail(
        **_miner_fields(miner),
        jobs_assigned=tx.held_count(miner.seq),
        stats=stats(miner),
        telemetry=msgspec.json.decode(telemetry, type=dict[str, Any]) if telemetry else None,
        speeds=tx.speeds_of_miner(miner.seq),
    )


def stats(miner: Miner) -> miners.Stats:
    """What the miner has done."""
    s = core.stats(miner)
    return miners.Stats(
        total_jobs=s.total_jobs,
        success_rate=number(s.success_rate),
        average_completion_time=number(s.average_completion_time),
        earnings=units(s.earnings),
        earnings_per_gpu_hour=number(s.earnings_per_gpu_hour),
    )


def beat(result: Beat, queue_length: int, now: float) -> miners.HeartbeatAnswer:
    """How a miner stands after its heartbeat."""
    return miners.HeartbeatAnswer(
        status="ok",
        jobs_assigned=len(result.held),
        queue_length=queue_length,
        miner_status=status(result.miner).value,
        stop=[miners.Stop(job_id=job_id, reason=reason) for job_id, reason in result.stop],  # type: ignore[arg-type]
        leases=[
            miners.LeaseView(job_id=h.job_id, expires_in=number(max(0.0, h.lease_expires_at - now)))
            for h in result.held
        ],
    )


def orders(found: Orders) -> miners.Orders:
    """What a miner has to hear of."""
    return miners.Orders(
        miner_status=status(found.miner).value,
        stop=[miners.Stop(job_id=job_id, reason=reason) for job_id, reason in found.stop],  # type: ignore[arg-type]
        version=found.version,
    )


def offer(job: Job, client_id: str) -> miners.Offer:
    """A queued job, as a miner is offered it."""
    return miners.Offer(
        job_id=job.id,
        model=job.model,
        gpu_type=job.gpu_type,
        gpu_count=job.gpu_count,
        estimated_time=number(job.estimated_ms / 1000),
        price=units(job.price),
        priority=job.priority,
        require_result=job.require_result,
        client_id=client_id,
    )


def assignment(assigned: Assigned, now: float) -> miners.Assignment:
    """A job in the hands of its miner."""
    job = assigned.job
    lease_end, limit = job.lease_expires_at or now, job.lease_limit_at or now
    return miners.Assignment(
        job_id=job.id,
        status=job.state.value,
        model=job.model,
        client_id=assigned.client_id,
        input=msgspec.Raw(assigned.input),
        gpu_type=job.gpu_type,
        gpu_count=job.gpu_count,
        estimated_time=number(job.estimated_ms / 1000),
        price=units(job.price),
        require_result=job.require_result,
        attempt=job.attempts,
        lease_token=job.lease_token or "",
        lease_expires_at=lease_end,
        lease_expires_in=number(max(0.0, lease_end - now)),
        attempt_expires_in=number(max(0.0, limit - now)),
        **({} if assigned.needs is None else _needs(assigned.needs)),
    )


def _needs(needs: Needs) -> dict[str, Any]:
    """The fields that say what a job needs; those of which it needs nothing are absent."""
    fields: dict[str, Any] = {}
    if needs.files:
        fields["input_files"] = [miners.JobFile(name=f.name, sha256=f.sha256, size=f.size) for f in needs.files]
    if needs.limits is not None:
        asked = msgspec.structs.asdict(needs.limits)
        if asked["wall_clock_seconds"] is not None:
            asked["wall_clock_seconds"] = number(asked["wall_clock_seconds"])
        fields["limits"] = miners.JobLimits(**asked)
    return fields


def file_view(file: InputFile) -> jobs.FileView:
    """A file of a client's."""
    return jobs.FileView(
        sha256=file.sha256,
        size=file.size,
        part_size=file.part_size,
        created_at=file.created_at,
        touched_at=file.touched_at,
    )


def completed(outcome: Outcome) -> miners.Completed:
    """A completed job's outcome."""
    receipt, signed = outcome.receipt, outcome.ticket.signed()
    proof = signed.proof
    return miners.Completed(
        job_id=receipt.job_id,
        status="completed",
        earned=(earned := units(receipt.amount)),
        receipt=miners.Receipt(
            receipt_id=receipt.receipt_id,
            job_id=receipt.job_id,
            miner_id=receipt.miner_id,
            attempt=receipt.attempt,
            result_hash=receipt.result_hash,
            amount=earned,
            completed_at=receipt.completed_at,
            key_id=signed.key_id,
            signature=signed.signature,
            batch=UNSET if proof is None else miners.ReceiptBatch(index=proof.index, size=proof.size, path=proof.path),
        ),
    )


def job_view(tx: Tx, job: Job) -> jobs.JobView:
    """A job as its client sees it."""
    return jobs.JobView(**job_fields(tx, job))


#: Of a long output, so many characters of the end are shown with its job.
_SHOWN: Final = 16_384


def job_in_full(tx: Tx, job: Job) -> jobs.JobView:
    """Likewise, with what it brought forth so far."""
    view = job_view(tx, job)
    if job.state in (State.RUNNING, State.UPLOADING) and (size := tx.output_size(job.seq, job.attempts)):
        offset, text = tx.output_from(job.seq, job.attempts, max(0, size - _SHOWN))
        view.output = jobs.PartialOutput(attempt=job.attempts, offset=offset, text=text)
    return view


def job_fields(tx: Tx, job: Job) -> dict[str, Any]:
    """What a job is shown with."""
    details = tx.job_details(job)
    metrics = _metrics.decode(details.metrics) if details.metrics else None
    return {
        "job_id": job.id,
        "status": job.state.value,
        "model": job.model,
        "gpu_type": job.gpu_type,
        "gpu_count": job.gpu_count,
        "estimated_time": number(job.estimated_ms / 1000),
        "price": units(job.price),
        "priority": job.priority,
        "timeout": number(job.timeout),
        "max_attempts": job.max_attempts,
        "require_result": job.require_result,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "expires_at": job.deadline,
        "started_at": job.accepted_at,
        "finished_at": job.finished_at,
        "miner_id": details.miner_id,
        "miner_name": details.miner_name,
        "progress": job.progress,
        "progress_message": job.progress_message,
        "output": None,
        "result_hash": job.result_hash,
        "result_size": job.result_size,
        "result_expired": job.result_expired_at is not None,
        "failure": jobs.Failure(kind=job.failure_kind, reason=job.failure_reason or "") if job.failure_kind else None,
        "metrics": None
        if metrics is None
        else jobs.JobMetrics(
            execution_time_seconds=metrics.execution_time_seconds,
            gpu_time_seconds=metrics.gpu_time_seconds,
            prompt_tokens=metrics.prompt_tokens,
            completion_tokens=metrics.completion_tokens,
        ),
        **({} if details.needs is None else _needs(details.needs)),
    }


def client_view(tx: Tx, client: Client) -> jobs.ClientView:
    """A client's account."""
    balance, held = balances(tx, client.seq)
    return jobs.ClientView(
        client_id=client.id,
        name=client.name,
        balance=units(balance),
        credit_line=units(client.credit_line),
        held=units(held),
        created_at=client.created_at,
    )
