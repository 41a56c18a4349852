"""The databases: one made by the exchange's own operations, a larger one made of it by multiplying its queue."""

import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from sqlcipher3 import dbapi2

from bench import fleet
from bench.fleet import Fleet, Kind
from pithead.core.money import escrow_of
from pithead.core.receipts import Receipt
from pithead.exchange import accounts, dispatch, jobs, miners
from pithead.exchange.dispatch import Measured
from pithead.exchange.ids import new_id, new_key, new_token
from pithead.exchange.jobs import Order
from pithead.exchange.miners import Registration
from pithead.exchange.ports import Tx
from pithead.exchange.rules import Rules
from pithead.store.sqlite import SqliteStore, SqliteTx

#: Covers every job of a run.
_CREDIT: Final = 10_000_000.0
FILE: Final = "pithead.db"
#: What completes a job.
HASH: Final = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def order(kind: Kind) -> Order:
    """A job of this kind, as a client would submit it."""
    return Order(
        model=kind.model,
        input=fleet.INPUT,
        price=kind.price,
        gpu_type=kind.gpu_type,
        gpu_count=1,
        estimated_time=fleet.ESTIMATED_TIME,
        priority=0,
        timeout=None,
        attempt_timeout=None,
        max_attempts=None,
        require_result=False,
    )


def fill(folder: Path, miner_count: int, job_count: int, idle: int = 1, kinds: Iterator[Kind] | None = None) -> Fleet:
    """Make a database with a client, active miners and queued jobs."""
    store = SqliteStore(folder / FILE)
    store.writing.execute("BEGIN IMMEDIATE")
    made = populate(SqliteTx(store.writing), miner_count, job_count, idle, kinds)
    store.writing.execute("COMMIT")
    store.close()
    return made


def populate(tx: Tx, miner_count: int, job_count: int, idle: int, kinds: Iterator[Kind] | None = None) -> Fleet:
    """The same within a transaction of whatever database."""
    rules, now = Rules(), time.time()
    client_id, client_key = new_id("client"), new_key()
    accounts.create_client(tx, now, "bench", client_id, client_key, "bench", _CREDIT)
    registered = [_register(tx, now, rules, number, fleet.models_of(number)) for number in range(miner_count)]
    waiting = [
        _register(tx, now, rules, number, (fleet.OWN_MODEL if number == 0 else "nothing-yet",))
        for number in range(idle)
    ]
    orders = [order(kind) for kind in islice(kinds or fleet.kinds(), job_count)]
    jobs.submit(tx, now, rules, client_id, orders, [new_id("job") for _ in orders], batch=True)
    return Fleet(registered, client_key, waiting)


def _register(tx: Tx, now: float, rules: Rules, number: int, models: tuple[str, ...] | None) -> fleet.Miner:
    gpu_type = fleet.GPU_TYPES[number % len(fleet.GPU_TYPES)]
    miner = fleet.Miner(new_id("miner"), new_key(), gpu_type, models)
    registration = Registration(
        name=f"miner-{number}",
        gpu_type=gpu_type,
        gpu_count=1,
        location="us-east",
        price_per_hour=fleet.PRICE_PER_HOUR,
        max_concurrent=fleet.MAX_CONCURRENT,
        models=None if models is None else frozenset(models),
    )
    miners.register(tx, now, rules, miner_id=miner.id, key=miner.key, registration=registration, token=None)
    miners.heartbeat(tx, now, rules, miner.id, ())
    return miner


