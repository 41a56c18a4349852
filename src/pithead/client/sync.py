"""The SDK, blocking: `Client` for those with work, `MinerClient` for machines. Its awaited twin is `aio.py`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, Unpack

import httpx

from pithead.client import calls, follow
from pithead.client.calls import JobOptions, MinerOptions, Price
from pithead.client.drivers import SyncDriver
from pithead.client.errors import PitheadError
from pithead.client.files import Files, Rest, Uploading, named
from pithead.client.filing import FileCalls
from pithead.client.follow import AccountNews, JobNews
from pithead.client.keyed import Keyed, Mining
from pithead.client.mapping import Ahead, Mapped
from pithead.client.results import Part
from pithead.client.watch import Watch
from pithead.wire.events import OutputPiece
from pithead.wire.jobs import (
    ClientView,
    JobPage,
    JobView,
    SubmitJob,
    Submitted,
    SubmittedBatch,
)
from pithead.wire.ledger import Earnings, EarningsBy, LedgerEntry, Statement
from pithead.wire.miners import (
    Assignment,
    Available,
    Completed,
    FailureKind,
    HeartbeatAnswer,
    Metrics,
    MinerView,
    Orders,
    Progressed,
    ReceiptKeys,
    Registered,
    RegisterMiner,
    Returned,
    Stats,
    Uploaded,
    UploadState,
)
from pithead.wire.payouts import MinerPayouts, PayoutView
from pithead.wire.why import JobWhy, MinerWhy


class _Page(Protocol):
    next_cursor: str | None


P = TypeVar("P", bound=_Page)


def pages(fetch: Callable[[str | None], P]) -> Iterator[P]:
    """Every page, each fetched when it is asked for."""
    page = fetch(None)
    yield page
    while page.next_cursor is not None:
        page = fetch(page.next_cursor)
        yield page


class Client(FileCalls, Keyed):
    """A client of the exchange: submits jobs and fetches what comes of them.

    `timeout`: seconds for one answer. `retry_for`: seconds in which a call that met a dropped connection, a busy
    coordinator or a rate limit is tried again; 0 is never. Every call is safe to repeat: a submit carries an
    idempotency key. All calls raise `PitheadError` and its kinds.
    """

    def submit(
        self,
        model: str,
        input: Any,
        *,
        price: Price,
        files: Files | None = None,
        on_upload: Uploading | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Submitted:
        """Submit a job; `input` is any JSON value. With an `idempotency_key` of your own, submitting again gives the same job.

        `files`: paths, each a file of the job under its own name, or paths by the names that the job is to give them.
        Those that the account does not have are uploaded first; `on_upload` is told of it.
        """
        job, hashes = calls.job_request(model, input, price, **options), dict[str, str]()
        for name, path in named(files).items():
            hashes[name] = (self._upload(name, path, on_upload)).sha256
        return self._run(calls.submit(calls.with_files(job, hashes), idempotency_key))

    def submit_batch(
        self, batch: Iterable[SubmitJob | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> SubmittedBatch:
        """Submit up to 1,000 jobs, all or none; a mapping has the arguments of `submit`."""
        return self._run(calls.submit_batch(batch, idempotency_key))

    def job(self, job_id: str, wait: float | None = None) -> JobView:
        """The job as it stands; with `wait` (at most 60 seconds), once it is finished or the time is up."""
        return self._run(calls.job(job_id, wait))

    def jobs(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """A page of the client's jobs, the newest first."""
        return self._run(calls.list_jobs(status, model, limit, cursor))

    def iter_jobs(
        self, *, status: str | None = None, model: str | None = None, page_size: int = 200
    ) -> Iterator[JobView]:
        """All of the client's jobs, the newest first, fetched as they are asked for."""
        for page in pages(lambda cursor: self.jobs(status=status, model=model, limit=page_size, cursor=cursor)):
            yield from page.jobs

    def why(self, job_id: str) -> JobWhy:
        """Why the job waits: which rule keeps how many miners from it, and from which price on more would fit."""
        return self._run(calls.why_job(job_id))

    def cancel(self, job_id: str) -> JobView:
        """Cancel the job; its price goes back."""
        return self._run(calls.cancel(job_id))

    def wait(
        self,
        job_id: str,
        timeout: float | None = None,
        on_update: Callable[[JobView], object] | None = None,
    ) -> JobView:
        """Wait until the job is finished, in whichever way: look at its `status`.

        `on_update` is called with the job as first seen and upon each change seen. Raises `WaitTimeout` after
        `timeout` seconds.
        """
        watch = Watch(job_id, timeout, on_update, self._clock())
        while True:
            job = self._run(watch.poll(self._clock()))
            pause = watch.saw(job, self._clock())
            if pause is None:
                return job
            self._sleep(pause)

    def events(self, job_id: str, after: str | None = None) -> Iterator[JobNews]:
        """What happens to the job, as it happens, until it is finished; `after`: from behind the event of this id on.

        A connection that breaks is made again, for `retry_for` seconds from the last event, and nothing is missed.
        """
        yield from self._follow(follow.job(job_id, after))

    def output(self, job_id: str) -> Iterator[OutputPiece]:
        """What the work brings forth, as it comes, until the job is finished. What counts is the result.

        With another `attempt` than before, what came before is void: another miner began anew.
        """
        for event in self.events(job_id):
            if isinstance(event.data, OutputPiece):
                yield event.data

    def account_events(self, after: str | None = None) -> Iterator[AccountNews]:
        """What happens to all of the client's jobs, as it happens, without end; `after`: from behind the event of this id on.

        A `Sync` that is not `resumed` means that something may have been missed: read anew what you show.
        """
        yield from self._follow(follow.account(after))

    def result(self, job_id: str) -> bytes:
        """The bytes of the result, checked against their digest. Raises `Corrupted`; `Conflict` while there is none."""
        return self._run(calls.result(job_id))

    def map(
        self,
        model: str,
        inputs: Iterable[Any],
        *,
        price: Price,
        in_flight: int = 32,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Iterator[Mapped]:
        """Have every input worked on, and give what came of each, in the order of the inputs.

        Up to `in_flight` jobs are submitted ahead of the one whose result is given next; inputs are taken as they are
        needed. A job that was not completed is given too: look at `completed`. Where the caller stops early, what is
        still on its way is cancelled. With an `idempotency_key`, which is to be no other caller's, it is left to run:
        the same inputs, mapped again with it, are the same jobs. Raises what `submit` raises.
        """
        ahead = Ahead(inputs, in_flight, idempotency_key)
        try:
            while True:
                while (following := ahead.next_input()) is not None:
                    work, key = following
                    ahead.submitted((self.submit(model, work, price=price, idempotency_key=key, **options)).job_id)
                oldest = ahead.oldest()
                if oldest is None:
                    return
                index, job_id = oldest
                job = self.wait(job_id)
                data = self.result(job_id) if job.status == "completed" and job.result_size is not None else None
                ahead.given()
                yield Mapped(index=index, job=job, data=data)
        finally:
            for job_id in ahead.given_up():
                with contextlib.suppress(PitheadError):
                    self.cancel(job_id)

    def download(self, job_id: str, path: str | os.PathLike[str]) -> Path:
        """The result into a file, which appears at `path` only once it is whole and checked."""
        with Part(job_id, path) as part:
            return self._run(calls.download(part))

    def me(self) -> ClientView:
        """The client's account and balance."""
        return self._run(calls.me())

    def ledger(
        self, *, account: calls.Account = "balance", limit: int | None = None, cursor: str | None = None
    ) -> Statement:
        """A page of the account's postings, the newest first; `account="held"`: of what is set aside for jobs."""
        return self._run(calls.my_ledger(account, limit, cursor))

    def iter_ledger(self, *, account: calls.Account = "balance", page_size: int = 200) -> Iterator[LedgerEntry]:
        """All of the account's postings, the newest first, fetched as they are asked for."""
        for page in pages(lambda cursor: self.ledger(account=account, limit=page_size, cursor=cursor)):
            yield from page.entries


class MinerClient(Mining):
    """A miner's side of the exchange. `retry_for`: as for `Client`; an agent with a loop of its own may set 0."""

    @staticmethod
    def register(
        url: str,
        request: RegisterMiner | None = None,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Registered:
        """Register a machine, given as a `RegisterMiner` or by its fields. The key in the answer is shown this once.

        With an `idempotency_key` of your own, which nobody else can come upon, registering again gives the same miner.
        """
        with SyncDriver(url, None, timeout=timeout, retry_for=retry_for, transport=transport) as driver:
            return driver._run(calls.register(request or calls.register_request(**fields), idempotency_key))

    def get(self) -> MinerView:
        """The miner as it stands."""
        return self._run(calls.get_miner(self.miner_id))

    def update(self, **fields: Unpack[MinerOptions]) -> MinerView:
        """Change the registration; what is not named stays."""
        return self._run(calls.update_miner(self.miner_id, fields))

    def deregister(self) -> MinerView:
        """End the registration for good: what the miner holds goes back to the queue, and its key ends.

        What was earned stays the miner's; only the operator can pay it out then. Made again it is `Unauthorized`.
        """
        return self._run(calls.deregister(self.miner_id))

    def heartbeat(
        self, jobs: Iterable[str] | None = None, telemetry: Mapping[str, Any] | None = None
    ) -> HeartbeatAnswer:
        """Say that the miner is there, and renew the leases of `jobs`, or of all that it holds where none is named."""
        return self._run(calls.heartbeat(self.miner_id, jobs, telemetry))

    def orders(self, wait: float | None = None, after: str | None = None) -> Orders:
        """What a heartbeat would tell; with `wait` and the `version` of the answer before, once there is something else."""
        return self._run(calls.orders(self.miner_id, wait, after))

    def available(self, limit: int | None = None, wait: float | None = None) -> Available:
        """The queued jobs that fit; with `wait` (at most 60 seconds), once there is one or the time is up."""
        return self._run(calls.available(self.miner_id, limit, wait))

    def accept(self, job_id: str) -> Assignment:
        """Take a job. Raises `Conflict` where another miner has it."""
        return self._run(calls.accept(self.miner_id, job_id))

    def complete(
        self,
        job_id: str,
        result_hash: str,
        metrics: Metrics | Mapping[str, Any] | None = None,
        lease_token: str | None = None,
    ) -> Completed:
        """Deliver, and be paid. `result_hash` is `sha256:` and the digest."""
        return self._run(calls.complete(self.miner_id, job_id, result_hash, metrics, lease_token))

    def fail(
        self,
        job_id: str,
        reason: str = "",
        kind: FailureKind = "error",
        lease_token: str | None = None,
    ) -> Returned:
        """Say that the work could not be done, and why."""
        return self._run(calls.fail(self.miner_id, job_id, reason, kind, lease_token))

    def release(self, job_id: str, lease_token: str | None = None) -> Returned:
        """Hand a job back undone; the attempt is not counted."""
        return self._run(calls.release(self.miner_id, job_id, lease_token))

    def progress(
        self,
        job_id: str,
        fraction: float | None = None,
        message: str = "",
        lease_token: str | None = None,
        *,
        output: str = "",
        output_offset: int = 0,
    ) -> Progressed:
        """Say how far the work is: `fraction` is 0 to 1; and what it brought forth behind the first `output_offset` characters."""
        said = calls.progress(self.miner_id, job_id, fraction, message, lease_token, output, output_offset)
        return self._run(said)

    def upload(self, job_id: str, data: bytes | Path, lease_token: str | None = None) -> Uploaded:
        """Send the bytes of the result; a path is streamed. A large one that broke off is gone on with."""
        return self._run(calls.upload(self.miner_id, job_id, data, lease_token))

    def upload_state(self, job_id: str, lease_token: str | None = None) -> UploadState:
        """How far the upload of a result is."""
        return self._run(calls.upload_state(self.miner_id, job_id, lease_token))

    def fetch_input(self, job_id: str, rest: Rest, lease_token: str | None = None) -> int:
        """An input file of a job into the open file of `rest`, from where that ends; how many bytes it has in all.

        Raises `FileCorrupted`; `NotFound` and `Conflict` where the job is not held.
        """
        return self._run(calls.fetch_input(self.miner_id, job_id, rest, lease_token))

    def account_events(self, after: str | None = None) -> Iterator[AccountNews]:
        """What happens to the miner, its jobs and its payouts, as it happens, without end; as `Client.account_events`."""
        yield from self._follow(follow.account(after))

    def stats(self) -> Stats:
        """What the miner has done and earned."""
        return self._run(calls.stats(self.miner_id))

    def why(self) -> MinerWhy:
        """Which queued jobs the miner does not get, which rule stops them, and what would change that."""
        return self._run(calls.why_miner(self.miner_id))

    def earnings(self, by: EarningsBy = "day", *, since: float | None = None, until: float | None = None) -> Earnings:
        """What the miner was paid, added up by day (of UTC), model or client; `since` and `until` are instants."""
        return self._run(calls.earnings(self.miner_id, by, since, until))

    def request_payout(self, amount: Price | None = None, *, idempotency_key: str | None = None) -> PayoutView:
        """Ask for an amount of what was earned to be paid out; for all of it where none is given."""
        return self._run(calls.request_payout(self.miner_id, amount, idempotency_key))

    def payouts(self, *, limit: int | None = None, cursor: str | None = None) -> MinerPayouts:
        """What was earned and not asked for yet, and a page of the payouts, the newest first."""
        return self._run(calls.my_payouts(self.miner_id, limit, cursor))

    def receipt_keys(self) -> ReceiptKeys:
        """What `verify_receipt` checks a receipt with: fetch it once, and keep it."""
        return self._run(calls.receipt_keys())
