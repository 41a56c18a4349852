"""What several tests need: an exchange over a real database, on a clock that the test moves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pithead.core.jobs import Job
from pithead.core.receipts import Receipt, verify
from pithead.exchange import accounts, dispatch, jobs, ledger, miners, payouts, upkeep
from pithead.exchange.dispatch import Measured, Outcome
from pithead.exchange.events import Event
from pithead.exchange.ids import new_id, new_key, new_token
from pithead.exchange.jobs import Order
from pithead.exchange.miners import Registration
from pithead.exchange.ports import Signed, Ticket
from pithead.exchange.rules import Rules
from pithead.store.batches import Batches, Item
from pithead.store.postgres import connect, write
from pithead.store.signing import ReceiptSigner
from pithead.store.sqlite import SqliteStore, SqliteTx
from pithead.store.tx import SqlTx

T = TypeVar("T")

HASH = "sha256:" + "ab" * 32
OTHER_HASH = "sha256:" + "cd" * 32


class TestSigner(ReceiptSigner):
    """A key that is made for one test, and lies nowhere."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__(Path())
        key = Ed25519PrivateKey.generate()
        self._public = key.public_key()
        self.use(key)

    def check(self, receipt: Receipt, ticket: Ticket) -> Signed:
        """What the ticket is good for, which must be this signer's signature of this receipt."""
        signed = ticket.signed()
        assert signed.key_id == self.key_id
        assert verify(receipt, signed.signature, self._public, signed.proof)
        return signed


