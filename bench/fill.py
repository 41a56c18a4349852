"""The databases: one made by the exchange's own operations, a larger one made of it by multiplying its queue."""

import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Final

from sqlcipher3 import dbapi2

from bench import fleet
from bench.fleet import Fleet, Kind
from pithead.exchange import accounts, jobs, miners
from pithead.exchange.ids import new_id, new_key
from pithead.exchange.jobs import Order
from pithead.exchange.miners import Registration
from pithead.exchange.rules import Rules
from pithead.store.sqlite import SqliteStore, SqliteTx

#: Covers every job of a run.
_CREDIT: Final = 10_000_000.0
FILE: Final = "pithead.db"


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


def fill(folder: Path, miner_count: int, job_count: int) -> Fleet:
    """Make a database with a client, active miners and queued jobs."""
    store, rules, now = SqliteStore(folder / FILE), Rules(), time.time()
    tx = SqliteTx(store.writing)
    store.writing.execute("BEGIN IMMEDIATE")
    client_id, client_key = new_id("client"), new_key()
    accounts.create_client(tx, now, "bench", client_id, client_key, "bench", _CREDIT)
    registered = [_register(tx, now, rules, number) for number in range(miner_count)]
    orders = [order(kind) for kind in islice(fleet.kinds(), job_count)]
    jobs.submit(tx, now, rules, client_id, orders, [new_id("job") for _ in orders], batch=True)
    store.writing.execute("COMMIT")
    store.close()
    return Fleet(registered, client_key)


def _register(tx: SqliteTx, now: float, rules: Rules, number: int) -> fleet.Miner:
    gpu_type = fleet.GPU_TYPES[number % len(fleet.GPU_TYPES)]
    models = fleet.models_of(number)
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


def _copy(db: dbapi2.Connection, table: str, changed: dict[str, str], times: int, where: str = "TRUE") -> None:
    """Add `times - 1` copies of a table's rows, with some columns `changed` to an expression (`copy.n` from 1)."""
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(changed.get(column, column) for column in columns)
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)})"
        f" WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < {times - 1})"
        f" SELECT {values} FROM copy CROSS JOIN (SELECT * FROM {table} WHERE {where})"
    )
