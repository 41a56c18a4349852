"""What only the embedded database can be asked: how it is opened, what its files are, and which indexes it uses."""

import asyncio
import re
import shutil
import stat
import threading
from pathlib import Path
from typing import Any, Final

import pytest
from sqlcipher3 import dbapi2
from tests.store.conftest import Sqlite
from tests.store.scenes import NOW, client, job, miner

from pithead.core.board import key_of, kind_of
from pithead.core.jobs import Job
from pithead.core.money import FEES, ISSUED, Transfer
from pithead.exchange.ports import Tx
from pithead.store.embedded import Embedded
from pithead.store.errors import StoreError
from pithead.store.queries import SQLITE, setting
from pithead.store.sqlite import SqliteStore


def pragma(connection: dbapi2.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def listed(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# -- how it is opened


def test_every_connection_is_durable_and_keeps_its_references(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "pithead.db")
    another = store.connect()
    for connection in (store.writing, another):
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2, "FULL: a commit is on the disk when it returns"
        assert pragma(connection, "foreign_keys") == 1
    another.close()
    store.close()


async def test_the_writer_s_connection_stays_durable(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "pithead.db")
    database = Embedded(store, lambda events: None)
    await database.run(client)
    assert pragma(store.writing, "synchronous") == 2
    await database.close()


def test_the_folder_is_its_owner_s(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "new" / "folder" / "pithead.db").close()
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o700


async def test_after_the_stop_it_is_one_file(tmp_path: Path) -> None:
    database = Embedded(SqliteStore(tmp_path / "pithead.db"), lambda events: None)
    made = await database.run(client)
    assert listed(tmp_path) == ["pithead.db", "pithead.db-shm", "pithead.db-wal"]
    await database.close()
    assert listed(tmp_path) == ["pithead.db"]
    copied = tmp_path / "copy.db"
    copied.write_bytes((tmp_path / "pithead.db").read_bytes())
    store = SqliteStore(copied)
    assert store.peek(lambda tx: tx.client_by_id("client_1")) == made
    store.close()


async def test_what_was_committed_survives_a_process_that_does_not_close(tmp_path: Path) -> None:
    """As after a SIGKILL: the files as they lie there, the log beside the database."""
    database = Embedded(SqliteStore(tmp_path / "pithead.db"), lambda events: None)
    made = await database.run(client)
    shutil.copytree(tmp_path, tmp_path / "crashed")
    await database.close()
    store = SqliteStore(tmp_path / "crashed" / "pithead.db")
    assert store.peek(lambda tx: tx.client_by_id("client_1")) == made
    store.close()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pithead.db"
    file.write_bytes(content)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        SqliteStore(file)
    assert file.read_bytes() == content


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "pithead.db").mkdir()
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / "pithead.db"))):
        SqliteStore(tmp_path / "pithead.db")


# -- reading beside the writer


async def test_a_look_sees_what_is_committed_and_nothing_else(tmp_path: Path) -> None:
    database = Embedded(SqliteStore(tmp_path / "pithead.db"), lambda events: None)
    seen = []

    def operation(tx: Tx) -> None:
        client(tx)
        seen.append(database._store.peek(lambda reading: reading.client_by_id("client_1")))

    await database.run(operation)
    assert seen == [None]
    assert await database.peek(lambda tx: tx.client_by_id("client_1")) is not None
    await database.close()


async def test_a_long_read_sees_one_moment(tmp_path: Path) -> None:
    """In a thread and a transaction of its own: what is committed meanwhile it does not see, and it holds nobody up."""
    database = Embedded(SqliteStore(tmp_path / "pithead.db"), lambda events: None)
    begun, let_go = threading.Event(), threading.Event()

    def twice(tx: Tx) -> list[int]:
        counts = [len(tx.clients_page(None, 10))]
        begun.set()
        assert let_go.wait(10)
        return [*counts, len(tx.clients_page(None, 10))]

    reading = asyncio.ensure_future(database.read(twice))
    assert await asyncio.to_thread(begun.wait, 10)
    await database.run(client)
    let_go.set()
    assert await reading == [0, 0]
    assert len(await database.read(lambda tx: tx.clients_page(None, 10))) == 1
    await database.close()


# -- the ledger


@pytest.mark.parametrize(
    "change",
    ["UPDATE transfers SET amount = amount + 1", "UPDATE transfers SET note = ''", "DELETE FROM transfers",
     "REPLACE INTO transfers SELECT * FROM transfers"],
)  # fmt: skip
def test_the_ledger_is_append_only(sqlite: Sqlite, change: str) -> None:
    sqlite.do(lambda tx: tx.post(NOW, [Transfer("credit", ISSUED, FEES, 5)]))
    execute = sqlite.store.writing.execute
    with pytest.raises(dbapi2.DatabaseError, match="append-only"):
        execute(change)
    assert execute("SELECT amount FROM transfers").fetchall() == [(5,)]


# -- queries

