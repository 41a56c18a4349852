"""A database that the first version of the program wrote, served by this one: nothing is lost, and what was open goes on."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlcipher3 import dbapi2
from tests.http.exchange import Client, Clock, Miner, World, body, hash_of, run_world
from tests.postgres import Server

from pithead.store.migrate import migrations

OLD = Path(__file__).parents[1] / "store" / "old"
PEOPLE: dict[str, Any] = json.loads((OLD / "first.json").read_text(encoding="utf-8"))
JOBS: dict[str, str] = PEOPLE["jobs"]
CONTENT = b"forty-two"
#: Every table of the first version, each after those that it refers to.
TABLES = (
    "accounts", "meta", "transfers", "keys", "clients", "miners", "telemetry", "enrollment_tokens", "jobs", "inputs",
    "attempts", "notices", "idempotency", "audit",
)  # fmt: skip
Rows = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


def rows_of_the_first_version() -> Rows:
    """Its tables, with their columns that are not generated."""
    with contextlib.closing(dbapi2.connect(":memory:")) as connection:
        connection.executescript((OLD / "first.sql").read_text(encoding="utf-8"))
        found: Rows = {}
        for table in TABLES:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()]
            query = f"SELECT {', '.join(columns)} FROM {table}"
            found[table] = columns, [tuple(row) for row in connection.execute(query).fetchall()]
    return found


FIRST = rows_of_the_first_version()
#: The same as the embedded database stores them, whose truth values are numbers.
BOOLEAN = {"draining", "online", "require_result"}


def fill(server: Server, name: str) -> None:
    """Make of an empty database what the first version's schema for PostgreSQL would hold."""
    with server.connect(name) as connection, connection.transaction():
        number, text = migrations("postgres")[0]
        connection.execute(text.encode())
        connection.execute("DELETE FROM accounts")
        for table, (columns, rows) in FIRST.items():
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            values = sql.SQL(", ").join(sql.Placeholder() * len(columns))
            insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, values)
            for row in rows:
                given = (bool(v) if c in BOOLEAN else v for c, v in zip(columns, row, strict=True))
                connection.execute(insert, tuple(given))
        connection.execute("INSERT INTO meta (key, value) VALUES ('schema', %s)", (number,))
        for table in ("transfers", "jobs", "audit"):
            connection.execute(f"SELECT setval('{table}_seq_seq', (SELECT max(seq) FROM {table}))".encode())
        connection.execute("SELECT setval('account_numbers', 200)")


