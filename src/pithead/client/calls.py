"""The calls: arguments in, a `Call` out. Methods and paths come from the table in `pithead.wire.endpoints`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, cast
from urllib.parse import quote

import msgspec

from pithead.client.core import Call, Reply, as_json
from pithead.client.errors import Misused
from pithead.client.files import Rest, Uploading
from pithead.client.results import Part, verified
from pithead.wire import jobs, ledger, miners, payouts, why
from pithead.wire.base import encode
from pithead.wire.endpoints import ENDPOINTS

T = TypeVar("T")

#: A price or an amount. Decimals and text travel exactly.
Price = int | float | str | Decimal

_ENDPOINTS: Final = {endpoint.name: endpoint for endpoint in ENDPOINTS}
#: A result of this many bytes or more is gone on with after its upload broke off; a smaller one is sent again.
RESUME_FROM: Final = 8 << 20

#: A file of this many bytes or more is not sent before it is known whether it is there.
ASK_FROM: Final = 64 << 10

#: A result's digest is of the bytes as the miner sent them: nobody may compress them on the way.
_AS_THEY_ARE: Final = {"Accept-Encoding": "identity"}
#: Which of a client's accounts: what it can spend, or what is set aside for its jobs.
Account = Literal["balance", "held"]


class JobOptions(TypedDict, total=False):
    """What may be said of a job beside model, input and price; see `pithead.wire.jobs.SubmitJob` for the defaults."""

    #: The type of GPU it needs, or `any`.
    gpu_type: str
    gpu_count: int
    #: Seconds the work should take.
    estimated_time: float
    #: -1000 to 1000; higher goes first.
    priority: int
    #: Seconds from now in which it must be completed.
    timeout: float | None
    #: Seconds that one attempt may take.
    attempt_timeout: float | None
    max_attempts: int | None
    #: The bytes of the result must arrive, not just their hash. The SDK's default is true.
    require_result: bool
    #: Files that are there already, by the names that the job gives them; `submit(…, files=…)` uploads what is not.
    input_files: list[jobs.InputFile]
    #: What the job is to be held to; see `pithead.wire.jobs.AskedLimits`, or the same as a mapping.
    limits: jobs.AskedLimits | Mapping[str, Any] | None


class MinerOptions(TypedDict, total=False):
    """What may be changed of a miner; what is absent stays."""

    name: str
    gpu_type: str
    gpu_count: int
    location: str
    price_per_hour: Price
    max_concurrent: int
    models: list[str] | None
    draining: bool
    #: Tokens a second, by model.
    speeds: dict[str, float]
    payout_destination: str


def answered(kind: type[T], name: str, **more: Any) -> Call[T]:
    """A call answered with JSON."""
    return make(as_json(kind), name, **more)


def make(
    finish: Callable[[Reply], T],
    name: str,
    *,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str | None] | None = None,
    hold: float = 0.0,
    **path: str,
) -> Call[T]:
    endpoint = _ENDPOINTS[name]
    sent = {key: value for key, value in (headers or {}).items() if value is not None}
    if body is not None and not isinstance(body, bytes | Path):
        body = encode(body)
        sent["Content-Type"] = "application/json"
    return Call(
        method=endpoint.method,
        path=endpoint.path.format_map({key: quote(value, safe="") for key, value in path.items()}),
        finish=finish,
        query={key: str(value) for key, value in (query or {}).items() if value is not None},
        headers=sent,
        body=body,
        hold=hold,
    )


def within(call: Call[T], seconds: float) -> Call[T]:
    """The call, with retries for no longer than that."""
    return replace(call, retry_for=seconds)


def once(key: str | None) -> dict[str, str | None]:
    """One idempotency key for all attempts of a call."""
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def _lease(token: str | None) -> dict[str, str | None]:
    return {"Lease-Token": token}


def exact(price: Price, what: str = "price") -> float:
    """A price as the structs take it, whose declared type is that of JSON; decimals and text stay exact. Raises `Misused`."""
    try:
        if isinstance(price, bool):
            raise TypeError
        # Through `repr`: 0.1 is to be 0.1, not the binary fraction nearest to it.
        number = Decimal(repr(price) if isinstance(price, float) else price)
    except (InvalidOperation, TypeError, ValueError):
        raise Misused(what=f"the {what} {price!r} is not a number; write it like 0.05") from None
    if not number.is_finite():
        raise Misused(what=f"the {what} {price!r} is not a finite number; write it like 0.05")
    return cast(float, number)


def _raw(value: Any) -> msgspec.Raw:
    if isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.Raw(encode(value))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise Misused(what=f"the input cannot be written as JSON ({error})") from None


# ---- The client's side


def job_request(model: str, input: Any, price: Price, **options: Unpack[JobOptions]) -> jobs.SubmitJob:
    """A job to submit. `input` is any JSON value, or `msgspec.Raw` to be sent as it is."""
    options.setdefault("require_result", True)
    if isinstance(limits := options.get("limits"), Mapping):
        options["limits"] = jobs.AskedLimits(**limits)
    return jobs.SubmitJob(model=model, input=_raw(input), price=exact(price), **options)  # type: ignore[arg-type]


def submit(job: jobs.SubmitJob, idempotency_key: str | None) -> Call[jobs.Submitted]:
    return answered(jobs.Submitted, "submit_job", body=job, headers=once(idempotency_key))


def submit_batch(
    batch: Iterable[jobs.SubmitJob | Mapping[str, Any]], idempotency_key: str | None
) -> Call[jobs.SubmittedBatch]:
    requests = [item if isinstance(item, jobs.SubmitJob) else _job_of(item) for item in batch]
    return answered(
        jobs.SubmittedBatch, "submit_batch", body=jobs.SubmitBatch(jobs=requests), headers=once(idempotency_key)
    )


def _job_of(fields: Mapping[str, Any]) -> jobs.SubmitJob:
    try:
        return job_request(**fields)
    except TypeError as error:
        raise Misused(what=f"a job of the batch cannot be read ({error})") from None


def job(job_id: str, wait: float | None = None) -> Call[jobs.JobView]:
    return answered(jobs.JobView, "get_job", query={"wait": wait}, hold=wait or 0.0, job_id=job_id)


def list_jobs(status: str | None, model: str | None, limit: int | None, cursor: str | None) -> Call[jobs.JobPage]:
    query = {"status": status, "model": model, "limit": limit, "cursor": cursor}
    return answered(jobs.JobPage, "list_jobs", query=query)


def cancel(job_id: str) -> Call[jobs.JobView]:
    return answered(jobs.JobView, "cancel_job", job_id=job_id)


def why_job(job_id: str) -> Call[why.JobWhy]:
    return answered(why.JobWhy, "why_job", job_id=job_id)


def result(job_id: str) -> Call[bytes]:
    """The bytes, checked against their digest."""
    return make(verified(job_id), "get_result", headers=_AS_THEY_ARE, job_id=job_id)


def download(part: Part) -> Call[Path]:
    """The bytes into a file, checked before it gets its name."""
    return replace(make(part.finish, "get_result", headers=_AS_THEY_ARE, job_id=part.job_id), sink=part)


def upload_file(sha256: str, data: bytes | Path, name: str, told: Uploading | None) -> Call[jobs.FileView]:
    """A file; of a large one what is there already, if not all of it, is not sent again."""
    headers = {"Content-Type": "application/octet-stream"}
    call = answered(jobs.FileView, "upload_file", body=data, headers=headers, sha256=sha256)
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    sent = None if told is None else lambda position: told(name, position, size)
    return replace(call, sent=sent, resume=file_state(sha256) if size >= ASK_FROM else None)


def file_state(sha256: str) -> Call[jobs.FileState]:
    return answered(jobs.FileState, "file_state", sha256=sha256)


def list_files(limit: int | None, cursor: str | None) -> Call[jobs.FilePage]:
    return answered(jobs.FilePage, "list_files", query={"limit": limit, "cursor": cursor})


def delete_file(sha256: str) -> Call[jobs.FileView]:
    return answered(jobs.FileView, "delete_file", sha256=sha256)


def download_file(rest: Rest) -> Call[int]:
    """The bytes of one's own file; how many they are."""
    return replace(make(rest.finish, "get_file", headers=_AS_THEY_ARE, sha256=rest.sha256), sink=rest)


