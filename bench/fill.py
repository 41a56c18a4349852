"""The databases: one made by the exchange's own operations, a larger one made of it by multiplying its queue."""

import shutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from bench import bulk, fleet
from bench.fleet import Fleet, Kind
from bench.progress import Say, silent
from pithead.core.receipts import Receipt
from pithead.exchange import accounts, dispatch, jobs, miners
from pithead.exchange.dispatch import Measured
from pithead.exchange.ids import new_id, new_key, new_token
from pithead.exchange.jobs import Order
from pithead.exchange.miners import Registration
from pithead.exchange.ports import Signed, Tx
from pithead.exchange.rules import Rules
from pithead.store.sqlite import SqliteStore, SqliteTx

#: Covers every job of a run.
_CREDIT: Final = 10_000_000.0
FILE: Final = "pithead.db"
#: Jobs of a history that are made by the exchange's own operations; the rest are copies of them.
_PATTERN: Final = 1000
#: The digits of ids, as in `new_id`. The first nine tell the millisecond; the first seven of them, all but its last ten bits.
#: A tick is as long as those: what is copied comes a tick after what it was copied from, and only these seven are other.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TICK: Final = 10
_ID: Final = "'job_' || :tick || substr(id, 12)"
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
    # As the servers of a run have it: to fill a large database takes longer than a miner may be silent by default.
    rules, now = Rules(offline_after=fleet.SILENT_FOR), time.time()
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


def multiply(source: Path, target: Path, times: int, say: Say = silent) -> None:
    """A copy of a filled database, its queue `times` as long, each job with its input and its price set aside.

    Through `submit` a million would take a minute; this leaves the same rows in seconds. Raises `NoRoomError`, and what is
    at the target then is of no use; so does `finish`.
    """
    target.mkdir(parents=True)
    shutil.copyfile(source / FILE, target / FILE)
    with bulk.opened(target / FILE) as db:
        jobs, span, newest = db.execute("SELECT count(*), max(seq), max(id) FROM jobs").fetchone()
        if not jobs:
            return
        # The ids go back in time, so that those of jobs to come sort behind all of them.
        first = _tick_of(newest) - times
        db.execute("UPDATE jobs SET id = 'job_' || ? || substr(id, 12)", (_of_tick(first),))
        bulk.repeat(
            db,
            [
                bulk.Table("jobs", "TRUE", {"seq": "seq + :moved", "id": _ID}),
                bulk.Table("inputs", "TRUE", {"job": "job + :moved"}),
                # Only the holds: the opening credit is about no job.
                bulk.Table("transfers", "job IS NOT NULL", {"seq": "NULL", "job": "job + :moved"}),
            ],
            times,
            lambda number: {"moved": number * span, "tick": _of_tick(first + number)},
            lambda number: say("filling the queue", number * jobs, times * jobs),
        )


def finish(folder: Path, count: int, say: Say = silent) -> None:
    """Give the database a history: `count` completed jobs with their attempts and what was paid for them.

    `count` is a number of whole thousands, or less than one. The first thousand are done by the exchange's own operations,
    one each millisecond, and what follows is copied from them, a tick later each time. Raises `NoRoomError`.
    """
    some = min(count, _PATTERN)
    if count % some:
        raise ValueError(f"a history has whole thousands of jobs, not {count}")
    times = count // some
    first = (int(time.time() * 1000) >> _TICK) - times
    store = SqliteStore(folder / FILE)
    store.writing.execute("BEGIN IMMEDIATE")
    seq, miner_id = _history(SqliteTx(store.writing), first, some)
    store.writing.execute("COMMIT")
    store.close()
    times_on = {
        name: f"{name} + :later" for name in ("created_at", "accepted_at", "ended_at", "finished_at", "deadline")
    }
    with bulk.opened(folder / FILE) as db:
        bulk.repeat(
            db,
            [
                bulk.Table("jobs", f"seq >= {seq}", times_on | {"seq": "seq + :moved", "id": _ID}),
                bulk.Table("inputs", f"job >= {seq}", {"job": "job + :moved"}),
                bulk.Table(
                    "attempts",
                    f"job >= {seq}",
                    times_on
                    | {
                        "job": "job + :moved",
                        "token": "'lease_' || :tick || substr(token, 14)",
                        "receipt_id": "'receipt_' || :tick || substr(receipt_id, 16)",
                    },
                ),
                bulk.Table("transfers", f"job >= {seq}", {"seq": "NULL", "at": "at + :later", "job": "job + :moved"}),
            ],
            times,
            lambda number: {
                "moved": number * some,
                "tick": _of_tick(first + number),
                "later": number * (1 << _TICK) / 1000,
            },
            lambda number: say("filling the history", number * some, count),
        )
        counts = ("completed", "completion_seconds", "gpu_seconds", "earnings")
        db.execute(
            f"UPDATE miners SET {', '.join(f'{name} = {name} * :times' for name in counts)} WHERE id = :id",
            {"times": times, "id": miner_id},
        )


def _history(tx: Tx, first: int, count: int) -> tuple[int, str]:
    """So many completed jobs, a client's and a miner's who do nothing else: the number of the first, and the miner."""
    rules, began = Rules(), (first << _TICK) / 1000
    client_id, miner_id = new_id("client"), new_id("miner")
    accounts.create_client(tx, began, "bench", client_id, new_key(), "history", _CREDIT)
    registration = Registration(
        name="history", gpu_type="history", gpu_count=1, location="", price_per_hour=0.0, max_concurrent=1
    )
    miners.register(tx, began, rules, miner_id=miner_id, key=new_key(), registration=registration, token=None)
    miners.heartbeat(tx, began, rules, miner_id, ())
    past, signer, seqs = order(Kind("history", "gpt2", 0.05)), Signer(), []
    for number in range(count):
        now, job_id = began + number / 1000, id_at("job", (first << _TICK) + number)
        (job,) = jobs.submit(tx, now, rules, client_id, [past], [job_id], batch=False)
        seqs.append(job.seq)
        dispatch.accept(tx, now, rules, miner_id, job.id, new_token("lease"))
        call = partial(dispatch.complete, miner_id=miner_id, job_id=job.id, token=None)
        call(tx, now + 1, rules, signer, result_hash=HASH, measured=Measured(1.0, b"{}"))
    return seqs[0], miner_id


def id_at(prefix: str, ms: int) -> str:
    """An identifier as `new_id` would have made it in that millisecond."""
    return prefix + "_" + _digits(ms, 9) + new_id(prefix)[-11:]


def _digits(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(count)))


def _of_tick(tick: int) -> str:
    """The first seven digits of an id of that tick."""
    return _digits(tick, 7)


def _tick_of(job_id: str) -> int:
    """The tick in which a job's id was made."""
    value = 0
    for character in job_id[4:11]:
        value = value << 5 | _ALPHABET.index(character)
    return value


class Signer:
    """Signs nothing: nobody checks a receipt of the history."""

    key_id = "0" * 16
    public_key = bytes(32)

    def sign(self, receipt: Receipt) -> str:
        """None."""
        return ""

    def enlist(self, receipt: Receipt) -> Signed:
        """None either."""
        return Signed(self.key_id, "")

    def again(self, receipt: Receipt) -> Signed:
        """Nor here."""
        return Signed(self.key_id, "")
