"""The databases that the benchmark makes are sound, and its check sees one that is not."""

from pathlib import Path

import pytest
from bench.check import faults
from bench.fill import FILE, fill, finish, multiply
from sqlcipher3 import dbapi2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "few", miner_count=8, job_count=20)
    multiply(tmp_path / "few", tmp_path / "many", 5)
    return tmp_path


def _one(database: Path, query: str) -> object:
    db = dbapi2.connect(str(database), isolation_level=None)
    try:
        row = db.execute(query).fetchone()
        return row[0] if row else None
    finally:
        db.close()


@pytest.mark.parametrize(("name", "jobs"), [("few", 20), ("many", 100)])
def test_the_filled_databases_are_sound(folder: Path, name: str, jobs: int) -> None:
    database = folder / name / FILE
    assert faults(database, completed=0) == []
    for table in ("jobs WHERE state = 'queued'", "inputs", "transfers WHERE cause = 'hold'"):
        assert _one(database, f"SELECT count(*) FROM {table}") == jobs
    assert _one(database, "PRAGMA quick_check") == "ok"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE accounts SET balance = balance + 1 WHERE seq = 1", "all accounts together"),
        ("UPDATE jobs SET state = 'completed' WHERE seq = 1", "every completed job was paid"),
        ("UPDATE jobs SET state = 'assigned' WHERE seq = 1", "left in a miner's hands"),
        (
            "INSERT INTO transfers (at, cause, debit, credit, amount, job) SELECT 0, 'payment', 1, 2, 1, 1",
            "every payment is for a completed job",
        ),
    ],
)
def test_the_check_sees_what_is_wrong(folder: Path, change: str, found: str) -> None:
    _one(folder / "few" / FILE, change)
    assert found in " ".join(faults(folder / "few" / FILE, completed=0))


def test_the_check_compares_with_what_was_answered(folder: Path) -> None:
    assert faults(folder / "few" / FILE, completed=3) == ["it completed as many jobs as it said: expected 3, found 0"]


def test_a_history_is_sound_too(folder: Path) -> None:
    finish(folder / "few", 50)
    database = folder / "few" / FILE
    assert faults(database, completed=50) == []
    assert _one(database, "SELECT count(*) FROM attempts WHERE outcome = 'completed'") == 50
    assert _one(database, "PRAGMA foreign_key_check") is None
