"""Completing: twice, late, under an older lease; and waiting for it to happen."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from tests.http.exchange import HASH, OTHER_HASH, Api, World, body, parked, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


# -- completing


async def test_completing_twice(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    token = (await miner.take(job))["lease_token"]
    first = body(await miner.complete(job, token=token, gpu_time_seconds=1))
    await world.later(1000)
    for sent in (token, None):
        assert body(await miner.complete(job, token=sent)) == first
        problem(await miner.complete(job, OTHER_HASH, sent), 409)
    assert (await miner.stats()).items() >= {"total_jobs": 1, "earnings": 0.05}.items()
    assert await client.balance() == (99.95, 0)
    assert first["receipt"].items() >= {
        "job_id": job, "miner_id": miner.id, "attempt": 1, "result_hash": HASH, "amount": 0.05,
    }.items()  # fmt: skip


@pytest.mark.parametrize("with_token", [True, False])
async def test_a_late_complete_is_paid_while_nobody_has_the_job(world: World, with_token: bool) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    token = (await miner.take(job))["lease_token"]
    await world.later(1000)
    assert (await client.job(job))["status"] == "queued"
    answer = body(await miner.complete(job, token=token if with_token else None))
    assert answer["earned"] == 0.05
    assert body(await miner.complete(job)) == answer
    assert (await miner.stats()).items() >= {"total_jobs": 1, "success_rate": 1, "earnings": 0.05}.items()
    assert (await client.job(job)).items() >= {"status": "completed", "miner_id": miner.id}.items()


@pytest.mark.parametrize("with_token", [True, False])
@pytest.mark.parametrize("done", [True, False])
async def test_a_late_complete_is_refused_once_another_has_the_job(world: World, with_token: bool, done: bool) -> None:
    client, slow, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    lease = await slow.take(job)
    token: str | None = lease["lease_token"] if with_token else None
    await world.later(120)
    await other.beat()
    await other.take(job)
    if done:
        body(await other.complete(job, OTHER_HASH))
    problem(await slow.complete(job, token=token), 409)
    problem(await slow.fail(job, token=token), 409)
    problem(await slow.upload(job, b"late", token), 409)
    problem(await slow.post(f"/jobs/{job}/progress", headers={} if token is None else {"Lease-Token": token}), 409)
    assert (await slow.stats())["earnings"] == 0
    if not done:
        body(await other.complete(job, OTHER_HASH))
    assert (await other.stats())["earnings"] == 0.05
    assert (await client.job(job))["result_hash"] == OTHER_HASH


async def test_a_lease_token_fences_also_within_one_miner(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    old = (await miner.take(job))["lease_token"]
    await world.later(120)
    await miner.beat()
    new = (await miner.take(job))["lease_token"]
    assert new != old
    problem(await miner.upload(job, b"old", old), 409)
    problem(await miner.complete(job, token=old), 409)
    problem(await miner.complete(job, token="lease_unknown"), 409)
    body(await miner.complete(job, token=new))


async def test_a_late_complete_is_refused_once_the_job_has_failed(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(max_attempts=1)
    await miner.take(job)
    await world.later(120)
    problem(await miner.complete(job), 409)
    assert (await client.job(job))["status"] == "failed"
    assert await client.balance() == (100, 0)


async def test_a_job_that_it_completed_is_not_called_lost(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    late, again = await client.submit(), await client.submit()
    for job in (late, again):
        await miner.take(job)
    await world.later(120)
    assert {stop["job_id"] for stop in (await miner.beat())["stop"]} == {late, again}
    body(await miner.complete(late))
    await miner.take(again)
    body(await miner.complete(again))
    assert (await miner.beat())["stop"] == []
    # Nor where the answer to its complete was lost, and it still names the job.
    assert (await miner.beat(late, again))["stop"] == []


# -- waiting


async def test_waiting_for_an_offer_ends_with_the_first_that_fits(world: World) -> None:
    client, miner = await world.client(), await world.miner(models=["gpt2"])
    waiting = asyncio.create_task(miner.offered(wait=60))
    await parked(waiting)
    await client.submit(model="another")
    await client.submit(gpu_type="a100")
    await parked(waiting)
    async with asyncio.timeout(10):
        job = await client.submit()
        assert await waiting == [job]


async def test_waiting_for_an_offer_ends_when_another_hands_back(world: World) -> None:
    client, holder, miner = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    await holder.take(job)
    waiting = asyncio.create_task(miner.offered(wait=60))
    await parked(waiting)
    async with asyncio.timeout(10):
        body(await holder.release(job))
        assert await waiting == [job]


async def test_waiting_for_an_offer_ends_when_back_off_does(world: World) -> None:
    client, one, two = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    for miner in (one, two):
        await miner.take(job)
        body(await miner.fail(job))
    third = await world.miner()
    waiting = asyncio.create_task(third.offered(wait=60))
    await parked(waiting)
    async with asyncio.timeout(10):
        await world.later(5)
        assert await waiting == [job]


async def test_waiting_ends_without_anything_too(roomy: Api) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="nothing-comes")
    job = await client.submit(gpu_type="nobody-has-it")
    begun = time.monotonic()
    offered, seen = await asyncio.gather(miner.offered(wait=0.2), client.get(f"/v1/jobs/{job}?wait=0.2"))
    assert 0.2 <= time.monotonic() - begun < 5
    assert offered == []
    assert body(seen)["status"] == "queued"


@pytest.mark.parametrize("end", ["complete", "cancel", "fail", "expire"])
async def test_waiting_for_a_job_to_finish(world: World, end: str) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(timeout=100)
    waiting = asyncio.create_task(client.get(f"/v1/jobs/{job}", params={"wait": 60}))
    await parked(waiting)
    await miner.take(job)
    await parked(waiting)
    async with asyncio.timeout(10):
        match end:
            case "complete":
                body(await miner.complete(job))
            case "cancel":
                body(await client.delete(f"/v1/jobs/{job}"))
            case "fail":
                body(await miner.fail(job, "bad_input"))
            case _:
                await world.later(100)
        status = body(await waiting)["status"]
    assert status == {"complete": "completed", "cancel": "cancelled", "fail": "failed", "expire": "expired"}[end]
    assert body(await client.get(f"/v1/jobs/{job}?wait=60"))["status"] == status


async def test_those_who_wait_are_let_go_at_the_stop(open_world: OpenWorld) -> None:
    async with open_world() as world:
        client, miner = await world.client(), await world.miner(gpu_type="a100")
        job = await client.submit()
        calls = [asyncio.create_task(c) for c in (miner.offered(wait=60), client.get(f"/v1/jobs/{job}?wait=60"))]
        for call in calls:
            await parked(call)
        async with asyncio.timeout(10):
            world.application.coordinator.stop()
            await asyncio.gather(*calls)


async def test_progress_is_shown(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    problem(await miner.post(f"/jobs/{job}/progress"), 409)
    await miner.take(job)
    answer = body(await miner.post(f"/jobs/{job}/progress", json={"fraction": 0.25, "message": "loading"}))
    assert answer == {"job_id": job, "status": "running"}
    assert (await client.job(job)).items() >= {"progress": 0.25, "progress_message": "loading"}.items()
    problem(await miner.post(f"/jobs/{job}/progress", json={"fraction": 1.1}), 422, "fraction")