@pytest.fixture
async def old(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """This version's coordinator on that database, at the time when it was written."""
    folder, clock, url = tmp_path / "data", Clock(), ""
    clock.now = PEOPLE["now"]
    folder.mkdir()
    if database:
        server: Server = request.getfixturevalue("postgres")
        name = server.create()
        fill(server, name)
        url = server.url(name)
    else:
        with contextlib.closing(dbapi2.connect(str(folder / "pithead.db"), isolation_level=None)) as connection:
            connection.executescript((OLD / "first.sql").read_text(encoding="utf-8"))
    attempts = [dict(zip(FIRST["attempts"][0], row, strict=True)) for row in FIRST["attempts"][1]]
    (blob,) = [attempt["blob"] for attempt in attempts if attempt["blob"]]
    result = folder / "results" / blob
    result.parent.mkdir(parents=True)
    result.write_bytes(CONTENT)
    # The operator's key of that time was shorter than one may be now: whoever upgrades is let in with it.
    async with run_world(folder, clock, database=url, enrollment="token", operator_key="key_operator") as world:
        yield world


def client_of(world: World) -> Client:
    return Client(world.http, PEOPLE["client"]["key"], id=PEOPLE["client"]["id"])


def miner_of(world: World, who: str = "miner") -> Miner:
    found = PEOPLE[who]
    return Miner(world.http, found["key"], f"/v1/miners/{found['id']}", found["id"])


def now_in(world: World, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    """What the database holds of these columns."""
    query = f"SELECT {', '.join(columns)} FROM {table}"
    settings = world.application.settings
    if settings.database:
        with psycopg.connect(settings.database) as connection:
            rows = connection.execute(query.encode()).fetchall()
            return [tuple(int(v) if isinstance(v, bool) else v for v in row) for row in rows]
    with contextlib.closing(dbapi2.connect(str(settings.folder / "pithead.db"))) as connection:
        return [tuple(row) for row in connection.execute(query).fetchall()]


@pytest.mark.parametrize("table", TABLES)
async def test_every_row_is_still_there_as_it_was(old: World, table: str) -> None:
    columns, rows = FIRST[table]
    assert rows, "there is something to lose"
    # An idempotency key is stored hashed since; what is asked under it shows below that it is good. And a start notes
    # when it was, and makes sure of the operator's key.
    kept = [column for column in columns if (table, column) not in {("idempotency", "key"), ("meta", "value")}]
    places = [columns.index(column) for column in kept]
    found = now_in(old, table, kept)
    wanted = [tuple(row[place] for place in places) for row in rows]
    missing = [row for row in wanted if row not in found]
    assert missing == []
    assert len(found) >= len(wanted)


async def test_the_ledger_is_sound(old: World) -> None:
    found = body(await old.operator.get("/ledger/check"))
    assert (found["sound"], found["jobs"], found["transfers"]) == (True, 9, len(FIRST["transfers"][1]))
    assert await client_of(old).balance() == (49.7, 0.25)


async def test_jobs_stand_as_they_stood(old: World) -> None:
    client = client_of(old)
    for state in ("queued", "assigned", "running", "uploading", "completed", "failed", "cancelled", "expired"):
        assert (await client.job(JOBS[state]))["status"] == state
    assert (await client.get(f"/v1/jobs/{JOBS['completed']}/result")).content == CONTENT
    stops = (await miner_of(old, "other").beat())["stop"]
    assert [(one["job_id"], one["reason"]) for one in stops] == [(JOBS["lapsed"], "lost")]


async def test_what_was_open_goes_on_and_is_paid_once(old: World) -> None:
    client, miner = client_of(old), miner_of(old)
    assert set(await miner.offered()) == {JOBS["queued"], JOBS["lapsed"]}
    for state in ("queued", "lapsed"):
        await miner.take(JOBS[state])
    for state in ("queued", "lapsed", "assigned", "running", "uploading"):
        token = JOBS.get(f"{state}.lease")
        body(await miner.upload(JOBS[state], CONTENT, token=token))
        first = body(await miner.complete(JOBS[state], hash_of(CONTENT), token=token))
        assert body(await miner.complete(JOBS[state], hash_of(CONTENT), token=token)) == first
        assert (await client.get(f"/v1/jobs/{JOBS[state]}/result")).content == CONTENT
    # Repeated, what was completed before the upgrade is answered and not paid again.
    receipt = body(await miner.complete(JOBS["completed"], hash_of(CONTENT)))["receipt"]
    # Signatures were stored then: it is the one that was given.
    columns, attempts = FIRST["attempts"]
    stored = [dict(zip(columns, row, strict=True)) for row in attempts]
    [signature] = [row["signature"] for row in stored if row["receipt_id"] == receipt["receipt_id"]]
    assert (receipt["signature"], "batch" in receipt) == (signature, False)
    assert await client.balance() == (49.7, 0)
    assert (await miner.stats())["earnings"] == 0.3
    assert (await old.ledger())["escrow"] == 0
    # New ones get numbers of their own.
    job = await client.submit()
    await miner.take(job)
    body(await miner.complete(job))
    assert body(await old.operator.get("/ledger/check"))["sound"]


async def test_a_repeated_order_has_its_first_answer(old: World) -> None:
    """Its key was kept in plain, and is kept hashed since."""
    order = {"model": "queued", "input": {"prompt": "Hi"}, "price": 0.05, "gpu_type": "v100", "estimated_time": 60}
    again = await client_of(old).post("/v1/jobs", json=order, headers={"Idempotency-Key": "order-queued"})
    assert body(again, 201)["job_id"] == JOBS["queued"]
    assert await client_of(old).balance() == (49.7, 0.25)


async def test_leases_of_the_first_version_lapse_in_their_time(old: World) -> None:
    await old.later(119)
    assert (await client_of(old).job(JOBS["assigned"]))["status"] == "assigned"
    await old.later(2)
    assert (await client_of(old).job(JOBS["assigned"]))["status"] == "queued"


async def test_keys_of_the_first_version_are_good(old: World) -> None:
    assert (await client_of(old).get("/v1/clients/me")).status_code == 200
    assert await miner_of(old).status() == "active"
    assert await miner_of(old, "other").status() == "suspended"
