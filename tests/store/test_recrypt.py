"""A database is encrypted, rekeyed and decrypted whole or not at all, wherever that is interrupted."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import Exchange

from pithead.store import recrypt
from pithead.store.cipher import WrongKey, connect, kind_of
from pithead.store.errors import StoreError
from pithead.store.keyring import unwrap
from pithead.store.keys import DatabaseKey
from pithead.store.recrypt import convert, copy_of, fits, leftovers, old_of
from pithead.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
KEYS = {"none": None, "first": b"1" * 32, "second": b"2" * 32}
CHANGES = [("none", "first"), ("first", "second"), ("first", "none")]
CLIENTS = 3


def key(name: str) -> DatabaseKey | None:
    raw = KEYS[name]
    return None if raw is None else DatabaseKey(raw)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def quiet(step: str) -> None:
    pass


def change(path: Path, old: str, new: str, tell: Callable[[str], None] = quiet, *, keep: bool = False) -> bool:
    return convert(path, key(old), key(new), now=5.0, tell=tell, keep=keep)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plain database that has a history."""
    folder = tmp_path_factory.mktemp("history")
    exchange = Exchange(folder)
    miner = exchange.miner()
    for _ in range(CLIENTS):
        client = exchange.client()
        for number in range(12):
            job = exchange.submit(client, input=b"a prompt that is long enough to be found" * 50)
            if number % 3:
                exchange.accept(miner, job)
                exchange.complete(miner, job)
    exchange.close()
    return folder


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    shutil.copy(template / "pithead.db", tmp_path / "pithead.db")
    return tmp_path / "pithead.db"


def under(path: Path, name: str) -> Path:
    """The same database, encrypted or not."""
    if name != "none":
        change(path, "none", name)
    return path


def history(path: Path, name: str) -> list[object]:
    """All that is in it. It must be sound."""
    store = SqliteStore(path, key(name))
    try:
        execute = store.writing.execute
        assert execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert execute("SELECT sum(balance) FROM accounts").fetchone() == (0,)
        tables = [
            row[0] for row in execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'data_keys'")
        ]
        return [execute(f'SELECT * FROM "{table}"').fetchall() for table in sorted(tables)]
    finally:
        store.close()


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_change_of_key_keeps_everything(path: Path, old: str, new: str) -> None:
    before = history(path, "none")
    under(path, old)
    steps: list[str] = []
    assert change(path, old, new, steps.append)
    assert steps
    assert names(path.parent) == {path.name}
    assert path.stat().st_mode & 0o777 == 0o600
    assert kind_of(path) == ("plain" if new == "none" else "encrypted")
    assert history(path, new) == before
    assert (b"long enough to be found" in path.read_bytes()) == (new == "none")
    # What refuses changes of the ledger is still there.
    store = SqliteStore(path, key(new))
    with pytest.raises(Exception, match="append-only"):
        store.writing.execute("UPDATE transfers SET amount = amount + 1")
    store.close()


def test_doing_it_again_changes_nothing(path: Path) -> None:
    assert change(path, "none", "first")
    bytes_before = path.read_bytes()
    assert not change(path, "none", "first")
    assert path.read_bytes() == bytes_before


def test_the_keys_of_results_are_carried_over(path: Path) -> None:
    def keys(name: str) -> list[object]:
        store, master = SqliteStore(path, key(name)), key(name)
        try:
            wrapped = store.peek(lambda tx: tx.data_keys())
            return [] if master is None else [*unwrap(wrapped, master)]
        finally:
            store.close()

    change(path, "none", "first")
    [first] = keys("first")
    change(path, "first", "second")
    assert keys("second") == [first]
    change(path, "second", "none")
    assert keys("none") == []


def test_a_key_that_is_neither_changes_nothing(path: Path) -> None:
    under(path, "first")
    before = path.read_bytes()
    with pytest.raises(WrongKey, match="neither key"):
        change(path, "second", "none")
    assert path.read_bytes() == before
    assert names(path.parent) == {path.name}


