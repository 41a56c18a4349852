"""Heartbeats that one coordinator answers from memory hold against the judgement of all."""

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest
from tests.coordinators.conftest import Pair, at, until
from tests.http.exchange import Miner, World, body

from pithead.store.shared import Shared

Opened = Callable[..., AbstractAsyncContextManager[World]]


def batches(world: World) -> int:
    """How many transactions it has committed."""
    database = world.application.database
    assert isinstance(database, Shared)
    return database.lanes.commits


async def beats_without_a_transaction(world: World, miner: Miner) -> bool:
    before = batches(world)
    await at(world, miner).beat()
    return batches(world) == before


async def test_a_heartbeat_soon_after_another_takes_no_transaction(pair: Pair) -> None:
    miner = await pair.a.miner()
    await miner.beat()  # The first one made it active; this one is how it stands since.
    assert await beats_without_a_transaction(pair.a, miner)
    assert not await beats_without_a_transaction(pair.b, miner), "this one has not heard of it yet"
    assert await beats_without_a_transaction(pair.b, miner)


@pytest.mark.parametrize("seed", range(3))
async def test_no_lease_lapses_while_its_miner_is_heard_of_in_time_wherever_that_is(pair: Pair, seed: int) -> None:
    chance, client = random.Random(seed), await pair.a.client()
    miners = [await pair[turn % 2].miner() for turn in range(4)]
    jobs = [await client.submit() for _ in miners]
    for miner, job in zip(miners, jobs, strict=True):
        await miner.take(job)
    before, sent = batches(pair.a) + batches(pair.b), 0
    for _ in range(40):
        for miner, job in zip(miners, jobs, strict=True):
            if chance.random() < 0.8:
                sent += 1
                heard = await at(chance.choice(pair), miner).beat(*chance.choice(([], [job])))
                assert (heard["jobs_assigned"], heard["stop"]) == (1, [])
        pair.a.clock.now += chance.choice((5, 10, 15))
        # One of them judges, and the other one has not got round to writing down what it heard.
        await chance.choice(pair).application.coordinator.sweep()
        if chance.random() < 0.5:
            await pair.later(1)
    assert {(await client.job(job))["status"] for job in jobs} == {"assigned"}
    assert batches(pair.a) + batches(pair.b) - before < sent
    await pair.later(121)
    assert {(await client.job(job))["status"] for job in jobs} == {"queued"}


async def test_what_the_one_did_is_in_the_next_heartbeat_at_the_other(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner(max_concurrent=3)
    kept, cancelled, taken = [await client.submit() for _ in range(3)]
    for job in (kept, cancelled):
        await miner.take(job)
    await miner.beat()
    assert (await miner.beat())["jobs_assigned"] == 2
    body(await at(pair.b, client).delete(f"/v1/jobs/{cancelled}"))

    async def told() -> bool:
        heard = await miner.beat()
        return bool(heard["jobs_assigned"] == 1) and heard["stop"] == [{"job_id": cancelled, "reason": "cancelled"}]

    await until(told)
    await at(pair.b, miner).take(taken)

    async def has_both() -> bool:
        return bool((await miner.beat())["jobs_assigned"] == 2)

    await until(has_both)
    body(await at(pair.b, miner).complete(kept))

    async def has_one() -> bool:
        return bool((await miner.beat())["jobs_assigned"] == 1)

    await until(has_one)
    body(await pair.b.operator.post(f"/miners/{miner.id}/suspend", json={"reason": "to see"}))

    async def suspended() -> bool:
        return bool((await miner.beat())["miner_status"] == "suspended")

    await until(suspended)


async def test_what_died_with_a_coordinator_costs_no_lease(url: str, coordinator: Opened) -> None:
    """A miner whose renewals it had in memory is in time with the next one, at another."""
    async with coordinator("b") as b:
        client, miner = await b.client(), await b.miner()
        job = await client.submit()
        await miner.take(job)
        async with coordinator("a") as a:
            for _ in range(4):
                a.clock.now += 15
                await at(a, miner).beat(job)
                await a.application.coordinator.sweep()
            assert list(a.application.coordinator.presence.unwritten()), "which are lost here"
        b.clock.now += 60
        await b.application.coordinator.sweep()
        assert (await miner.beat(job))["stop"] == []
        await b.application.coordinator.sweep()
        assert (await client.job(job))["status"] == "assigned"


async def test_who_hears_nothing_of_the_others_answers_nothing_from_memory(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    miner = await pair.a.miner()
    await miner.beat()  # The first one made it active; this one is how it stands since.
    assert await beats_without_a_transaction(pair.a, miner)
    with monkeypatch.context() as deaf:
        deaf.setattr(pair.a.application.database, "hears", lambda: False)
        assert not await beats_without_a_transaction(pair.a, miner)
    pair.a.application.coordinator.on_gap()
    assert not await beats_without_a_transaction(pair.a, miner), "what was missed is not known"


async def test_an_orderly_stop_leaves_what_was_heard_in_the_database(url: str, coordinator: Opened) -> None:
    async with coordinator("a") as a:
        miner = await a.miner()
        await miner.beat()
        a.clock.now += 5
        await miner.beat()
        heard_at = a.clock.now
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT last_seen_at FROM miners WHERE id = %s", (miner.id,)).fetchone()
    assert row == (heard_at,)
