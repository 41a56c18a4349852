"""`pithead admin backup`, `restore` and `migrate`: what they print, and how they refuse."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlcipher3 import dbapi2

from pithead.cli.main import cli
from pithead.store.migrate import migrations, titles
from pithead.store.sqlite import SqliteStore

NEWEST = migrations("sqlite")[-1][0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a coordinator that has been started once."""
    SqliteStore(tmp_path / "home" / "pithead.db").close()
    return tmp_path / "home"


def admin(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["admin", *map(str, arguments)], prog_name="pithead")


def refused(result: Result, *words: str) -> None:
    """It ended with 2 and one line that says these words."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("pithead: ")
    for word in words:
        assert word in lines[-1]


def at_version(home: Path, version: int) -> None:
    with closing(dbapi2.connect(str(home / "pithead.db"))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


def old(folder: Path) -> Path:
    """A database that the first version made."""
    folder.mkdir()
    with closing(dbapi2.connect(str(folder / "pithead.db"), isolation_level=None)) as connection:
        connection.executescript(f"{migrations('sqlite')[0][1]}\nPRAGMA user_version = 1;")
    return folder


def test_there_and_back(home: Path, tmp_path: Path) -> None:
    made = admin("backup", tmp_path / "b", "--data", home)
    assert made.exit_code == 0, made.output
    assert f"sqlite, version {NEWEST}" in made.stdout
    # In a log: plain lines, on standard error.
    assert "copying the database ..." in made.stderr.splitlines()
    back = admin("restore", tmp_path / "b", "--data", tmp_path / "again")
    assert back.exit_code == 0, back.output
    assert "sound: 3 accounts, 0 jobs and 0 transfers" in back.stdout
    assert "checking the ledger ..." in back.stderr.splitlines()


def test_with_json_there_is_one_document(home: Path, tmp_path: Path) -> None:
    made = json.loads(admin("backup", tmp_path / "b", "--data", home, "--json").stdout)
    assert made["path"] == str(tmp_path / "b")
    assert made["manifest"]["schema"] == NEWEST
    back = json.loads(admin("restore", tmp_path / "b", "--data", tmp_path / "again", "--json").stdout)
    assert back["checked"]["faulty"] == 0


def test_a_restored_ledger_that_is_not_sound_is_told(home: Path, tmp_path: Path) -> None:
    with closing(dbapi2.connect(str(home / "pithead.db"), isolation_level=None)) as connection:
        connection.execute("UPDATE accounts SET balance = 5 WHERE seq = 1")
    assert admin("backup", tmp_path / "b", "--data", home).exit_code == 0
    back = admin("restore", tmp_path / "b", "--data", tmp_path / "again")
    assert back.exit_code == 1
    assert "faults in 3 accounts" in back.stdout
    assert back.stderr.splitlines()[-1].startswith("pithead: the ledger has 2 faults; the first is of ledger")


def test_what_migrate_would_do_it_says_and_then_does(tmp_path: Path) -> None:
    home = old(tmp_path / "old")
    due = [name for number, name in sorted(titles("sqlite").items()) if number > 1]
    before = (home / "pithead.db").read_bytes()
    planned = admin("migrate", "--dry-run", "--data", home)
    assert planned.stdout.splitlines() == [f"to do: {name}" for name in due]
    assert (home / "pithead.db").read_bytes() == before
    assert json.loads(admin("migrate", "--dry-run", "--json", "--data", home).stdout) == {
        "version": 1, "migrations": due, "done": False,
    }  # fmt: skip
    done = admin("migrate", "--data", home)
    assert done.stdout.splitlines() == [f"done: {name}" for name in due]
    assert admin("migrate", "--data", home).stdout == f"The database is at version {NEWEST}: there is nothing to do.\n"


def test_an_old_database_is_backed_up_as_it_is_and_restored_up_to_date(tmp_path: Path) -> None:
    home = old(tmp_path / "old")
    made = json.loads(admin("backup", tmp_path / "b", "--data", home, "--json").stdout)
    assert made["manifest"]["schema"] == 1
    back = json.loads(admin("restore", tmp_path / "b", "--data", tmp_path / "again", "--json").stdout)
    assert back["migrated"] == NEWEST - 1
    assert back["checked"]["faulty"] == 0


def test_a_newer_database_is_refused_by_each(home: Path, tmp_path: Path) -> None:
    at_version(home, NEWEST + 1)
    for command in (("migrate",), ("migrate", "--dry-run"), ("backup", tmp_path / "b")):
        refused(admin(*command, "--data", home), f"version {NEWEST + 1}", "run the newer program that wrote it")
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_is_refused_in_one_line(home: Path, tmp_path: Path) -> None:
    for command in (("backup", tmp_path / "b"), ("migrate",)):
        refused(admin(*command, "--data", tmp_path / "none"), "name the coordinator's")
        assert not (tmp_path / "none").exists()
    refused(admin("restore", tmp_path / "none", "--data", tmp_path / "again"), "there is no backup")
    refused(admin("backup", home, "--data", home), "is there already")
    (home / "pithead.db").write_bytes(b"something else" * 1000)
    refused(admin("migrate", "--data", home), "cannot open the database")