def test_the_old_file_is_kept_where_that_is_asked_for(path: Path) -> None:
    before = history(path, "none")
    change(path, "none", "first", keep=True)
    assert leftovers(path) == [old_of(path)]
    # It is not overwritten by the next one, which says so.
    with pytest.raises(StoreError, match="in the way"):
        change(path, "first", "second")
    assert history(path, "first") == before
    assert history(old_of(path), "none") == before


def test_what_is_written_to_the_log_alone_is_not_lost(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path)
    store.writing.execute("INSERT INTO meta (key, value) VALUES ('late', 1)")
    (tmp_path / "killed").mkdir()
    for name in ("pithead.db", "pithead.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "killed" / name)
    store.close()
    killed = tmp_path / "killed" / "pithead.db"
    change(killed, "none", "first")
    assert ("late", 1.0) in [row for table in history(killed, "first") for row in table]  # type: ignore[attr-defined]


def test_a_copy_that_is_not_the_same_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = history(path, "none")
    export = recrypt._export

    def lossy(source: object, copy: Path, key: DatabaseKey | None) -> None:
        export(source, copy, key)
        target = connect(str(copy), key)
        target.execute("DELETE FROM notices")
        target.execute("DELETE FROM inputs WHERE job = (SELECT max(job) FROM inputs)")
        target.close()

    with monkeypatch.context() as patched:
        patched.setattr(recrypt, "_export", lossy)
        with pytest.raises(StoreError, match="the rows of inputs"):
            change(path, "none", "first")
    assert names(path.parent) == {path.name}
    assert history(path, "none") == before


def steps_of(path: Path, old: str, new: str) -> list[str]:
    found: list[str] = []
    change(path, old, new, found.append)
    return found


class Injected(Exception):
    pass


@pytest.mark.parametrize(("old", "new"), CHANGES)
@pytest.mark.parametrize("error", [Injected, OSError], ids=["a fault", "the disk"])
def test_a_failure_at_any_step_leaves_a_database_that_works(
    path: Path, tmp_path: Path, old: str, new: str, error: type[Exception]
) -> None:
    before = history(path, "none")
    under(path, old)
    (tmp_path / "rehearsal").mkdir()
    rehearsal = Path(shutil.copy(path, tmp_path / "rehearsal" / "pithead.db"))
    for number, _ in enumerate(steps_of(rehearsal, old, new)):
        seen = 0

        def fail(step: str, at: int = number) -> None:
            nonlocal seen
            seen += 1
            if seen > at:
                raise error(5, "no more")

        with pytest.raises((Injected, StoreError, OSError)):
            change(path, old, new, fail)
        now = old if fits(path, key(old)) else new
        assert history(path, now) == before
        if now == new:
            break
        assert names(path.parent) == {path.name, "rehearsal"}
    assert change(path, old, new) == (now == old)
    assert history(path, new) == before
    assert names(path.parent) == {path.name, "rehearsal"}


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.store.test_recrypt import change
left = int(sys.argv[4])
def tell(step):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
change(Path(sys.argv[1]), sys.argv[2], sys.argv[3], tell)
"""


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_kill_at_any_step_leaves_a_database_that_works_and_doing_it_again_finishes(
    path: Path, tmp_path: Path, old: str, new: str
) -> None:
    before = history(path, "none")
    under(path, old)
    (tmp_path / "each").mkdir()
    rehearsal = Path(shutil.copy(path, tmp_path / "each" / "rehearsal.db"))
    steps = steps_of(rehearsal, old, new)
    outcomes = set()
    for number in range(len(steps)):
        folder = tmp_path / "each" / str(number)
        folder.mkdir()
        file = Path(shutil.copy(path, folder / "pithead.db"))
        command = [sys.executable, "-c", KILLED, str(file), old, new, str(number)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        now = old if fits(file, key(old)) else new
        outcomes.add(now)
        assert history(file, now) == before, steps[number]
        change(file, old, new)
        assert history(file, new) == before, steps[number]
        assert names(folder) == {"pithead.db"}, steps[number]
        assert not copy_of(file).exists()
    assert outcomes == {old, new}
