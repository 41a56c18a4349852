"""The limits: those of the contract, with their headers, to the request; and the settings that change them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
import time_machine
from tests.http.exchange import JSON, REGISTER, Api, World, body, connect, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]

NONE = {"requests_per_minute": 0, "job_operations_per_minute": 0, "registrations_per_minute": 0}

# -- by default


def standing(response: httpx.Response) -> dict[str, int]:
    """What is left of each limit, by the RateLimit header."""
    parts = (part.split(";") for part in response.headers["ratelimit"].split(", "))
    return {name.strip('"'): int(left.removeprefix("r=")) for name, left, _ in parts}


def limited(response: httpx.Response, limit: int) -> None:
    """The response is a 429 with all its headers."""
    problem(response, 429)
    headers = response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert int(headers["ratelimit-limit"]) == limit
    assert int(headers["ratelimit-remaining"]) == 0
    assert 0 <= int(headers["ratelimit-reset"]) <= 60
    assert 0 in standing(response).values()
    assert f"q={limit};w=60" in headers["ratelimit-policy"]


async def test_429_after_ten_job_operations(api: Api) -> None:
    client, miner = await api.client(), await api.miner(gpu_type="ten")  # its heartbeat is a request
    job = await client.submit(gpu_type="ten")
    operations: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: miner.accept(job),
        lambda: miner.accept("job_unknown"),
        lambda: miner.fail("job_unknown"),
        lambda: miner.release("job_unknown"),
        lambda: miner.complete("job_unknown"),
    ] * 2
    for done, operation in enumerate(operations, 1):
        answer = await operation()
        assert answer.status_code in (200, 404)
        assert standing(answer) == {"requests": 59 - done, "job-operations": 10 - done}
        assert answer.headers["ratelimit-limit"] == "10"
        assert answer.headers["ratelimit-remaining"] == str(10 - done)
    for operation in operations[:5]:
        answer = await operation()
        limited(answer, 10)
        assert standing(answer) == {"requests": 49, "job-operations": 0}  # a refused one uses up neither
    # An upload or a progress report counts as a request only.
    assert body(await miner.post(f"/jobs/{job}/progress", json={"fraction": 0.5}))["status"] == "running"
    uploaded = await miner.upload(job, b"result")
    assert body(uploaded)["size"] == 6
    assert standing(uploaded) == {"requests": 47}
    assert await miner.beat()


async def test_429_after_sixty_requests(api: Api) -> None:
    miner, neighbour = await api.miner(), await api.miner()
    for done in range(2, 61):
        answer = await miner.get("/stats")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-remaining"] == str(60 - done)
        assert answer.headers["ratelimit-limit"] == "60"
    for refused in (miner.get("/stats"), miner.post("/heartbeat"), miner.accept("job_unknown"), miner.get("/nothing")):
        limited(await refused, 60)
    # Per miner, not per address.
    assert (await neighbour.get("/stats")).headers["ratelimit-remaining"] == "58"


async def test_a_refused_key_uses_nothing_up(api: Api) -> None:
    miner = await api.miner()
    for _ in range(5):
        problem(await api.http.get(miner.base + "/stats", headers={"X-Api-Key": "key_nobody"}), 401)
    assert (await miner.get("/stats")).headers["ratelimit-remaining"] == "58"


async def test_limits_for_one_miner(api: Api) -> None:
    miner = await api.miner()

    async def limits(requests: int | None, operations: int | None) -> None:
        given = {"requests_per_minute": requests, "job_operations_per_minute": operations}
        answer = body(await api.operator.put(f"/miners/{miner.id}/limits", json=given))
        assert answer["limits"] == given

    await limits(100, 2)
    assert (await miner.get("/stats")).headers["ratelimit-limit"] == "100"
    for _ in range(2):
        problem(await miner.accept("job_unknown"), 404)
    limited(await miner.accept("job_unknown"), 2)
    await limits(0, 12)
    for _ in range(12):
        problem(await miner.accept("job_unknown"), 404)
    limited(await miner.accept("job_unknown"), 12)
    await limits(0, 0)
    for _ in range(70):
        answer = await miner.accept("job_unknown")
        problem(answer, 404)
    assert "ratelimit" not in answer.headers
    await limits(None, None)
    assert standing(await miner.accept("job_unknown")).keys() == {"requests", "job-operations"}


async def test_the_limit_of_registrations_is_by_address(default_url: str) -> None:
    async def register(api: Api) -> httpx.Response:
        return await api.http.post("/v1/miners", content=REGISTER, headers=JSON)

    async with connect(default_url, "", address="127.2.0.1") as api:
        answers = await asyncio.gather(*(register(api) for _ in range(60)))
        assert {answer.status_code for answer in answers} == {201}
        limited(await register(api), 60)
    async with connect(default_url, "", address="127.2.0.2") as api:
        assert (await register(api)).headers["ratelimit-remaining"] == "59"


async def test_the_window_moves(open_world: OpenWorld) -> None:
    """By this machine's clock, which the test moves; that of a database has a test of its own (tests/store)."""
    with time_machine.travel(1_800_000_000, tick=False) as time:
        async with open_world(limits=True, rate_limits={"storage": "memory"}) as world:
            miner = await world.miner()
            for _ in range(5):
                problem(await miner.accept("job_unknown"), 404)
            time.shift(30)
            for _ in range(5):
                problem(await miner.accept("job_unknown"), 404)
            refused = await miner.accept("job_unknown")
            limited(refused, 10)
            # Retry-After is the truth: one second before, it is still refused; then as many go as have left the window.
            time.shift(int(refused.headers["retry-after"]) - 1)
            limited(await miner.accept("job_unknown"), 10)
            time.shift(1.5)
            for _ in range(5):
                problem(await miner.accept("job_unknown"), 404)
            limited(await miner.accept("job_unknown"), 10)


