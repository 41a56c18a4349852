"""The databases that the benchmark makes are sound, and its check sees one that is not."""

import shutil
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from bench import bulk
from bench.bulk import NoRoomError
from bench.check import faults
from bench.fill import FILE, fill, finish, id_at, multiply
from sqlcipher3 import dbapi2

from pithead.exchange import ledger
from pithead.exchange.ids import new_id
from pithead.store.sqlite import SqliteStore

Usage = namedtuple("Usage", "total used free")


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


def _all(database: Path, query: str) -> list[tuple[Any, ...]]:
    db = dbapi2.connect(str(database))
    try:
        return list(db.execute(query))
    finally:
        db.close()


def test_miners_are_still_active_when_a_long_filling_is_done(folder: Path) -> None:
    finish(folder / "many", 50)
    much_later = time.time() + 3600
    active = (
        f"SELECT count(*) FROM miners WHERE status = 'active' AND offline_at > {much_later} AND gpu_type <> 'history'"
    )
    assert _one(folder / "many" / FILE, active) == 8 + 1


@pytest.mark.parametrize("count", [50, 3000])
def test_a_history_is_sound_too(folder: Path, count: int) -> None:
    finish(folder / "few", count)
    database = folder / "few" / FILE
    assert faults(database, completed=count) == []
    assert _one(database, "SELECT count(*) FROM attempts WHERE outcome = 'completed'") == count
    assert _one(database, "SELECT completed FROM miners WHERE gpu_type = 'history'") == count
    assert _one(database, "PRAGMA foreign_key_check") is None
    assert _one(database, "PRAGMA integrity_check") == "ok"


def test_the_exchange_s_own_check_of_the_ledger_finds_nothing(folder: Path) -> None:
    finish(folder / "many", 2000)
    store = SqliteStore(folder / "many" / FILE)
    try:
        found = store.read(lambda tx: ledger.check(tx, lambda progress: None))
    finally:
        store.close()
    assert (found.faulty, found.faults) == (0, [])
    assert (found.jobs, found.transfers) == (2100, 2 + 100 + 2 * 2000)


def test_filling_leaves_the_schema_that_the_migrations_make(folder: Path) -> None:
    SqliteStore(folder / FILE).close()
    finish(folder / "many", 2000)
    for query in ("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name", "PRAGMA user_version"):
        assert _all(folder / "many" / FILE, query) == _all(folder / FILE, query)


def test_a_copied_job_is_like_one_that_the_exchange_completed(folder: Path) -> None:
    finish(folder / "few", 2000)
    database = folder / "few" / FILE
    for table, home in (("jobs", "seq"), ("inputs", "job"), ("attempts", "job"), ("transfers", "job")):
        columns = [row[1] for row in _all(database, f"PRAGMA table_info({table})")]
        first, later = (
            [
                dict(zip(columns, row, strict=True))
                for row in _all(database, f"SELECT * FROM {table} WHERE {home} = {seq}")
            ]
            for seq in (21 + 7, 21 + 1007)
        )
        assert len(first) == len(later) == (2 if table == "transfers" else 1)
        for made, copied in zip(first, later, strict=True):
            for column in columns:
                if column in (home, "seq"):
                    assert copied[column] > made[column]
                elif column.endswith(("at", "deadline")) and made[column] is not None:
                    assert copied[column] == pytest.approx(made[column] + 1.024, abs=1e-5), column
                elif column in ("id", "token", "receipt_id"):
                    assert copied[column] != made[column]
                    assert len(copied[column]) == len(made[column])
                else:
                    assert copied[column] == made[column], column


def test_ids_go_up_with_the_jobs_and_those_to_come_are_behind_them(folder: Path) -> None:
    finish(folder / "few", 3000)
    for name in ("few", "many"):
        # In a queue those of one millisecond have no order.
        heads = [
            str(row[0])[: 4 + 9]
            for row in _all(folder / name / FILE, "SELECT id FROM jobs WHERE state = 'completed' ORDER BY seq")
        ]
        assert heads == sorted(heads)
        assert str(_one(folder / name / FILE, "SELECT max(id) FROM jobs")) < new_id("job")
        assert _one(folder / name / FILE, "SELECT count(*) FROM jobs WHERE length(id) <> 24") == 0
    assert str(_one(folder / "many" / FILE, "SELECT max(id) FROM jobs WHERE seq <= 80")) < str(
        _one(folder / "many" / FILE, "SELECT min(id) FROM jobs WHERE seq > 80")
    )


def test_an_id_of_a_moment_lies_between_those_made_before_and_after() -> None:
    before = new_id("job")
    now = int(time.time() * 1000) + 1
    assert before < id_at("job", now)
    while int(time.time() * 1000) <= now:
        pass
    assert id_at("job", now) < new_id("job")


def test_what_the_disk_has_no_room_for_is_not_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 30 * 10**9))
    with pytest.raises(NoRoomError, match=r"^needs [\d,]+\.\d GB"):
        multiply(folder / "few", folder / "longer", 20_000_000)
    with pytest.raises(NoRoomError, match=r"^needs 3\d\.\d GB on the disk, where 30\.0 GB are free$"):
        finish(folder / "few", 50_000_000)


def test_it_is_told_how_far_the_filling_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_TOLD_EVERY", 2)
    told: list[tuple[str, int, int]] = []
    finish(folder / "few", 5000, lambda line, done=0, total=0: told.append((line, done, total)))
    assert told == [("filling the history", done, 5000) for done in (2000, 4000, 5000)]
