"""The calls of the operator; as `calls`, which has everybody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pithead.client.calls import Account, Price, answered, exact, make, once
from pithead.client.checking import Checking
from pithead.client.core import Call
from pithead.wire import admin, jobs, ledger, miners, payouts

_IN_LINES: Final = {"Accept": "application/x-ndjson, application/problem+json"}


def create_client(name: str, credit: Price, idempotency_key: str | None) -> Call[admin.ClientCreated]:
    body = {"name": name, "credit": exact(credit, "credit")}
    return answered(admin.ClientCreated, "create_client", body=body, headers=once(idempotency_key))


def list_clients(limit: int | None, cursor: str | None) -> Call[admin.ClientPage]:
    return answered(admin.ClientPage, "list_clients", query={"limit": limit, "cursor": cursor})


def get_client(client_id: str) -> Call[jobs.ClientView]:
    return answered(jobs.ClientView, "get_client", client_id=client_id)


def credit_client(client_id: str, amount: Price, note: str, idempotency_key: str | None) -> Call[jobs.ClientView]:
    body = {"amount": exact(amount, "amount"), "note": note}
    return answered(jobs.ClientView, "credit_client", body=body, headers=once(idempotency_key), client_id=client_id)


def set_credit_line(client_id: str, amount: Price) -> Call[jobs.ClientView]:
    return answered(jobs.ClientView, "set_credit_line", body={"amount": exact(amount, "amount")}, client_id=client_id)


def list_ledger(limit: int | None, cursor: str | None) -> Call[ledger.LedgerPage]:
    return answered(ledger.LedgerPage, "list_ledger", query={"limit": limit, "cursor": cursor})


def account_ledger(account_id: str, account: Account, limit: int | None, cursor: str | None) -> Call[ledger.Statement]:
    query = {"account": account, "limit": limit, "cursor": cursor}
    return answered(ledger.Statement, "account_ledger", query=query, account_id=account_id)


def check_ledger(on_progress: Callable[[ledger.CheckProgress], object] | None) -> Call[ledger.LedgerCheck]:
    checking = Checking(on_progress)
    return replace(make(checking.finish, "check_ledger", headers=_IN_LINES), sink=checking)


def list_payouts(status: str | None, limit: int | None, cursor: str | None) -> Call[payouts.PayoutPage]:
    return answered(payouts.PayoutPage, "list_payouts", query={"status": status, "limit": limit, "cursor": cursor})


def create_payout(
    miner_id: str, amount: Price | None, destination: str | None, idempotency_key: str | None
) -> Call[payouts.PayoutView]:
    body = payouts.CreatePayout(amount=None if amount is None else exact(amount, "amount"), destination=destination)
    headers = once(idempotency_key)
    return answered(payouts.PayoutView, "create_payout", body=body, headers=headers, miner_id=miner_id)


def get_payout(payout_id: str) -> Call[payouts.PayoutView]:
    return answered(payouts.PayoutView, "get_payout", payout_id=payout_id)


def approve_payout(payout_id: str) -> Call[payouts.PayoutView]:
    return answered(payouts.PayoutView, "approve_payout", payout_id=payout_id)


def reject_payout(payout_id: str, note: str) -> Call[payouts.PayoutView]:
    body = payouts.RejectPayout(note=note)
    return answered(payouts.PayoutView, "reject_payout", body=body, payout_id=payout_id)


def mark_payout_paid(payout_id: str, reference: str, note: str) -> Call[payouts.PayoutView]:
    body = payouts.MarkPaid(reference=reference, note=note)
    return answered(payouts.PayoutView, "mark_payout_paid", body=body, payout_id=payout_id)


def list_miners(status: str | None, limit: int | None, cursor: str | None) -> Call[admin.MinerPage]:
    return answered(admin.MinerPage, "list_miners", query={"status": status, "limit": limit, "cursor": cursor})


def inspect_miner(miner_id: str) -> Call[admin.MinerDetail]:
    return answered(admin.MinerDetail, "inspect_miner", miner_id=miner_id)


def miner_telemetry(miner_id: str, since: float | None, limit: int | None) -> Call[admin.TelemetryHistory]:
    query = {"since": since, "limit": limit}
    return answered(admin.TelemetryHistory, "miner_telemetry", miner_id=miner_id, query=query)


def approve_miner(miner_id: str) -> Call[miners.MinerView]:
    return answered(miners.MinerView, "approve_miner", miner_id=miner_id)


def suspend_miner(miner_id: str, reason: str) -> Call[miners.MinerView]:
    return answered(miners.MinerView, "suspend_miner", body=admin.Suspend(reason=reason), miner_id=miner_id)


def retire_miner(miner_id: str) -> Call[miners.MinerView]:
    return answered(miners.MinerView, "retire_miner", miner_id=miner_id)


def set_limits(miner_id: str, requests: int | None, operations: int | None) -> Call[miners.MinerView]:
    body = admin.SetLimits(requests_per_minute=requests, job_operations_per_minute=operations)
    return answered(miners.MinerView, "set_limits", body=body, miner_id=miner_id)


def rotate_key(account_id: str, grace: float, idempotency_key: str | None) -> Call[admin.NewKey]:
    body = admin.RotateKey(grace=grace)
    return answered(admin.NewKey, "rotate_key", body=body, headers=once(idempotency_key), account_id=account_id)


def revoke_keys(account_id: str) -> Call[admin.Revoked]:
    return answered(admin.Revoked, "revoke_keys", account_id=account_id)


def create_enrollment_token(uses: int, expires_in: float, idempotency_key: str | None) -> Call[admin.EnrollmentToken]:
    body = admin.CreateEnrollmentToken(uses=uses, expires_in=expires_in)
    return answered(admin.EnrollmentToken, "create_enrollment_token", body=body, headers=once(idempotency_key))


def list_all_jobs(
    status: str | None, model: str | None, client_id: str | None, limit: int | None, cursor: str | None
) -> Call[jobs.JobPage]:
    query = {"status": status, "model": model, "client_id": client_id, "limit": limit, "cursor": cursor}
    return answered(jobs.JobPage, "list_all_jobs", query=query)


def cancel_any_job(job_id: str) -> Call[jobs.JobView]:
    return answered(jobs.JobView, "cancel_any_job", job_id=job_id)


def audit_log(limit: int | None, cursor: str | None) -> Call[admin.AuditPage]:
    return answered(admin.AuditPage, "audit_log", query={"limit": limit, "cursor": cursor})


def overview() -> Call[admin.Overview]:
    return answered(admin.Overview, "overview")


def health() -> Call[admin.Health]:
    return answered(admin.Health, "health")