# -- as settings


async def test_limits_by_default(open_world: OpenWorld) -> None:
    async with open_world(limits=True) as world:
        limits = world.application.settings.rate_limits
        assert (limits.requests_per_minute, limits.job_operations_per_minute) == (60, 10)
        assert limits.registrations_per_minute == 60


async def test_requests_a_minute_for_all_miners(open_world: OpenWorld) -> None:
    async with open_world(rate_limits=NONE | {"requests_per_minute": 3}) as world:
        for _ in range(2):
            miner = await world.register()
            for left in ("2", "1", "0"):
                assert (await miner.get()).headers["ratelimit-remaining"] == left
            problem(await miner.get(), 429)
        # One with limits of its own goes by those.
        body(await world.operator.put(f"/miners/{miner.id}/limits", json={"requests_per_minute": 5}))
        assert (await miner.get()).headers["ratelimit-limit"] == "5"


async def test_job_operations_a_minute_for_all_miners(open_world: OpenWorld) -> None:
    async with open_world(rate_limits=NONE | {"job_operations_per_minute": 2}) as world:
        miner = await world.register()
        for _ in range(2):
            problem(await miner.accept("job_unknown"), 404)
        refused = await miner.accept("job_unknown")
        problem(refused, 429)
        assert "2 job operations in 60 s" in refused.json()["detail"]
        for _ in range(9):
            body(await miner.get("/stats"))


async def test_registrations_a_minute(open_world: OpenWorld) -> None:
    async with open_world(rate_limits=NONE | {"registrations_per_minute": 2}) as world:
        for _ in range(2):
            miner = await world.register()
        refused = await world.http.post("/v1/miners", json={})
        problem(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        body(await miner.get())


async def test_requests_a_minute_of_clients(open_world: OpenWorld) -> None:
    """None by default: they pay."""
    async with open_world(rate_limits=NONE | {"client_requests_per_minute": 2}) as world:
        client, other = await world.client(), await world.client()
        for _ in range(2):
            body(await client.get("/v1/clients/me"))
        problem(await client.get("/v1/clients/me"), 429)
        body(await other.get("/v1/clients/me"))
        body(await world.operator.get("/overview"))


@pytest.mark.parametrize("who", ["miner", "client", "operator"])
async def test_0_is_none(world: World, who: str) -> None:
    parties: dict[str, Any] = {
        "miner": await world.register(),
        "client": await world.client(),
        "operator": world.operator,
    }
    path = {"miner": "", "client": "/v1/clients/me", "operator": "/overview"}[who]
    for _ in range(100):
        answer = await parties[who].get(path)
        body(answer)
    assert "ratelimit" not in answer.headers
