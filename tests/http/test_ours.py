"""What the fixed part leaves open, as this exchange decides it: enrolment, a miner's states, and who is offered what."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from tests.http.exchange import Miner, World, body, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


# -- enrolment, and the states of a miner


async def test_open_enrollment_admits_with_the_first_heartbeat(world: World) -> None:
    client, miner = await world.client(), await world.register()
    job = await client.submit()
    assert await miner.status() == "pending"
    assert await miner.offered() == []
    problem(await miner.accept(job), 409)
    assert (await miner.beat())["miner_status"] == "active"
    assert await miner.offered() == [job]


async def test_enrollment_by_approval(open_world: OpenWorld) -> None:
    async with open_world(enrollment="approval") as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        assert await miner.status() == "pending"
        assert await miner.offered() == []
        problem(await miner.accept(job), 409)
        assert body(await world.operator.post(f"/miners/{miner.id}/approve"))["status"] == "active"
        # It need not wait for its next heartbeat.
        assert await miner.offered() == [job]
        assert (await miner.beat())["miner_status"] == "active"


async def test_enrollment_by_token(open_world: OpenWorld) -> None:
    async with open_world(enrollment="token") as world:
        registration = {
            "name": "m", "gpu_type": "v100", "gpu_count": 1, "location": "", "price_per_hour": 0, "max_concurrent": 1,
        }  # fmt: skip

        async def register(token: Any) -> httpx.Response:
            return await world.http.post("/v1/miners", json=registration | {"enrollment_token": token})

        made = body(await world.operator.post("/enrollment-tokens", json={"uses": 2, "expires_in": 60}), 201)
        token = made["enrollment_token"]
        assert made["uses"] == 2
        assert made["expires_at"] == world.clock.now + 60
        problem(await world.http.post("/v1/miners", json=registration), 403)
        problem(await register("enroll_nonsense"), 403)
        problem(await register(None), 403)
        # A registration that is refused for another fault does not use the token up.
        problem(await world.http.post("/v1/miners", json={"enrollment_token": token}), 422, *registration)
        registered = [body(await register(token), 201) for _ in range(2)]
        problem(await register(token), 403)
        miner = Miner(world.http, registered[0]["api_key"], f"/v1/miners/{registered[0]['miner_id']}")
        assert (await miner.beat())["miner_status"] == "active"

        second = body(await world.operator.post("/enrollment-tokens", json={"expires_in": 60}), 201)
        assert second["uses"] == 1
        await world.later(60)
        problem(await register(second["enrollment_token"]), 403)


async def test_draining_finishes_and_takes_nothing_new(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    held, queued = await client.submit(), await client.submit()
    await miner.take(held)
    assert body(await miner.put(json={"draining": True}))["status"] == "draining"
    assert await miner.offered() == []
    assert (await miner.beat()).items() >= {"miner_status": "draining", "jobs_assigned": 1, "queue_length": 0}.items()
    problem(await miner.accept(queued), 409)
    body(await miner.complete(held))
    assert body(await miner.put(json={"draining": False}))["status"] == "active"
    assert await miner.offered() == [queued]


async def test_suspended_finishes_and_takes_nothing_new(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    held, queued = await client.submit(), await client.submit()
    await miner.take(held)
    assert body(await world.operator.post(f"/miners/{miner.id}/suspend"))["status"] == "suspended"
    assert (await miner.beat()).items() >= {"miner_status": "suspended", "queue_length": 0}.items()
    assert await miner.offered() == []
    problem(await miner.accept(queued), 409)
    assert body(await miner.complete(held))["earned"] == 0.05
    assert body(await world.operator.post(f"/miners/{miner.id}/approve"))["status"] == "active"
    assert await miner.offered() == [queued]


async def test_offline_after_silence_and_back_with_a_heartbeat(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await world.later(179)
    assert await miner.status() == "active"
    await world.later(1)
    assert await miner.status() == "offline"
    assert await miner.offered() == []
    problem(await miner.accept(job), 409)
    assert (await miner.beat())["miner_status"] == "active"
    assert await miner.offered() == [job]


async def test_retired_is_for_good(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    retire = f"/miners/{miner.id}/retire"
    retired = body(await world.operator.post(retire))
    assert retired["status"] == "retired"
    assert body(await world.operator.post(retire)) == retired
    problem(await miner.post("/heartbeat"), 401)
    # What it held is another's at once, and no attempt has failed.
    assert await other.offered() == [job]
    assert (await client.job(job))["status"] == "queued"
    for call in ("approve", "suspend"):
        problem(await world.operator.post(f"/miners/{miner.id}/{call}"), 409)
    for method in ("POST", "DELETE"):
        problem(await world.operator.call(method, f"/accounts/{miner.id}/keys"), 409)


# -- who is offered what


@pytest.mark.parametrize(
    ("miner", "job", "fits"),
    [
        ({"gpu_type": "A100"}, {"gpu_type": "a100"}, True),
        ({"gpu_type": "a100"}, {"gpu_type": "A100"}, True),
        ({"gpu_type": "a100"}, {"gpu_type": "v100"}, False),
        ({"gpu_type": "a100"}, {"gpu_type": "a100-80gb"}, False),
        ({"gpu_type": "a100"}, {"gpu_type": "any"}, True),
        ({"gpu_type": "a100"}, {"gpu_type": "ANY"}, True),
        ({"gpu_type": "cpu"}, {"gpu_type": "any"}, True),
        ({"gpu_type": "cpu", "gpu_count": 4}, {"gpu_type": "CPU", "gpu_count": 4}, True),
        ({"gpu_count": 2}, {"gpu_count": 2}, True),
        ({"gpu_count": 2}, {"gpu_count": 1}, True),
        ({"gpu_count": 2}, {"gpu_count": 3}, False),
        ({}, {"model": "anything"}, True),
        ({"models": ["gpt2", "llama"]}, {"model": "gpt2"}, True),
        ({"models": ["llama"]}, {"model": "gpt2"}, False),
        ({"models": ["GPT2"]}, {"model": "gpt2"}, False),
        ({"models": []}, {"model": "gpt2"}, False),
        # price >= price_per_hour * gpu_count * estimated_time / 3600
        ({"price_per_hour": 0.3}, {"price": 0.05, "estimated_time": 600}, True),
        ({"price_per_hour": 0.300001}, {"price": 0.05, "estimated_time": 600}, False),
        ({"price_per_hour": 0.3}, {"price": 0.049999, "estimated_time": 600}, False),
        ({"price_per_hour": 3.6, "gpu_count": 8}, {"price": 0.004, "gpu_count": 4, "estimated_time": 1}, True),
        ({"price_per_hour": 3.6, "gpu_count": 8}, {"price": 0.003999, "gpu_count": 4, "estimated_time": 1}, False),
        ({"price_per_hour": 0.1}, {"price": 0.000028, "estimated_time": 1}, True),  # 0.0000277…
        ({"price_per_hour": 0.1}, {"price": 0.000027, "estimated_time": 1}, False),
        ({"price_per_hour": 0}, {"price": 0}, True),
        ({"price_per_hour": 0.000001}, {"price": 0}, False),
    ],
)
async def test_matching(world: World, miner: dict[str, Any], job: dict[str, Any], fits: bool) -> None:
    client, party = await world.client(), await world.miner(**{"price_per_hour": 0} | miner)
    name = await client.submit(**job)
    assert await party.offered() == ([name] if fits else [])
    assert (await party.beat())["queue_length"] == int(fits)
    answer = await party.accept(name)
    if fits:
        assert body(answer)["job_id"] == name
    else:
        problem(answer, 409)


async def test_listing_models_anew(world: World) -> None:
    client, miner = await world.client(), await world.miner(models=["llama"])
    job = await client.submit()
    assert await miner.offered() == []
    assert body(await miner.put(json={"models": ["gpt2"]}))["models"] == ["gpt2"]
    assert await miner.offered() == [job]
    body(await miner.put(json={"name": "still the same models"}))
    assert await miner.offered() == [job]
    assert body(await miner.put(json={"models": None}))["models"] is None
    assert await miner.offered() == [job]


async def test_the_order_is_priority_then_age(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    jobs = [await client.submit(priority=p, model=f"m{i}") for i, p in enumerate([0, 5, 0, -1, 5])]
    assert await miner.offered() == [jobs[i] for i in (1, 4, 0, 2, 3)]
    assert await miner.offered(limit=2) == [jobs[1], jobs[4]]


async def test_max_concurrent_bounds_what_it_holds(world: World) -> None:
    client, miner = await world.client(), await world.miner(max_concurrent=2)
    jobs = [await client.submit() for _ in range(3)]
    await miner.take(jobs[0])
    await miner.take(jobs[1])
    assert await miner.offered() == []
    assert (await miner.beat()).items() >= {"jobs_assigned": 2, "queue_length": 0}.items()
    problem(await miner.accept(jobs[2]), 409)
    body(await miner.complete(jobs[0]))
    assert await miner.offered() == [jobs[2]]


async def test_a_miner_ends_its_registration_itself(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    other = await world.miner()
    problem(await miner.call("DELETE", headers={"Authorization": f"Bearer {other.key}"}), 404)
    assert body(await miner.delete())["status"] == "retired"
    problem(await miner.get(), 401)
    problem(await miner.delete(), 401)
    assert (await client.job(job))["status"] == "queued"
    assert (await client.job(job))["attempts"] == 1
    entries = body(await world.operator.get("/audit"))["entries"]
    assert [(one["actor"], one["action"], one["subject"]) for one in entries[:1]] == [
        (miner.id, "miner.retire", miner.id)
    ]