class Exchange:
    """Operations on a database, one transaction each, at the time that `now` says."""

    def __init__(self, folder: Path, rules: Rules | None = None, database: str = "") -> None:
        """Over an embedded database in the folder, or over the PostgreSQL database that this setting names."""
        self._shared = connect(database, "test") if database else None
        if self._shared is None:
            self.store = SqliteStore(folder / "pithead.db")
            self.batches = Batches(self.store.writing)
        self.rules = rules or Rules()
        self.signer = TestSigner()
        self.now = 1_000_000.0
        self.events: list[Event] = []

    def do(self, operation: Callable[[SqlTx, float], T]) -> T:
        """Run one operation in a transaction of its own; a refusal leaves nothing behind."""
        if self._shared is not None:
            outcome, events = write(self._shared, lambda tx: operation(tx, self.now))
            self.events.extend(events)
            return outcome
        item = Item(lambda tx: operation(cast(SqlTx, tx), self.now))
        self.store.writing.execute("BEGIN IMMEDIATE")
        try:
            events = self.batches.run([item])
        except BaseException:
            self.store.writing.execute("ROLLBACK")
            self.batches.memory.forget()
            raise
        self.store.writing.execute("COMMIT")
        if item.failure is not None:
            raise item.failure
        self.events.extend(events)
        return cast(T, item.outcome)

    def recall(self) -> None:
        """What the writer remembers is what is stored."""
        if self._shared is not None:
            return
        memory, tx = self.batches.memory, SqliteTx(self.store.writing)
        assert not memory.moves, "no move of a balance outlives its batch"
        assert not any(memory.later.values()), "nor does a row that is written later"
        for miner in memory.miners.values():
            assert tx.miner_by_id(miner.id) == miner == tx.miner_by_seq(miner.seq)
        for client in memory.clients.values():
            assert tx.client_by_id(client.id) == client == tx.client_by_seq(client.seq)
        for account, balance in memory.balances.items():
            assert tx.balance(account) == balance
        for miner_seq, count in memory.counts.items():
            assert tx.held_count(miner_seq) == count
        for job in memory.jobs.values():
            assert tx.job_by_id(job.id) == job
            assert job.miner is None or job.id in memory.holders[job.miner]
        assert {name for names in memory.holders.values() for name in names} <= memory.jobs.keys()
        numbers = {job.seq: job for job in memory.jobs.values()}
        assert memory.inputs.keys() <= numbers.keys()
        for seq, body in memory.inputs.items():
            assert tx.job_work(seq) == (body, None)
        for seq, attempt in memory.attempts.items():
            assert numbers[seq].attempts == attempt.number
            assert tx.newest_attempt(seq, attempt.miner, attempt.token) == attempt
            assert tx.newest_attempt(seq, attempt.miner, None) == attempt

    def close(self) -> None:
        if self._shared is None:
            self.store.close()
        else:
            self._shared.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database says, asked past the store."""
        execute = self.store.writing.execute if self._shared is None else self._shared.execute
        return [tuple(row) for row in execute(query).fetchall()]

    def sweep(self) -> upkeep.Swept:
        """Let what is due happen, after a time in which the coordinator was up."""
        self.do(lambda tx, now: tx.set_alive(now))
        return self.do(lambda tx, now: upkeep.sweep(tx, now, self.rules))

    # -- the common steps

    def client(self, credit: float = 100.0) -> str:
        client_id = new_id("client")
        self.do(lambda tx, now: accounts.create_client(tx, now, "operator", client_id, new_key(), "lab", credit))
        return client_id

    def miner(self, **registration: Any) -> str:
        """A miner that is active: registered, and heard of once."""
        miner_id = new_id("miner")
        given: dict[str, Any] = {
            "name": "m", "gpu_type": "v100", "gpu_count": 1, "location": "x", "price_per_hour": 0.0, "max_concurrent": 4,
        } | registration  # fmt: skip
        self.do(
            lambda tx, now: miners.register(
                tx, now, self.rules, miner_id=miner_id, key=new_key(), registration=Registration(**given), token=None
            )
        )
        self.beat(miner_id)
        return miner_id

    def beat(self, miner_id: str, *names: str) -> miners.Beat:
        return self.do(lambda tx, now: miners.heartbeat(tx, now, self.rules, miner_id, names))

    def submit(self, client_id: str, **order: Any) -> str:
        given: dict[str, Any] = {
            "model": "gpt2", "input": b"{}", "price": 0.05, "gpu_type": "v100", "gpu_count": 1, "estimated_time": 600.0,
            "priority": 0, "timeout": None, "attempt_timeout": None, "max_attempts": None, "require_result": False,
        } | order  # fmt: skip
        job_id = new_id("job")
        self.do(lambda tx, now: jobs.submit(tx, now, self.rules, client_id, [Order(**given)], [job_id], batch=False))
        return job_id

    def accept(self, miner_id: str, job_id: str) -> dispatch.Assigned:
        return self.do(lambda tx, now: dispatch.accept(tx, now, self.rules, miner_id, job_id, new_token("lease")))

    def complete(
        self,
        miner_id: str,
        job_id: str,
        result_hash: str = HASH,
        token: str | None = None,
        gpu_time: float | None = None,
    ) -> Outcome:
        return self.do(
            lambda tx, now: dispatch.complete(
                tx, now, self.rules, self.signer, miner_id=miner_id, job_id=job_id, token=token,
                result_hash=result_hash, measured=Measured(gpu_time, b"{}"),
            )
        )  # fmt: skip

    def fail(self, miner_id: str, job_id: str, kind: str = "error", token: str | None = None) -> Job:
        return self.do(
            lambda tx, now: dispatch.fail(
                tx, now, self.rules, miner_id=miner_id, job_id=job_id, token=token, kind=kind, reason="no luck"
            )
        )

    def release(self, miner_id: str, job_id: str, token: str | None = None) -> Job:
        return self.do(
            lambda tx, now: dispatch.release(tx, now, self.rules, miner_id=miner_id, job_id=job_id, token=token)
        )

    def progress(self, miner_id: str, job_id: str, fraction: float | None, token: str | None = None) -> Job:
        return self.do(
            lambda tx, now: dispatch.report_progress(
                tx, miner_id=miner_id, job_id=job_id, token=token, fraction=fraction, message=""
            )
        )

    def cancel(self, job_id: str, client_id: str | None = None) -> Job:
        return self.do(lambda tx, now: jobs.cancel(tx, now, job_id, client_id))

    def job(self, job_id: str) -> Job:
        job = self.do(lambda tx, now: tx.job_by_id(job_id))
        assert job is not None
        return job

    def balance(self, client_id: str) -> int:
        return self.do(lambda tx, now: tx.balance(jobs.client(tx, client_id).seq))

    # -- what only the tables tell

    def payments(self) -> dict[str, int]:
        """How often each job was paid for; those that were not are absent."""
        rows = self.rows(
            "SELECT j.id, count(*) FROM transfers t JOIN jobs j ON j.seq = t.job WHERE cause = 'payment' GROUP BY 1"
        )
        return dict(rows)

    def outcomes(self, miner_id: str) -> list[str]:
        """How each of the miner's attempts ended; those that go on are absent."""
        rows = self.rows(
            "SELECT outcome FROM attempts a JOIN miners m ON m.seq = a.miner"
            f" WHERE m.id = '{miner_id}' AND outcome IS NOT NULL"
        )
        return [outcome for (outcome,) in rows]

    def send_to(self, miner_id: str, destination: str) -> None:
        """Say where the miner's payouts are to go."""
        said = Registration(payout_destination=destination, keep_models=True)
        self.do(lambda tx, now: miners.update(tx, miner_id, said))

    def payout(self, miner_id: str, amount: float | None = None) -> str:
        """A payout that the miner asks for; its id."""
        payout_id = new_id("payout")
        self.do(lambda tx, now: payouts.request(tx, now, self.rules, miner_id, payout_id, amount, "an account"))
        return payout_id

    def pay(self, payout_id: str, reference: str = "x") -> None:
        """Approve a payout and pay it."""
        self.do(lambda tx, now: payouts.approve(tx, now, "operator", payout_id))
        self.do(lambda tx, now: payouts.mark_paid(tx, now, "operator", payout_id, reference, ""))

    def account(self, account_id: str, *, held: bool = False) -> int:
        """The number of an account."""
        return self.do(lambda tx, now: ledger.account(tx, account_id, held=held))

    def holds(self, account: int) -> int:
        """What the account of that number holds."""
        return self.do(lambda tx, now: tx.balance(account))

    def check(self) -> list[tuple[str, str, str]]:
        """What a check of the ledger finds: kind, subject and fault of each."""
        return [(f.kind, f.subject, f.message) for f in self.do(lambda tx, now: ledger.check(tx)).faults]

    def assert_ledger_is_sound(self) -> None:
        """The sum of all balances is 0, and each is the sum of its transfers; and the check of the ledger agrees."""
        assert self.check() == []
        assert self.rows("SELECT sum(balance) FROM accounts") == [(0,)]
        drift = self.rows(
            """SELECT a.seq, a.balance FROM accounts a WHERE a.balance <>
               coalesce((SELECT sum(amount) FROM transfers WHERE credit = a.seq), 0)
             - coalesce((SELECT sum(amount) FROM transfers WHERE debit = a.seq), 0)"""
        )
        assert drift == []
        held = self.rows("SELECT coalesce(sum(balance), 0) FROM accounts WHERE kind = 'escrow'")
        open_prices = self.rows(
            "SELECT coalesce(sum(price), 0) FROM jobs WHERE state IN ('queued', 'assigned', 'running', 'uploading')"
        )
        assert held == open_prices