def with_files(job: jobs.SubmitJob, hashes: Mapping[str, str]) -> jobs.SubmitJob:
    """The job with these files, hashes by name, beside those that it names already."""
    more = [jobs.InputFile(name=name, sha256=sha256) for name, sha256 in hashes.items()]
    return msgspec.structs.replace(job, input_files=[*(job.input_files or ()), *more]) if more else job


def me() -> Call[jobs.ClientView]:
    return answered(jobs.ClientView, "get_me")


def my_ledger(account: Account, limit: int | None, cursor: str | None) -> Call[ledger.Statement]:
    return answered(ledger.Statement, "my_ledger", query={"account": account, "limit": limit, "cursor": cursor})


# ---- The miner's side


def register(request: miners.RegisterMiner, idempotency_key: str | None) -> Call[miners.Registered]:
    return answered(miners.Registered, "register_miner", body=request, headers=once(idempotency_key))


def register_request(**fields: Any) -> miners.RegisterMiner:
    """A registration of its fields; `price_per_hour` may be of any `Price` type. Raises `Misused`."""
    try:
        return miners.RegisterMiner(**_priced(fields))
    except TypeError as error:
        raise Misused(what=f"the registration cannot be read ({error})") from None


def receipt_keys() -> Call[miners.ReceiptKeys]:
    return answered(miners.ReceiptKeys, "receipt_keys")


def get_miner(miner_id: str) -> Call[miners.MinerView]:
    return answered(miners.MinerView, "get_miner", miner_id=miner_id)


def update_miner(miner_id: str, fields: Mapping[str, Any]) -> Call[miners.MinerView]:
    return answered(miners.MinerView, "update_miner", body=miners.UpdateMiner(**_priced(fields)), miner_id=miner_id)


