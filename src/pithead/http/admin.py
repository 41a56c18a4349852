"""The operator's side."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec

import pithead
from pithead.core.money import units
from pithead.exchange import accounts, jobs, miners
from pithead.exchange.ids import new_id, new_key, new_token
from pithead.exchange.ports import JobFilter, Tx
from pithead.http import shapes
from pithead.http.api import Call, Operation, handles
from pithead.http.jobs import page as jobs_page
from pithead.wire import admin as wire
from pithead.wire.jobs import ClientView, JobPage, JobView
from pithead.wire.miners import MinerView


class _Numbered(Protocol):
    @property
    def seq(self) -> int: ...


N = TypeVar("N", bound=_Numbered)


def _cut(found: Sequence[N], limit: int) -> tuple[Sequence[N], str | None]:
    """The page, and where the next one begins. One entry more than the limit was asked for."""
    return found[:limit], str(found[limit - 1].seq) if len(found) > limit else None


@handles("create_client")
async def create_client(call: Call) -> Operation:
    body: wire.CreateClient = call.body
    client_id, key = new_id("client"), new_key()

    def operation(tx: Tx, now: float) -> wire.ClientCreated:
        client = accounts.create_client(tx, now, call.caller.id, client_id, key, body.name, body.credit)
        return wire.ClientCreated(client_id=client.id, api_key=key, balance=units(tx.balance(client.seq)))

    return operation


@handles("list_clients")
async def list_clients(call: Call) -> wire.ClientPage:
    before, limit = call.cursor, call.limit

    def read(tx: Tx) -> wire.ClientPage:
        some, following = _cut(tx.clients_page(before, limit + 1), limit)
        return wire.ClientPage(clients=[shapes.client_view(tx, c) for c in some], next_cursor=following)

    return await call.exchange.read(read)


@handles("get_client")
async def get_client(call: Call) -> ClientView:
    return await call.exchange.peek(lambda tx: shapes.client_view(tx, jobs.client(tx, call.path["client_id"])))


@handles("credit_client")
async def credit_client(call: Call) -> Operation:
    body: wire.Credit = call.body
    actor, client_id = call.caller.id, call.path["client_id"]
    return lambda tx, now: shapes.client_view(
        tx, accounts.credit_client(tx, now, actor, client_id, body.amount, body.note)
    )


@handles("set_credit_line")
async def set_credit_line(call: Call) -> ClientView:
    actor, client_id, amount = call.caller.id, call.path["client_id"], call.body.amount
    return await call.exchange.run(
        lambda tx, now: shapes.client_view(tx, accounts.set_credit_line(tx, now, actor, client_id, amount))
    )


@handles("list_miners")
async def list_miners(call: Call) -> wire.MinerPage:
    before, limit, status = call.cursor, call.limit, call.query.get("status")
    seen = call.exchange.presence.seen

    def read(tx: Tx) -> wire.MinerPage:
        some, following = _cut(tx.miners_page(before, limit + 1, status), limit)
        return wire.MinerPage(miners=[shapes.miner_view(seen(m)) for m in some], next_cursor=following)

    return await call.exchange.read(read)


@handles("inspect_miner")
async def inspect_miner(call: Call) -> wire.MinerDetail:
    presence = call.exchange.presence

    def read(tx: Tx) -> wire.MinerDetail:
        miner = presence.seen(miners.find(tx, call.path["miner_id"]))
        return shapes.miner_detail(tx, miner, presence.telemetry(miner) or tx.telemetry(miner.seq))

    return await call.exchange.peek(read)


@handles("miner_telemetry")
async def miner_telemetry(call: Call) -> wire.TelemetryHistory:
    since, limit = float(call.query.get("since", 0)), int(call.query.get("limit", 1440))

    def read(tx: Tx) -> wire.TelemetryHistory:
        miner = miners.find(tx, call.path["miner_id"])
        found = tx.telemetry_since(miner.seq, since, limit)
        return wire.TelemetryHistory(
            samples=[
                wire.TelemetrySample(at=at, telemetry=msgspec.json.decode(body, type=dict[str, Any]))
                for at, body in found
            ]
        )

    return await call.exchange.read(read)


@handles("approve_miner")
async def approve(call: Call) -> Operation:
    rules, actor, miner_id = call.exchange.rules, call.caller.id, call.path["miner_id"]
    return lambda tx, now: shapes.miner_view(miners.approve(tx, now, rules, actor, miner_id))


@handles("suspend_miner")
async def suspend(call: Call) -> Operation:
    actor, miner_id = call.caller.id, call.path["miner_id"]
    reason = call.body.reason if call.body else ""
    return lambda tx, now: shapes.miner_view(miners.suspend(tx, now, actor, miner_id, reason))


@handles("retire_miner")
async def retire(call: Call) -> Operation:
    rules, actor, miner_id = call.exchange.rules, call.caller.id, call.path["miner_id"]
    return lambda tx, now: shapes.miner_view(miners.retire(tx, now, rules, actor, miner_id))


@handles("set_limits")
async def set_limits(call: Call) -> MinerView:
    body: wire.SetLimits = call.body
    actor, miner_id = call.caller.id, call.path["miner_id"]
    return shapes.miner_view(
        await call.exchange.run(
            lambda tx, now: miners.set_limits(
                tx, now, actor, miner_id, body.requests_per_minute, body.job_operations_per_minute
            )
        )
    )


@handles("rotate_key")
async def rotate_key(call: Call) -> Operation:
    actor, account_id, key = call.caller.id, call.path["account_id"], new_key()
    grace = call.body.grace if call.body else 0.0

    def operation(tx: Tx, now: float) -> wire.NewKey:
        accounts.rotate_key(tx, now, actor, account_id, key, grace)
        return wire.NewKey(account_id=account_id, api_key=key)

    return operation


@handles("revoke_keys")
async def revoke_keys(call: Call) -> wire.Revoked:
    actor, account_id = call.caller.id, call.path["account_id"]
    ended = await call.exchange.run(lambda tx, now: accounts.revoke_keys(tx, now, actor, account_id))
    return wire.Revoked(account_id=account_id, revoked=ended)


@handles("create_enrollment_token")
async def create_enrollment_token(call: Call) -> Operation:
    body: wire.CreateEnrollmentToken = call.body or wire.CreateEnrollmentToken()
    actor, token = call.caller.id, new_token("enroll")

    def operation(tx: Tx, now: float) -> wire.EnrollmentToken:
        ends = accounts.create_enrollment_token(tx, now, actor, token, body.uses, body.expires_in)
        return wire.EnrollmentToken(enrollment_token=token, uses=body.uses, expires_at=ends)

    return operation


@handles("list_all_jobs")
async def list_all_jobs(call: Call) -> JobPage:
    state, model, client_id = (call.query.get(name) for name in ("status", "model", "client_id"))
    return await jobs_page(
        call, lambda tx: JobFilter(None if client_id is None else jobs.client(tx, client_id).seq, state, model)
    )


@handles("cancel_any_job")
async def cancel_any_job(call: Call) -> JobView:
    actor, job_id = call.caller.id, call.path["job_id"]

    def operation(tx: Tx, now: float) -> JobView:
        job = jobs.cancel(tx, now, job_id, None)
        tx.audit(now, actor, "job.cancel", job_id)
        return shapes.job_view(tx, job)

    return await call.exchange.run(operation)


@handles("audit_log")
async def audit_log(call: Call) -> wire.AuditPage:
    before, limit = call.cursor, call.limit

    def read(tx: Tx) -> wire.AuditPage:
        some, following = _cut(tx.audit_page(before, limit + 1), limit)
        entries = [
            wire.AuditEntry(at=r.at, actor=r.actor, action=r.action, subject=r.subject, detail=r.detail) for r in some
        ]
        return wire.AuditPage(entries=entries, next_cursor=following)

    return await call.exchange.read(read)


@handles("overview")
async def overview(call: Call) -> wire.Overview:
    now = call.exchange.now()

    def read(tx: Tx) -> wire.Overview:
        return wire.Overview(
            version=pithead.__version__,
            miners=tx.miners_by_status(),
            jobs=tx.jobs_by_state(),
            ledger={kind: units(amount) for kind, amount in tx.balances_by_kind().items()},
            now=now,
        )

    return await call.exchange.read(read)


@handles("health")
async def health(call: Call) -> wire.Health:
    return wire.Health(status="ok")
