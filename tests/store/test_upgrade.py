"""A database that the first version wrote, brought up to date: nothing of it is lost, and its books are right."""

import hashlib
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2

from pithead.core.payouts import State
from pithead.exchange import ledger
from pithead.exchange.idempotency import Repeatable, once
from pithead.store.migrate import migrations
from pithead.store.sqlite import SqliteStore, SqliteTx

#: A client with 10 that had one job done for 2, has one queued for 1, and one cancelled.
HISTORY = """
INSERT INTO accounts (seq, owner, kind, balance) VALUES (100, 'client_1', 'client', 7000000),
    (101, 'client_1', 'escrow', 1000000), (102, 'miner_1', 'miner', 2000000);
UPDATE accounts SET balance = -10000000 WHERE seq = 1;
INSERT INTO clients (seq, id, name, created_at) VALUES (100, 'client_1', 'lab', 1);
INSERT INTO miners (seq, id, name, gpu_type, gpu_count, location, price_per_hour, max_concurrent, created_at, admission,
    completed, earnings) VALUES (102, 'miner_1', 'm', 'cpu', 1, 'x', 0, 1, 1, 'admitted', 1, 2000000);
INSERT INTO transfers (at, cause, debit, credit, amount, job) VALUES (1, 'credit', 1, 100, 10000000, NULL),
    (2, 'hold', 100, 101, 2000000, 1), (3, 'hold', 100, 101, 1000000, 2), (4, 'hold', 100, 101, 500000, 3),
    (5, 'refund', 101, 100, 500000, 3), (6, 'payment', 101, 102, 2000000, 1);
INSERT INTO idempotency (owner, key, at, fingerprint, status, body)
    VALUES ('client_1', 'order-1', 1, x'aa', 201, CAST('{"job_id":"job_1"}' AS BLOB));
"""
JOB = """
INSERT INTO jobs (seq, id, client, model, gpu_type, gpu_count, estimated_ms, price, rate, priority, timeout, max_attempts,
    require_result, created_at, deadline, state, attempts, failures, not_before, avoid_until, progress_message, miner, finished_at)
VALUES (?, ?, 100, 'gpt2', 'any', 1, 1000, ?, 0, 0, 60, 3, 0, 1, 61, ?, 1, 0, 0, 0, '', ?, ?)
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "pithead.db"
    connection = dbapi2.connect(str(path), isolation_level=None)
    number, text = migrations("sqlite")[0]
    connection.executescript(f"{text}\nPRAGMA user_version = {number};{HISTORY}")
    for seq, price, state, miner in (
        (1, 2_000_000, "completed", 102),
        (2, 1_000_000, "queued", None),
        (3, 500_000, "cancelled", None),
    ):
        connection.execute(JOB, (seq, f"job_{seq}", price, state, miner, None if state == "queued" else 5.0))
        connection.execute("INSERT INTO inputs (job, body) VALUES (?, x'7b7d')", (seq,))
    connection.close()
    return path


def test_the_books_are_right_and_go_on(old: Path) -> None:
    store = SqliteStore(old)
    found = store.read(ledger.check)
    assert (found.faulty, found.jobs, found.accounts, found.transfers) == (0, 3, 6, 6)
    miner = store.read(lambda tx: tx.miner_by_id("miner_1"))
    assert miner is not None
    assert (miner.earnings, miner.payout_destination) == (2_000_000, "")
    client = store.read(lambda tx: tx.client_by_id("client_1"))
    assert client is not None
    assert client.credit_line == 0
    lines = store.read(lambda tx: ledger.statement(tx, 100, None, 50)).lines
    assert [(line.entry.cause, line.balance) for line in lines] == [
        ("refund", 7_000_000), ("hold", 6_500_000), ("hold", 7_000_000), ("hold", 8_000_000), ("credit", 10_000_000),
    ]  # fmt: skip
    # The account for payouts is there, and so are the references between the tables.
    assert store.read(lambda tx: tx.balances_by_kind())["payouts"] == 0
    assert store.writing.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert store.writing.execute("PRAGMA foreign_key_check").fetchall() == []
    with pytest.raises(dbapi2.IntegrityError):
        store.writing.execute(
            "INSERT INTO payouts (id, miner, amount, destination, state, requested_at, reference, note) "
            "VALUES ('p', 999, 1, '', ?, 1, '', '')",
            (str(State.REQUESTED),),
        )
    for change in ("UPDATE transfers SET amount = 1", "DELETE FROM transfers"):
        with pytest.raises(dbapi2.IntegrityError, match="append-only"):
            store.writing.execute(change)
    store.close()


def test_answers_that_were_kept_stay_good(old: Path) -> None:
    store = SqliteStore(old)
    request = Repeatable("client_1", "order-1", b"\xaa", False)
    assert once(SqliteTx(store.writing), 2.0, request, lambda: (500, b"done again")) == (201, b'{"job_id":"job_1"}')
    ((name,),) = store.writing.execute("SELECT key_hash FROM idempotency").fetchall()
    assert name == hashlib.sha256(b"order-1").hexdigest()
    store.close()


def test_opening_it_again_changes_nothing(old: Path) -> None:
    SqliteStore(old).close()
    before = old.read_bytes()
    SqliteStore(old).close()
    assert old.read_bytes() == before
