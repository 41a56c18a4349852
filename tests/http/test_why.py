"""`why`, over HTTP: what keeps a miner from jobs and a job from miners, who may ask, and the warning of a submit."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.http.exchange import JOB, Client, Miner, World, body, problem


async def why(party: Miner) -> dict[str, Any]:
    return body(await party.get("/why"))


async def why_job(client: Client, job: str) -> dict[str, Any]:
    return body(await client.get(f"/v1/jobs/{job}/why"))


async def test_a_miner_is_told_which_jobs_it_does_not_get_and_why(world: World) -> None:
    client, miner = await world.client(), await world.miner(models=["gpt2", "llama"])
    fits = await client.submit()
    for price in (0.001, 0.004, 0.006):
        await client.submit(price=price)
    await client.submit(gpu_type="a100")
    await client.submit(gpu_count=4, price=1)
    await client.submit(model="whisper")
    found = await why(miner)
    assert (found["status"], found["offered"], found["stops"]) == ("active", True, [])
    assert (found["queued"], found["fits"], found["avoided"], found["resting"]) == (7, 1, 0, 0)
    assert {(one["rule"], one["wants"]): (one["jobs"], one["kinds"]) for one in found["reasons"]} == {
        ("price", ""): (3, 3), ("gpu_type", "a100"): (1, 1), ("gpu_count", "4"): (1, 1), ("model", "whisper"): (1, 1),
    }  # fmt: skip
    first = found["reasons"][0]
    assert first["reason"] == "3 jobs pay less than your price: 0.036 < 0.05 per GPU and hour"
    assert first["remedy"] == "ask for 0.036 or less"
    assert sorted(kind["pays"] for kind in found["kinds"] if kind["rule"] == "price") == [0.006, 0.024, 0.036]
    assert await miner.offered() == [fits]
    # The advice is followed, and helps.
    body(await miner.put(json={"price_per_hour": 0.036}))
    assert len(await miner.offered()) == (await why(miner))["fits"] == 2


async def test_a_miner_is_told_what_keeps_it_from_every_job(world: World) -> None:
    client = await world.client()
    jobs = [await client.submit() for _ in range(2)]
    miner = await world.register(max_concurrent=1)

    async def stops() -> dict[str, str]:
        found = await why(miner)
        assert found["offered"] == bool(await miner.offered()) == (not found["stops"])
        return {stop["rule"]: stop["reason"] for stop in found["stops"]}

    assert await stops() == {"status": "you are pending, and only an active miner takes jobs"}
    await miner.beat()
    assert await stops() == {}
    await miner.take(jobs[0])
    assert await stops() == {"max_concurrent": "you are at your 1 job"}
    body(await miner.put(json={"draining": True}))
    assert list(await stops()) == ["status", "max_concurrent"]
    body(await world.operator.post(f"/miners/{miner.id}/suspend"))
    assert (await stops())["status"] == "you are suspended, and only an active miner takes jobs"


async def test_what_failed_here_or_rests_is_told_of(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(max_attempts=5)
    await miner.take(job)
    body(await miner.fail(job))
    found = await why(miner)
    assert (found["fits"], found["avoided"], found["offered"]) == (1, 1, False)
    assert await miner.offered() == []
    of_job = await why_job(client, job)
    assert (of_job["fits"], of_job["ready"]) == (1, 0)
    assert of_job["excluded"] == [
        {"rule": "avoids", "miners": 1, "reason": "1 failed at it last, and is not offered it for a while"}
    ]
    await world.later(61)
    await miner.beat()
    await miner.take(job)
    body(await miner.fail(job))
    found = await why(miner)
    assert (found["queued"], found["resting"]) == (0, 1)
    of_job = await why_job(client, job)
    assert of_job["reason"] == "the job waits 5 s more after a failed attempt"
    assert of_job["expected_start"] >= 5


async def test_a_client_is_told_which_miners_do_not_fit_and_why(world: World) -> None:
    client = await world.client()
    for more in (
        {"gpu_type": "a100"}, {"gpu_type": "a100"}, {"models": ["llama"]}, {"price_per_hour": 0.9}, {"price_per_hour": 0.6},
    ):  # fmt: skip
        await world.miner(**more)
    busy, idle = await world.miner(max_concurrent=1), await world.miner(max_concurrent=2)
    await world.register()
    await busy.take(await client.submit())
    job = await client.submit()
    await world.later(3)  # Miners are counted anew after two seconds.
    found = await why_job(client, job)
    assert (found["registered"], found["fits"], found["ready"], found["reason"]) == (8, 3, 1, None)
    assert {one["rule"]: one["miners"] for one in found["excluded"]} == {
        "gpu_type": 2, "model": 1, "price": 2, "status": 1, "max_concurrent": 1,
    }  # fmt: skip
    assert found["excluded"][0]["reason"] == "2 have another type of GPU than v100"
    assert (found["price_for_more"], found["more_miners"]) == (0.1, 1)
    assert (found["ahead"], found["expected_start"]) == (0, 0)
    # The price that was told helps.
    dearer = await why_job(client, await client.submit(price=0.1))
    assert (dearer["fits"], dearer["price_for_more"]) == (4, 0.15)
    for _ in range(2):
        await idle.take((await idle.offered())[0])
    for _ in range(3):
        last = await client.submit(price=0.05, priority=-1)
    await world.later(3)
    found = await why_job(client, last)
    # Nobody is free among the three that fit it; before it are two of its own kind. Each should take 600 s, three at a time.
    assert (found["ready"], found["ahead"], found["expected_start"]) == (0, 2, 600)
    taken = await why_job(client, job)
    assert (taken["status"], taken["reason"]) == ("assigned", "the job is assigned: a miner works on it")


async def test_everybody_asks_of_their_own_and_the_operator_of_all(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    other_client, other_miner = await world.client(), await world.miner()
    job = await client.submit()
    problem(await other_client.get(f"/v1/jobs/{job}/why"), 404)
    problem(await client.get("/v1/jobs/job_unknown/why"), 404)
    problem(await miner.call("GET", headers={"Authorization": f"Bearer {other_miner.key}"}, path="/why"), 404)
    problem(await miner.call("GET", headers={"Authorization": f"Bearer {client.key}"}, path="/why"), 404)
    problem(await client.call("GET", f"/v1/jobs/{job}/why", headers={"Authorization": f"Bearer {miner.key}"}), 403)
    as_operator = {"Authorization": f"Bearer {world.operator.key}"}
    assert body(await miner.call("GET", "/why", headers=as_operator)) == await why(miner)
    assert body(await client.call("GET", f"/v1/jobs/{job}/why", headers=as_operator)) == await why_job(client, job)
    problem(await world.http.get("/v1/miners/miner_unknown/why", headers=as_operator), 404)


async def test_no_other_account_s_name_is_told(world: World) -> None:
    client, miner = await world.client(), await world.miner(name="a-secret-name")
    job = await client.submit(model="another")
    texts = [
        (await client.get(f"/v1/jobs/{job}/why")).text,
        (await (await world.miner(price_per_hour=9)).get("/why")).text,
    ]
    for secret in (miner.id, "a-secret-name", client.id, job):
        assert secret not in texts[1]
    assert miner.id not in texts[0]
    assert "a-secret-name" not in texts[0]


async def test_a_submit_that_nobody_could_serve_says_so_at_once(world: World) -> None:
    client = await world.client()

    async def warning(**job: Any) -> str | None:
        given: str | None = body(await client.post("/v1/jobs", json=JOB | job), 201)["warning"]
        return given

    assert await warning() == "no miner with v100 is registered; the job waits until one comes"
    miner = await world.register(models=["gpt2"])
    assert await warning() is None, "pending or offline, it may come"
    assert (
        await warning(gpu_count=2, price=1) == "no registered miner with v100 has 2 GPUs; the job waits until one comes"
    )
    assert "that is large enough lists the model llama" in str(await warning(model="llama"))
    assert await warning(price=0.001) == (
        "every registered miner that fits asks for more than it pays: the first would take it at 0.008334; "
        "the job waits until one comes"
    )
    assert await warning(price=0.008334) is None
    assert await warning(gpu_type="any", price=0.008333) is not None
    body(await miner.put(json={"price_per_hour": 0.001}))
    assert await warning(price=0.001) is None, "heard of at once"
    body(await world.operator.post(f"/miners/{miner.id}/suspend"))
    await world.later(3)
    assert await warning() is not None, "that somebody is gone may be heard of a little later"
    answer = await client.post("/v1/jobs/batch", json={"jobs": [JOB, JOB | {"gpu_type": "h100"}]})
    assert ["with v100" in str(job["warning"]) for job in body(answer, 201)["jobs"]] == [True, False]


@pytest.mark.parametrize("database", [""], ids=["sqlite"])
async def test_a_miner_over_its_limit_is_told_when_it_may_go_on(
    open_world: Callable[..., AbstractAsyncContextManager[World]],
) -> None:
    limits = {"requests_per_minute": 0, "job_operations_per_minute": 1, "registrations_per_minute": 0}
    async with open_world(rate_limits=limits) as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        assert (await why(miner))["stops"] == []
        await miner.take(job)
        [stop] = (await why(miner))["stops"]
        assert stop["rule"] == "job_operations"
        assert stop["reason"].startswith("the limit of 1 job operations in 60 s is reached, again in ")
        problem(await miner.complete(job), 429)
        body(await world.operator.put(f"/miners/{miner.id}/limits", json={"job_operations_per_minute": 0}))
        assert (await why(miner))["stops"] == []
