"""An encrypted database opens with its key alone, and a wrong one touches nothing."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2

from pithead.store.cipher import WrongKey, check, kind_of
from pithead.store.errors import StoreError
from pithead.store.keys import DatabaseKey
from pithead.store.sqlite import SqliteStore, SqliteTx

KEY, OTHER = DatabaseKey(b"k" * 32), DatabaseKey(b"o" * 32)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(params=["closed", "killed"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An encrypted database: closed in order, or left as it lies when its coordinator was killed, with a log beside it."""
    store = SqliteStore(tmp_path / "live" / "pithead.db", KEY)
    store.writing.execute("INSERT INTO meta (key, value) VALUES ('here', 1)")
    if request.param == "closed":
        store.close()
        yield tmp_path / "live"
    else:
        shutil.copytree(tmp_path / "live", tmp_path / "killed")
        assert (tmp_path / "killed" / "pithead.db-wal").stat().st_size > 0
        yield tmp_path / "killed"
        store.close()


def test_a_wrong_key_is_said_and_nothing_is_touched(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    with pytest.raises(WrongKey, match="nothing was changed"):
        SqliteStore(folder / "pithead.db", OTHER)
    assert contents(folder) == before
    assert capfd.readouterr() == ("", "")


def test_a_missing_key_is_said_and_nothing_is_touched(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(StoreError, match="db_encryption_enabled"):
        SqliteStore(folder / "pithead.db")
    assert contents(folder) == before


def test_the_right_key_opens_it_with_all_that_was_committed(folder: Path) -> None:
    store = SqliteStore(folder / "pithead.db", KEY)
    assert store.writing.execute("SELECT value FROM meta WHERE key = 'here'").fetchone() == (1.0,)
    assert kind_of(folder / "pithead.db") == "encrypted"
    store.close()
    assert [file.name for file in folder.iterdir()] == ["pithead.db"]


def test_a_first_page_that_a_power_cut_tore_is_no_wrong_key(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "live" / "pithead.db", KEY)
    store.writing.execute("INSERT INTO meta (key, value) VALUES ('here', 1)")
    shutil.copytree(tmp_path / "live", tmp_path / "cut")
    store.close()
    file = tmp_path / "cut" / "pithead.db"
    torn = bytearray(file.read_bytes())
    torn[2000:4000] = bytes(2000)
    file.write_bytes(torn)
    with pytest.raises(WrongKey):
        check(file, OTHER)
    found = SqliteStore(file, KEY)
    assert found.writing.execute("SELECT value FROM meta WHERE key = 'here'").fetchone() == (1.0,)
    found.close()


def test_a_plain_database_is_not_taken_for_an_encrypted_one(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "pithead.db").close()
    before = contents(tmp_path)
    assert kind_of(tmp_path / "pithead.db") == "plain"
    with pytest.raises(StoreError, match="pithead admin encrypt"):
        SqliteStore(tmp_path / "pithead.db", KEY)
    assert contents(tmp_path) == before


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "pithead.db"
    file.write_bytes(b"a letter to the editor" * 1000)
    for key in (None, KEY):
        with pytest.raises(StoreError):
            SqliteStore(file, key)
    assert contents(tmp_path) == {"pithead.db": b"a letter to the editor" * 1000}
    assert kind_of(tmp_path / "nowhere") == "absent"
    check(tmp_path / "nowhere", KEY)


def test_any_sqlcipher_tool_opens_it_with_the_key_as_it_is_in_the_file(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "pithead.db", KEY).close()
    connection = dbapi2.connect(str(tmp_path / "pithead.db"))
    connection.executescript(f"""PRAGMA key = "x'{(b"k" * 32).hex()}'" """)
    assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (3,)
    connection.close()


def test_closing_ends_the_reads_that_are_under_way(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "pithead.db", KEY)
    began = threading.Event()
    outcome: list[BaseException] = []

    def read() -> None:
        def endless(tx: SqliteTx) -> None:
            began.set()
            tx._execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n", {})

        try:
            store.read(endless)
        except StoreError as error:
            outcome.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    began.wait()
    store.close()
    thread.join()
    assert "stopping" in str(outcome[0])
    assert [file.name for file in tmp_path.iterdir()] == ["pithead.db"]
    with pytest.raises(StoreError):
        store.read(lambda tx: None)