def multiply(source: Path, target: Path, times: int) -> None:
    """A copy of a filled database, its queue `times` as long, each job with its input and its price set aside.

    Through `submit` a million would take a minute; this leaves the same rows in seconds.
    """
    target.mkdir(parents=True)
    shutil.copyfile(source / FILE, target / FILE)
    db = dbapi2.connect(str(target / FILE), isolation_level=None)
    # It is made again if the machine stops now; the server opens it with its own, durable settings.
    db.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = -262144")
    (span,) = db.execute("SELECT max(seq) FROM jobs").fetchone()
    db.execute("BEGIN")
    moved = f"+ copy.n * {span}"
    _copy(db, "jobs", {"seq": f"seq {moved}", "id": f"printf('job_%020d', seq {moved})"}, times)
    _copy(db, "inputs", {"job": f"job {moved}"}, times)
    # Only the holds: the opening credit is about no job.
    _copy(db, "transfers", {"seq": "NULL", "job": f"job {moved}"}, times, where="job IS NOT NULL")
    db.execute(
        "UPDATE accounts SET balance = (SELECT coalesce(sum(amount), 0) FROM transfers WHERE credit = accounts.seq)"
        " - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE debit = accounts.seq)"
        " WHERE kind IN ('client', 'escrow')"
    )
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def finish(folder: Path, count: int) -> None:
    """Give the database a history: `count` completed jobs with their attempts and what was paid for them.

    One is done by the exchange's own operations, and its rows are multiplied.
    """
    store, rules, now = SqliteStore(folder / FILE), Rules(), time.time()
    tx = SqliteTx(store.writing)
    store.writing.execute("BEGIN IMMEDIATE")
    client_id, miner_id = new_id("client"), new_id("miner")
    accounts.create_client(tx, now, "bench", client_id, new_key(), "history", _CREDIT)
    registration = Registration(
        name="history", gpu_type="history", gpu_count=1, location="", price_per_hour=0.0, max_concurrent=1
    )
    miner = miners.register(tx, now, rules, miner_id=miner_id, key=new_key(), registration=registration, token=None)
    miners.heartbeat(tx, now, rules, miner_id, ())
    past = order(Kind("history", "gpt2", 0.05))
    (job,) = jobs.submit(tx, now, rules, client_id, [past], [new_id("job")], batch=False)
    dispatch.accept(tx, now, rules, miner_id, job.id, new_token("lease"))
    measured = Measured(1.0, b"{}")
    dispatch.complete(
        tx, now + 1, rules, Signer(), miner_id=miner_id, job_id=job.id, token=None, result_hash=HASH, measured=measured
    )
    store.writing.execute("COMMIT")
    store.close()
    db = dbapi2.connect(str(folder / FILE), isolation_level=None)
    db.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = -1048576")
    db.execute("BEGIN")
    (top,) = db.execute("SELECT max(seq) FROM jobs").fetchone()
    moved, only = f"{top} + copy.n", f"seq = {job.seq}"
    _copy(db, "jobs", {"seq": moved, "id": f"printf('job_%020d', {moved})"}, count, where=only)
    for table in ("inputs", "attempts"):
        _copy(db, table, {"job": moved}, count, where=f"job = {job.seq}")
    _copy(db, "transfers", {"seq": "NULL", "job": moved}, count, where=f"job = {job.seq}")
    for account in (job.client, escrow_of(job.client), miner.seq):
        db.execute(
            "UPDATE accounts SET balance = (SELECT coalesce(sum(amount), 0) FROM transfers WHERE credit = :seq)"
            " - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE debit = :seq) WHERE seq = :seq",
            {"seq": account},
        )
    db.execute(
        "UPDATE miners SET completed = completed * :n, earnings = earnings * :n WHERE id = :id",
        {"n": count, "id": miner_id},
    )
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


class Signer:
    """Signs nothing: nobody checks a receipt of the history."""

    key_id = "0" * 16
    public_key = bytes(32)

    def sign(self, receipt: Receipt) -> str:
        """A signature's length."""
        return "A" * 88


def _copy(db: dbapi2.Connection, table: str, changed: dict[str, str], times: int, where: str = "TRUE") -> None:
    """Add `times - 1` copies of a table's rows, with some columns `changed` to an expression (`copy.n` from 1)."""
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(changed.get(column, column) for column in columns)
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)})"
        f" WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < {times - 1})"
        f" SELECT {values} FROM copy CROSS JOIN (SELECT * FROM {table} WHERE {where})"
    )
