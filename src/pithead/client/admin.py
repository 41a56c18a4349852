"""The operator's side of the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pithead.client import calls as client_calls
from pithead.client import follow
from pithead.client import operator_calls as calls
from pithead.client.calls import Account, Price
from pithead.client.follow import AccountNews
from pithead.client.keyed import Keyed
from pithead.client.sync import pages
from pithead.wire.admin import (
    AuditEntry,
    AuditPage,
    ClientCreated,
    ClientPage,
    EnrollmentToken,
    Health,
    MinerDetail,
    MinerPage,
    NewKey,
    Overview,
    Revoked,
    TelemetryHistory,
)
from pithead.wire.jobs import ClientView, JobPage, JobView
from pithead.wire.ledger import CheckProgress, LedgerCheck, LedgerEntry, LedgerPage, Statement, TransferView
from pithead.wire.miners import MinerView
from pithead.wire.payouts import PayoutPage, PayoutView
from pithead.wire.why import JobWhy, MinerWhy


class AdminClient(Keyed):
    """What the operator can do. URL, key, `timeout` and `retry_for` as for `Client`.

    Every call is safe to repeat: those that make something carry an idempotency key, of your own if you give one. But
    whoever rotates the very key that the call is made with should give it a `grace`: without one it ends at once, and a
    lost answer cannot be asked for again.
    """

    def account_events(self, after: str | None = None) -> Iterator[AccountNews]:
        """What happens to all jobs, miners and payouts, as it happens, without end; as `Client.account_events`.

        Of words about progress alone the operator is not told.
        """
        yield from self._follow(follow.account(after))

    def create_client(self, name: str, credit: Price = 0, *, idempotency_key: str | None = None) -> ClientCreated:
        """A new client, with some credit. Its key is shown this once."""
        return self._run(calls.create_client(name, credit, idempotency_key))

    def clients(self, *, limit: int | None = None, cursor: str | None = None) -> ClientPage:
        """A page of clients, the newest first."""
        return self._run(calls.list_clients(limit, cursor))

    def iter_clients(self, *, page_size: int = 200) -> Iterator[ClientView]:
        """All clients, the newest first."""
        for page in pages(lambda cursor: self.clients(limit=page_size, cursor=cursor)):
            yield from page.clients

    def client(self, client_id: str) -> ClientView:
        """A client's account."""
        return self._run(calls.get_client(client_id))

    def credit(
        self, client_id: str, amount: Price, note: str = "", *, idempotency_key: str | None = None
    ) -> ClientView:
        """Add to a client's balance; a negative amount takes away, at most what is there."""
        return self._run(calls.credit_client(client_id, amount, note, idempotency_key))

    def set_credit_line(self, client_id: str, amount: Price) -> ClientView:
        """Let a client's balance go down to `-amount`."""
        return self._run(calls.set_credit_line(client_id, amount))

    def ledger(self, *, limit: int | None = None, cursor: str | None = None) -> LedgerPage:
        """A page of the whole ledger, the newest first."""
        return self._run(calls.list_ledger(limit, cursor))

    def iter_ledger(self, *, page_size: int = 200) -> Iterator[TransferView]:
        """The whole ledger, the newest first."""
        for page in pages(lambda cursor: self.ledger(limit=page_size, cursor=cursor)):
            yield from page.entries

    def account_ledger(
        self,
        account_id: str,
        *,
        account: Account = "balance",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Statement:
        """A page of the postings of a client, a miner, `issued` or `fees`; `account="held"`: a client's escrow."""
        return self._run(calls.account_ledger(account_id, account, limit, cursor))

    def iter_account_ledger(
        self, account_id: str, *, account: Account = "balance", page_size: int = 200
    ) -> Iterator[LedgerEntry]:
        """All postings of an account, the newest first."""
        for page in pages(
            lambda cursor: self.account_ledger(account_id, account=account, limit=page_size, cursor=cursor)
        ):
            yield from page.entries

    def check_ledger(self, on_progress: Callable[[CheckProgress], object] | None = None) -> LedgerCheck:
        """Prove the whole ledger; `on_progress` is called as it gets on. Look at `sound`, and at `faults`."""
        return self._run(calls.check_ledger(on_progress))

    def payouts(self, *, status: str | None = None, limit: int | None = None, cursor: str | None = None) -> PayoutPage:
        """A page of payouts, the newest first."""
        return self._run(calls.list_payouts(status, limit, cursor))

    def iter_payouts(self, *, status: str | None = None, page_size: int = 200) -> Iterator[PayoutView]:
        """All payouts, the newest first."""
        for page in pages(lambda cursor: self.payouts(status=status, limit=page_size, cursor=cursor)):
            yield from page.payouts

    def payout(self, payout_id: str) -> PayoutView:
        """A payout."""
        return self._run(calls.get_payout(payout_id))

    def create_payout(
        self,
        miner_id: str,
        amount: Price | None = None,
        *,
        destination: str | None = None,
        idempotency_key: str | None = None,
    ) -> PayoutView:
        """A payout on behalf of a miner: of an amount or of all that is there, to its own destination or another."""
        return self._run(calls.create_payout(miner_id, amount, destination, idempotency_key))

    def approve_payout(self, payout_id: str) -> PayoutView:
        """Let it be paid."""
        return self._run(calls.approve_payout(payout_id))

    def reject_payout(self, payout_id: str, note: str = "") -> PayoutView:
        """Do not pay it; its amount goes back to the miner, who reads the note."""
        return self._run(calls.reject_payout(payout_id, note))

    def mark_payout_paid(self, payout_id: str, reference: str, note: str = "") -> PayoutView:
        """Say that it was paid, and under which reference of the bank or the chain."""
        return self._run(calls.mark_payout_paid(payout_id, reference, note))

    def miners(self, *, status: str | None = None, limit: int | None = None, cursor: str | None = None) -> MinerPage:
        """A page of miners, the newest first."""
        return self._run(calls.list_miners(status, limit, cursor))

    def iter_miners(self, *, status: str | None = None, page_size: int = 200) -> Iterator[MinerView]:
        """All miners, the newest first."""
        for page in pages(lambda cursor: self.miners(status=status, limit=page_size, cursor=cursor)):
            yield from page.miners

    def miner(self, miner_id: str) -> MinerDetail:
        """A miner, its work and its telemetry."""
        return self._run(calls.inspect_miner(miner_id))

    def why_miner(self, miner_id: str) -> MinerWhy:
        """Which queued jobs a miner does not get, which rule stops them, and what would change that."""
        return self._run(client_calls.why_miner(miner_id))

    def telemetry(self, miner_id: str, *, since: float | None = None, limit: int | None = None) -> TelemetryHistory:
        """How a miner did, a sample a minute, from an instant on."""
        return self._run(calls.miner_telemetry(miner_id, since, limit))

    def approve(self, miner_id: str) -> MinerView:
        """Let a pending or suspended miner work."""
        return self._run(calls.approve_miner(miner_id))

    def suspend(self, miner_id: str, reason: str = "") -> MinerView:
        """Give a miner no more jobs; what it holds it may finish."""
        return self._run(calls.suspend_miner(miner_id, reason))

    def retire(self, miner_id: str) -> MinerView:
        """End a miner for good: its jobs go back and its keys end."""
        return self._run(calls.retire_miner(miner_id))

    def set_limits(
        self,
        miner_id: str,
        *,
        requests_per_minute: int | None = None,
        job_operations_per_minute: int | None = None,
    ) -> MinerView:
        """Set both limits of a miner: a number, 0 for none, `None` for the coordinator's setting."""
        return self._run(calls.set_limits(miner_id, requests_per_minute, job_operations_per_minute))

    def rotate_key(self, account_id: str, grace: float = 0.0, *, idempotency_key: str | None = None) -> NewKey:
        """A new key, shown this once. The old ones go on working for `grace` seconds."""
        return self._run(calls.rotate_key(account_id, grace, idempotency_key))

    def revoke_keys(self, account_id: str) -> Revoked:
        """End all keys of a miner or a client."""
        return self._run(calls.revoke_keys(account_id))

    def create_enrollment_token(
        self, uses: int = 1, expires_in: float = 604_800.0, *, idempotency_key: str | None = None
    ) -> EnrollmentToken:
        """A token to register with, shown this once; it works for `expires_in` seconds."""
        return self._run(calls.create_enrollment_token(uses, expires_in, idempotency_key))

    def jobs(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        client_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """A page of everybody's jobs, the newest first."""
        return self._run(calls.list_all_jobs(status, model, client_id, limit, cursor))

    def iter_jobs(
        self, *, status: str | None = None, model: str | None = None, client_id: str | None = None, page_size: int = 200
    ) -> Iterator[JobView]:
        """Everybody's jobs, the newest first."""
        for page in pages(
            lambda cursor: self.jobs(status=status, model=model, client_id=client_id, limit=page_size, cursor=cursor)
        ):
            yield from page.jobs

    def why_job(self, job_id: str) -> JobWhy:
        """Why anybody's job waits: which rule keeps how many miners from it."""
        return self._run(client_calls.why_job(job_id))

    def cancel_job(self, job_id: str) -> JobView:
        """Cancel anybody's job."""
        return self._run(calls.cancel_any_job(job_id))

    def audit(self, *, limit: int | None = None, cursor: str | None = None) -> AuditPage:
        """A page of what operators did, the newest first."""
        return self._run(calls.audit_log(limit, cursor))

    def iter_audit(self, *, page_size: int = 200) -> Iterator[AuditEntry]:
        """Everything that operators did, the newest first."""
        for page in pages(lambda cursor: self.audit(limit=page_size, cursor=cursor)):
            yield from page.entries

    def overview(self) -> Overview:
        """The exchange in numbers."""
        return self._run(calls.overview())

    def health(self) -> Health:
        """Whether the coordinator serves."""
        return self._run(calls.health())
