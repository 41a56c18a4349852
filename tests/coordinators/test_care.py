"""What happens by itself happens once, wherever, and goes on when a coordinator dies."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest
from tests.coordinators.conftest import Pair, at, until
from tests.http.exchange import World, body

from pithead.store.postgres import LOCKS

Opened = Callable[..., AbstractAsyncContextManager[World]]


async def test_a_lease_that_lapses_while_both_sweep_lapses_once(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    jobs = [await client.submit(max_attempts=1) for _ in range(4)]
    for job in jobs:
        await miner.take(job)
    await pair.later(121)
    assert [(await client.job(job))["status"] for job in jobs] == ["failed"] * 4
    assert (await at(pair.b, miner).stats())["total_jobs"] == 4
    assert await client.balance() == (100, 0)
    assert body(await pair.a.operator.get("/ledger/check"))["sound"]


async def test_a_heartbeat_at_one_holds_against_the_sweep_of_the_other(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    job = await client.submit()
    await miner.take(job)
    for turn in range(6):
        await at(pair[turn % 2], miner).beat(job)
        await pair.later(100)
    assert (await client.job(job))["status"] == "assigned"
    await pair.later(21)
    assert (await client.job(job))["status"] == "queued"


async def test_the_work_goes_on_when_the_one_that_was_at_it_dies(pair: Pair, url: str) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    job = await client.submit()
    await miner.take(job)
    # One that has begun a sweep, and holds what a sweep holds, until its connection ends.
    dying = psycopg.connect(url)
    dying.execute("SELECT pg_advisory_xact_lock(%s, 3)", (LOCKS,))
    dying.execute("SELECT 1 FROM jobs JOIN miners ON miners.seq = jobs.miner FOR UPDATE")
    await pair.later(121)
    assert (await client.job(job))["status"] == "assigned", "nobody does the same work beside it"
    dying.close()

    async def taken_over() -> bool:
        await pair.later(0)
        return bool((await client.job(job))["status"] == "queued")

    # The server notices a moment later that it is gone.
    await until(taken_over)


async def test_an_outage_of_all_lapses_no_lease(coordinator: Opened) -> None:
    async with coordinator("a") as a, coordinator("b") as b:
        client, miner = await a.client(), await b.miner()
        job = await client.submit(timeout=1000)
        lease = await miner.take(job)
    a.clock.now += 50_000
    async with coordinator("b") as b:
        await b.later(0)
        assert (await at(b, client).job(job))["status"] == "assigned"
        assert await at(b, miner).status() == "active"
        # One that joins while the other is up extends nothing.
        b.clock.now += 5
        async with coordinator("a") as a:
            again = await at(a, miner).take(job)
            assert again["lease_expires_at"] == lease["lease_expires_at"] + 50_000
        await b.later(114)
        assert (await at(b, client).job(job))["status"] == "assigned"
        await b.later(2)
        assert (await at(b, client).job(job))["status"] == "queued"


@pytest.mark.parametrize("gap", [600.0, -600.0, 7.0])
async def test_time_in_which_none_could_work_is_made_good_once(pair: Pair, gap: float) -> None:
    """The database was away, all of them stood still, or its clock was set: forwards, or back."""
    client, miner = await pair.a.client(), await pair.a.miner()
    job = await client.submit()
    lease = await miner.take(job)
    await pair.later(118)
    pair.a.clock.now += gap
    await asyncio.gather(*(world.application.coordinator.say_alive() for world in pair))
    await asyncio.gather(*(world.application.coordinator.sweep() for world in pair))
    assert (await client.job(job))["status"] == "assigned"
    assert (await at(pair.b, miner).take(job))["lease_expires_at"] == lease["lease_expires_at"] + gap
    await pair.later(3)
    assert (await client.job(job))["status"] == "queued"


async def test_one_outage_that_two_return_from_is_made_good_once(coordinator: Opened) -> None:
    async with coordinator("a") as a:
        client, miner = await a.client(), await a.miner()
        job = await client.submit()
        lease = await miner.take(job)
    a.clock.now += 1000
    one, other = coordinator("a"), coordinator("b")
    a, b = await asyncio.gather(one.__aenter__(), other.__aenter__())
    try:
        assert (await at(b, miner).take(job))["lease_expires_at"] == lease["lease_expires_at"] + 1000
    finally:
        await asyncio.gather(one.__aexit__(None, None, None), other.__aexit__(None, None, None))
