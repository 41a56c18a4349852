"""The limits as settings: for all miners, for registrations, for clients."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.http.exchange import World, body, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]

NONE = {"requests_per_minute": 0, "job_operations_per_minute": 0, "registrations_per_minute": 0}


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
