"""Rate limits are of the exchange, not of a coordinator: counted in the database, or in Redis."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.coordinators.conftest import at
from tests.http.exchange import REGISTRATION, World, problem
from tests.redis_server import Redis

Opened = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with Redis() as server:
        yield server.url


@pytest.fixture(params=["", "database", "redis", "valkey"])
def storage(request: pytest.FixtureRequest) -> str:
    """The setting `rate_limits.storage`: where it is empty, PostgreSQL counts."""
    if request.param in ("", "database"):
        return str(request.param)
    return str(request.getfixturevalue("redis_url")).replace("redis", request.param)


async def test_a_miner_s_requests_are_counted_together(coordinator: Opened, storage: str) -> None:
    limits: dict[str, Any] = {"requests_per_minute": 9, "job_operations_per_minute": 4, "storage": storage}
    async with coordinator("a", rate_limits=limits) as a, coordinator("b", rate_limits=limits) as b:
        miner = await a.register()
        faces = [at(world, miner) for world in (a, b)]
        # Of these some are job operations, which have a limit of their own.
        asked = [faces[n % 2].accept("job_x") for n in range(20)]
        codes = Counter(answer.status_code for answer in await asyncio.gather(*asked))
        assert codes == {404: 4, 429: 16}
        codes = Counter(answer.status_code for answer in await asyncio.gather(*(faces[n % 2].get() for n in range(20))))
        assert codes[200] <= 5
        assert codes[200] + codes[429] == 20
        for face in faces:
            refused = await face.get()
            problem(refused, 429)
            assert 0 < int(refused.headers["retry-after"]) <= 60
            assert refused.headers["ratelimit-remaining"] == "0"


async def test_no_other_miner_pays_for_it(coordinator: Opened, storage: str) -> None:
    limits: dict[str, Any] = {"requests_per_minute": 3, "storage": storage}
    async with coordinator("a", rate_limits=limits) as a, coordinator("b", rate_limits=limits) as b:
        greedy, other = await a.register(), await a.register()
        for _ in range(4):
            answer = await at(b, greedy).get()
        assert answer.status_code == 429
        answer = await at(b, other).get()
        assert (answer.status_code, answer.headers["ratelimit-remaining"]) == (200, "2")


async def test_registrations_of_one_address_are_counted_together(coordinator: Opened, storage: str) -> None:
    limits: dict[str, Any] = {"registrations_per_minute": 5, "storage": storage}
    async with coordinator("a", rate_limits=limits) as a, coordinator("b", rate_limits=limits) as b:
        # Redis outlives the test: what others registered from this address may count too.
        asked = [world.http.post("/v1/miners", json=REGISTRATION) for world in (a, b) for _ in range(8)]
        codes = Counter(answer.status_code for answer in await asyncio.gather(*asked))
        assert codes[201] <= 5
        assert codes[201] + codes[429] == 16


async def test_while_the_storage_is_away_each_counts_for_itself(
    coordinator: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    limits: dict[str, Any] = {"requests_per_minute": 3, "storage": "redis://127.0.0.1:1"}
    async with coordinator("a", rate_limits=limits) as a:
        miner = await a.register()
        codes = [(await miner.get()).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
    assert [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "pithead.http"] == [
        "rate limits are counted in memory for now"
    ]
