"""The database's clock jumps under several coordinators: it costs nobody a lease, and work goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.exchange import HASH, body
from tests.http.several import Several, at
from tests.postgres import Server

#: A clock of ours before PostgreSQL's own, for those who ask in this database.
CLOCK = """
    CREATE TABLE jump (seconds DOUBLE PRECISION NOT NULL);
    INSERT INTO jump VALUES (0);
    CREATE FUNCTION public.clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE sql VOLATILE AS
        $$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM public.jump $$
"""
TTL = 120


@pytest.fixture
def clocked(postgres: Server, tmp_path: Path) -> Iterator[Several]:
    """A database of its own, whose clock can be set."""
    name = postgres.create()
    url = postgres.url(name)
    with postgres.connect(name) as connection:
        connection.execute(CLOCK.encode())
        connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog".encode())
    yield Several(url, tmp_path)


@pytest.mark.parametrize("seconds", [3600, -3600, 20_000_000, -20_000_000, 3, -3])
async def test_a_jump_costs_nobody_a_lease(clocked: Several, seconds: float) -> None:
    async with clocked.serving("a") as one, clocked.serving("b") as other:
        client, miner = await one.client(), await one.miner()
        held, queued = await client.submit(timeout=600), await client.submit(timeout=31_000_000)
        await miner.take(held)
        await clocked.look_after()
        clocked.jump(seconds)
        await clocked.look_after()
        before = clocked.applications[0].coordinator.now()
        assert abs(clocked.applications[1].coordinator.now() - before) < 1
        assert (await client.job(held))["status"] == "assigned"
        (lease,) = (await miner.beat())["leases"]
        assert TTL - 10 < lease["expires_in"] < TTL + 6
        assert (await client.job(queued))["status"] == "queued"
        # It goes on at another coordinator, and the next lease is as long as ever.
        there = at(other, miner)
        assert body(await there.complete(held, HASH))["earned"] == 0.05
        taken = await there.take(queued)
        assert TTL - 1 < taken["lease_expires_in"] <= TTL
        assert sum((await other.ledger()).values()) == 0


async def test_the_clock_of_one_coordinators_machine_is_not_asked(
    clocked: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator whose own clock is a day behind goes by the database's as soon as it has asked."""
    async with clocked.serving("a") as one:
        import time

        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() - 86_400)
        async with clocked.serving("b"):
            first, second = (application.coordinator.now() for application in clocked.applications)
            assert abs(first - second) < 1
            assert abs(first - right()) < 5
        await one.miner()