def _priced(fields: Mapping[str, Any]) -> dict[str, Any]:
    price = fields.get("price_per_hour")
    return {**fields, "price_per_hour": exact(price, "price per hour")} if price is not None else dict(fields)


def heartbeat(
    miner_id: str, held: Iterable[str] | None, telemetry: Mapping[str, Any] | None
) -> Call[miners.HeartbeatAnswer]:
    said = {"jobs": list(held or ()), "telemetry": dict(telemetry or {})}
    body = {name: value for name, value in said.items() if value}
    return answered(miners.HeartbeatAnswer, "heartbeat", body=body or None, miner_id=miner_id)


def orders(miner_id: str, wait: float | None, after: str | None) -> Call[miners.Orders]:
    query = {"wait": wait, "after": after}
    return answered(miners.Orders, "miner_orders", query=query, hold=wait or 0.0, miner_id=miner_id)


def available(miner_id: str, limit: int | None, wait: float | None) -> Call[miners.Available]:
    query = {"limit": limit, "wait": wait}
    return answered(miners.Available, "available_jobs", query=query, hold=wait or 0.0, miner_id=miner_id)


def accept(miner_id: str, job_id: str) -> Call[miners.Assignment]:
    return answered(miners.Assignment, "accept_job", miner_id=miner_id, job_id=job_id)


def complete(
    miner_id: str, job_id: str, result_hash: str, metrics: miners.Metrics | Mapping[str, Any] | None, token: str | None
) -> Call[miners.Completed]:
    body = {"result_hash": result_hash} | ({} if metrics is None else {"metrics": metrics})
    return answered(
        miners.Completed, "complete_job", body=body, headers=_lease(token), miner_id=miner_id, job_id=job_id
    )


def fail(miner_id: str, job_id: str, reason: str, kind: miners.FailureKind, token: str | None) -> Call[miners.Returned]:
    body = miners.Fail(reason=reason, kind=kind)
    return answered(miners.Returned, "fail_job", body=body, headers=_lease(token), miner_id=miner_id, job_id=job_id)


def release(miner_id: str, job_id: str, token: str | None) -> Call[miners.Returned]:
    return answered(miners.Returned, "release_job", headers=_lease(token), miner_id=miner_id, job_id=job_id)


def progress(
    miner_id: str, job_id: str, fraction: float | None, message: str, token: str | None, output: str, offset: int
) -> Call[miners.Progressed]:
    body: dict[str, Any] = {"fraction": fraction, "message": message}
    if output:
        body |= {"output": output, "output_offset": offset}
    return answered(
        miners.Progressed, "report_progress", body=body, headers=_lease(token), miner_id=miner_id, job_id=job_id
    )


def upload(miner_id: str, job_id: str, data: bytes | Path, token: str | None) -> Call[miners.Uploaded]:
    headers = _lease(token) | {"Content-Type": "application/octet-stream"}
    call = answered(miners.Uploaded, "upload_result", body=data, headers=headers, miner_id=miner_id, job_id=job_id)
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    return replace(call, resume=upload_state(miner_id, job_id, token)) if size >= RESUME_FROM else call


def upload_state(miner_id: str, job_id: str, token: str | None) -> Call[miners.UploadState]:
    return answered(miners.UploadState, "upload_state", headers=_lease(token), miner_id=miner_id, job_id=job_id)


def fetch_input(miner_id: str, job_id: str, rest: Rest, token: str | None) -> Call[int]:
    """The bytes of an input file of a job; how many they are."""
    headers = {**_AS_THEY_ARE, **_lease(token)}
    call = make(rest.finish, "get_input_file", headers=headers, miner_id=miner_id, job_id=job_id, sha256=rest.sha256)
    return replace(call, sink=rest)


def stats(miner_id: str) -> Call[miners.Stats]:
    return answered(miners.Stats, "miner_stats", miner_id=miner_id)


def deregister(miner_id: str) -> Call[miners.MinerView]:
    return answered(miners.MinerView, "deregister_miner", miner_id=miner_id)


def why_miner(miner_id: str) -> Call[why.MinerWhy]:
    return answered(why.MinerWhy, "why_miner", miner_id=miner_id)


def earnings(miner_id: str, by: ledger.EarningsBy, since: float | None, until: float | None) -> Call[ledger.Earnings]:
    query = {"by": by, "from": since, "to": until}
    return answered(ledger.Earnings, "earnings", query=query, miner_id=miner_id)


def request_payout(miner_id: str, amount: Price | None, idempotency_key: str | None) -> Call[payouts.PayoutView]:
    body = None if amount is None else {"amount": exact(amount, "amount")}
    return answered(payouts.PayoutView, "request_payout", body=body, headers=once(idempotency_key), miner_id=miner_id)


def my_payouts(miner_id: str, limit: int | None, cursor: str | None) -> Call[payouts.MinerPayouts]:
    query = {"limit": limit, "cursor": cursor}
    return answered(payouts.MinerPayouts, "my_payouts", query=query, miner_id=miner_id)
