"""A connection that breaks while PostgreSQL is at the commit: whether it was done is found out, and it is done once."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from tests.crash.proxy import Proxy
from tests.postgres import Server

from pithead.store.clock import DatabaseClock
from pithead.store.lanes import Lanes
from pithead.store.migrate import migrate_postgres

#: A commit that takes a while, as on a slow disk or with a slow standby.
SLOW = """
    CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION be_slow()
"""
COMMITTING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' AND state = 'active'"
)


class Scene:
    """One lane that writes through a proxy to a database that is slow to commit."""

    def __init__(self, server: Server, name: str, proxy: Proxy) -> None:
        self._server, self._name, self._proxy = server, name, proxy
        url = server.tcp_url(name).replace(f":{server.port}/", f":{proxy.port}/")
        self.lanes = Lanes(url, "test", DatabaseClock(), lambda events: None, lambda: None, 1)

    def ask(self, query: bytes) -> int:
        with self._server.connect(self._name) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    async def do(self, subject: str) -> None:
        await self.lanes.run(lambda tx: tx.audit(0.0, "somebody", "something", subject, ""))

    async def cut_at_commit(self) -> None:
        """Break the connection as soon as the database is at a commit."""
        for _ in range(500):
            if await asyncio.to_thread(self.ask, COMMITTING.encode()):
                return self._proxy.cut()
            await asyncio.sleep(0.01)
        raise AssertionError("no commit was seen")


@pytest.fixture
async def scene(postgres: Server) -> AsyncIterator[Scene]:
    name = postgres.create()
    migrate_postgres(postgres.url(name))
    with postgres.connect(name) as connection:
        connection.execute(SLOW.encode())
    async with Proxy(lambda: [postgres.port], Random(1), 0.1) as proxy:
        scene = Scene(postgres, name, proxy)
        yield scene
        await scene.lanes.close()


@pytest.mark.parametrize("earlier", [0, 1], ids=["the first batch of a lane", "a later one"])
async def test_it_is_done_once(scene: Scene, earlier: int) -> None:
    for number in range(earlier):
        await scene.do(f"earlier {number}")
    doing = asyncio.ensure_future(scene.do("the one"))
    await scene.cut_at_commit()
    await doing
    assert await asyncio.to_thread(scene.ask, b"SELECT count(*) FROM audit WHERE subject = 'the one'") == 1
