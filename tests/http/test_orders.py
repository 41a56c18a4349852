"""What a miner has to hear is there to be heard at once: the event wakes it, and no poll."""

import asyncio
from typing import Any

import pytest
from tests.http.exchange import Miner, World, body, parked, problem


def listening(miner: Miner, after: str) -> "asyncio.Task[dict[str, Any]]":
    async def ask() -> dict[str, Any]:
        return body(await miner.get("/orders", params={"wait": 60, "after": after}))

    return asyncio.create_task(ask())


async def version(miner: Miner) -> str:
    return str(body(await miner.get("/orders", params={"wait": 60}))["version"])


async def test_a_cancellation_is_heard_with_its_commit(world: World) -> None:
    client, miner, idle = await world.client(), await world.miner(), await world.miner(name="idle")
    job = await client.submit()
    await miner.take(job)
    calls = [listening(one, await version(one)) for one in (miner, idle)]
    for call in calls:
        await parked(call)
    body(await client.delete(f"/v1/jobs/{job}"))
    heard = await asyncio.wait_for(calls[0], 2)
    assert (heard["miner_status"], heard["stop"]) == ("active", [{"job_id": job, "reason": "cancelled"}])
    # It is told of it as long as heartbeats would tell, and the call is held until there is something else.
    again = listening(miner, heard["version"])
    await parked(again)
    await parked(calls[1])
    assert (await miner.beat())["stop"] == heard["stop"]
    for call in (again, calls[1]):
        call.cancel()


async def test_so_are_a_lost_lease_an_expired_job_and_a_decision(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    lost, expired = await client.submit(), await client.submit(timeout=130)
    await miner.take(lost)
    call = listening(miner, await version(miner))
    await parked(call)
    await world.later(121)
    heard = await asyncio.wait_for(call, 2)
    assert heard["stop"] == [{"job_id": lost, "reason": "lost"}]
    body(await miner.post("/heartbeat"))
    await miner.take(expired)
    call = listening(miner, heard["version"])
    await parked(call)
    await world.later(10)
    heard = await asyncio.wait_for(call, 2)
    assert {"job_id": expired, "reason": "expired"} in heard["stop"]
    call = listening(miner, heard["version"])
    await parked(call)
    body(await world.operator.post(f"/miners/{miner.id}/suspend"))
    heard = await asyncio.wait_for(call, 2)
    assert heard["miner_status"] == "suspended"


async def test_its_own_doing_wakes_nobody(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    call = listening(miner, await version(miner))
    job = await client.submit()
    await miner.take(job)
    body(await miner.post(f"/jobs/{job}/progress"))
    await miner.beat()
    body(await miner.complete(job))
    await parked(call)
    call.cancel()


async def test_a_job_lost_twice_is_told_twice(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(max_attempts=9)
    versions = set()
    for _ in range(2):
        await miner.take(job)
        await world.later(121)
        heard = body(await miner.get("/orders"))
        assert heard["stop"] == [{"job_id": job, "reason": "lost"}]
        versions.add(heard["version"])
        await world.later(61)
        await miner.beat()
    assert len(versions) == 2
    # Taken anew it is its own again, and nothing to stop.
    await miner.take(job)
    assert body(await miner.get("/orders"))["stop"] == []


async def test_it_is_answered_after_its_time_and_at_the_end_of_the_coordinator(world: World) -> None:
    miner, other = await world.miner(), await world.miner()
    known = await version(miner)
    assert body(await miner.get("/orders", params={"wait": 0.01, "after": known}))["version"] == known
    call = listening(miner, known)
    await parked(call)
    world.application.coordinator.stop()
    assert (await asyncio.wait_for(call, 2))["version"] == known
    problem(await other.call("GET", f"/../{miner.id}/orders"), 404)


@pytest.mark.parametrize("wait", ["61", "-1", "x"])
async def test_a_wait_that_cannot_be(world: World, wait: str) -> None:
    problem(await (await world.miner()).get("/orders", params={"wait": wait}), 422, "wait")