#: Those that may look at a whole table, and why that is no harm.
SCANS: Final = {
    "balances_by_kind": "an operator's overview",
    "miners_by_status": "an operator's overview",
    "has_operator_key": "once, at the start",
    "data_keys": "once, at the start, and few",
    "signing_keys": "few",
    "count_blobs": "while results are encrypted or decrypted",
    "extend_miners": "once, at the start",
    "ledger_sum": "the check of the ledger reads all of it",
    "ledger_extent": "likewise",
    "census": "the miners and what they hold, when somebody asks why a job waits",
    "miners_due": "of the miners, while their payouts are due",
    # Of webhooks there are few, a handful for each account that has any:
    "all_webhooks": "while their secrets are sealed anew",
    "hooked_accounts": "once, at the start, and after a gap in the news",
    "ready_webhooks": "of the webhooks, each by what it has to send",
    # Of an index that holds unfinished jobs only:
    "jobs_by_state": "an operator's overview",
    # Of the newest postings, so many at the most:
    "flows": "an operator's page on money",
    "queued_kinds": "once, at the start",
    "queue_by_model": "for the metrics, every ten seconds at the most",
    "resting_kinds": "once, at the start",
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """How the database would answer each query, step by step."""
    store = SqliteStore(tmp_path_factory.mktemp("plans") / "pithead.db")
    found = {}
    for name, query in SQLITE.items():
        # As `save_job` is asked when a job is taken.
        sql = setting(query, ("state", "attempts", "miner", "lease_token", "lease_expires_at"))
        values = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
        found[name] = [row[3] for row in store.writing.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()]
    store.close()
    return found


def scanned(steps: list[str]) -> list[str]:
    """The steps that go through a table from its beginning; through the rows of a part of the query is no harm."""
    parts = {step.split()[1] for step in steps if step.startswith(("CO-ROUTINE ", "MATERIALIZE "))} | {"CONSTANT"}
    return [step for step in steps if step.startswith("SCAN ") and step.split()[1] not in parts]


@pytest.mark.parametrize("name", SQLITE)
def test_no_query_looks_at_a_whole_table_but_those_that_may(plans: dict[str, list[str]], name: str) -> None:
    assert bool(scanned(plans[name])) == (name in SCANS), plans[name]


@pytest.mark.parametrize("name", SQLITE.keys() - {"ledger_extent"})
def test_no_query_ever_looks_at_every_job(plans: dict[str, list[str]], name: str) -> None:
    """However long the history: at most at the unfinished ones, by a partial index."""
    for step in scanned(plans[name]):
        assert "SCAN jobs" not in step or re.fullmatch(
            r"SCAN jobs USING (COVERING )?INDEX jobs_(open|deadline|held|lease|queue)", step
        )


@pytest.mark.parametrize(
    ("name", "index"),
    [("job_by_id", "sqlite_autoindex_jobs_1"), ("save_job", "INTEGER PRIMARY KEY"), ("held", "jobs_held"),
     ("renew_all", "jobs_held"), ("renew_one", "sqlite_autoindex_jobs_1"), ("lapsed", "jobs_lease"),
     ("overdue", "jobs_deadline"), ("queued", "jobs_queue"), ("queued_after", "jobs_queue"),
     ("queued_resting", "jobs_resting"), ("client_jobs_page", "jobs_client"), ("client_open_jobs_page", "jobs_open"),
     ("newest_attempt", "PRIMARY KEY"), ("attempt_by_token", "PRIMARY KEY"), ("key", "PRIMARY KEY"),
     ("miner_by_id", "sqlite_autoindex_miners_1"), ("balance", "INTEGER PRIMARY KEY"), ("notices", "PRIMARY KEY")],
)  # fmt: skip
def test_what_is_asked_all_day_uses_its_index(plans: dict[str, list[str]], name: str, index: str) -> None:
    step = plans[name][0]
    assert step.startswith("SEARCH")
    assert index in step


def test_whether_anything_is_due(sqlite: Sqlite) -> None:
    def due(at: float) -> bool:
        return sqlite.store.peek(lambda tx: tx.due(at))

    assert not due(NOW)
    sqlite.do(lambda tx: miner(tx, offline_at=NOW + 30))
    sqlite.do(lambda tx: miner(tx, "silent", online=False, offline_at=NOW))
    assert (due(NOW + 29), due(NOW + 30)) == (False, True)
    sqlite.do(lambda tx: tx.mark_offline(NOW + 30))
    sqlite.do(lambda tx: job(tx, client(tx), deadline=NOW + 40))
    assert (due(NOW + 39), due(NOW + 40)) == (False, True)


def test_the_queue_is_read_by_kind_in_the_order_of_the_board(sqlite: Sqlite) -> None:
    def queued(after: Job | None = None, limit: int = 10) -> list[Job]:
        return sqlite.store.peek(
            lambda tx: tx.queued(kind_of(made[0]), None if after is None else key_of(after), NOW, limit)
        )

    priorities = [0, 5, 0, -1, 5]
    made = sqlite.do(
        lambda tx: [
            job(tx, owner, f"job_{n}", priority=priority)
            for owner in [client(tx)]
            for n, priority in enumerate(priorities)
        ]
    )
    sqlite.do(lambda tx: job(tx, client(tx, "other"), "another", model="another"))
    resting = sqlite.do(lambda tx: job(tx, client(tx, "third"), "resting", not_before=NOW + 5))
    ordered = [made[n] for n in (1, 4, 0, 2, 3)]
    assert queued() == ordered
    assert queued(limit=2) == ordered[:2]
    for number, one in enumerate(ordered):
        assert queued(after=one) == ordered[number + 1 :]
    kinds = dict(sqlite.store.peek(lambda tx: tx.queued_kinds(NOW)))
    assert kinds == {kind_of(made[0]): 5, kind_of(made[0])._replace(model="another"): 1}
    assert sqlite.store.peek(lambda tx: tx.queued_resting(NOW)) == [resting]
    assert sqlite.store.peek(lambda tx: tx.queued_resting(NOW + 5)) == []
