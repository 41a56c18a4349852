"""What the database says once everything has stopped, on either database in the same words."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from sqlcipher3 import dbapi2


class JobFact(msgspec.Struct, frozen=True):
    """A job. `key` and `number`: the idempotency key of its submit, and its place in the batch, from its input."""

    id: str
    client: str
    price: int
    state: str
    miner: str | None
    completed_attempt: int | None
    result_hash: str | None
    key: str
    number: int


class AttemptFact(msgspec.Struct, frozen=True):
    """A lease that was given, and how it ended."""

    job: str
    number: int
    miner: str
    token: str
    accepted_at: float
    ended_at: float | None
    outcome: str | None
    digest: str | None


class TransferFact(msgspec.Struct, frozen=True):
    """A posting. Accounts are named by kind and owner, such as `miner miner_x`."""

    cause: str
    debit: str
    credit: str
    amount: int
    job: str | None
    payout: str | None
    note: str


class PayoutFact(msgspec.Struct, frozen=True):
    """A payout."""

    id: str
    miner: str
    amount: int
    state: str
    reference: str


class Facts(msgspec.Struct, frozen=True):
    """All of it. `ledger_faults`: what the coordinator's own check of the ledger found."""

    jobs: list[JobFact]
    attempts: list[AttemptFact]
    transfers: list[TransferFact]
    payouts: list[PayoutFact]
    balances: dict[str, int]
    ledger_faults: list[str] = []


_JOBS = """
    SELECT j.id, c.id, j.price, j.state, m.id, j.completed_attempt, j.result_hash, i.body FROM jobs j
    JOIN clients c ON c.seq = j.client JOIN inputs i ON i.job = j.seq LEFT JOIN miners m ON m.seq = j.miner
"""
_ATTEMPTS = """
    SELECT j.id, a.number, m.id, a.token, a.accepted_at, a.ended_at, a.outcome, a.upload_digest FROM attempts a
    JOIN jobs j ON j.seq = a.job JOIN miners m ON m.seq = a.miner ORDER BY a.job, a.number
"""
_TRANSFERS = """
    SELECT t.cause, d.kind || ' ' || d.owner, c.kind || ' ' || c.owner, t.amount, j.id, p.id, t.note FROM transfers t
    JOIN accounts d ON d.seq = t.debit JOIN accounts c ON c.seq = t.credit
    LEFT JOIN jobs j ON j.seq = t.job LEFT JOIN payouts p ON p.seq = t.payout ORDER BY t.seq
"""
_PAYOUTS = (
    "SELECT p.id, m.id, p.amount, p.state, p.reference FROM payouts p JOIN miners m ON m.seq = p.miner ORDER BY p.seq"
)
_BALANCES = "SELECT kind || ' ' || owner, balance FROM accounts ORDER BY seq"


def of_sqlite(file: Path) -> Facts:
    """The facts of an embedded database."""
    with contextlib.closing(dbapi2.connect(str(file))) as connection:
        return _facts(lambda query: connection.execute(query).fetchall())


def of_postgres(connection: psycopg.Connection) -> Facts:
    """The facts of a PostgreSQL database."""
    return _facts(lambda query: connection.execute(query.encode()).fetchall())


def _facts(rows: Callable[[str], list[tuple[Any, ...]]]) -> Facts:
    return Facts(
        jobs=list(_jobs(rows(_JOBS))),
        attempts=[AttemptFact(*row) for row in rows(_ATTEMPTS)],
        transfers=[TransferFact(*row) for row in rows(_TRANSFERS)],
        payouts=[PayoutFact(*row) for row in rows(_PAYOUTS)],
        balances=dict(rows(_BALANCES)),
    )


def _jobs(rows: list[tuple[Any, ...]]) -> Iterator[JobFact]:
    for job, client, price, state, miner, completed_attempt, result_hash, body in rows:
        order = json.loads(bytes(body))
        yield JobFact(job, client, price, state, miner, completed_attempt, result_hash, order["key"], order["number"])
