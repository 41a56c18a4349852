"""`why` at any coordinator: what another one did is known there too."""

import contextlib
from collections.abc import Callable

from tests.coordinators.conftest import Pair, at, until
from tests.http.exchange import JOB, World, body


async def test_both_coordinators_give_the_same_reasons(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner(price_per_hour=0.6)
    job = await client.submit()
    elsewhere = at(pair.b, miner)

    async def heard() -> bool:
        return bool(body(await elsewhere.get("/why"))["queued"])

    await until(heard)
    found = body(await elsewhere.get("/why"))
    assert found == body(await miner.get("/why"))
    assert [reason["rule"] for reason in found["reasons"]] == ["price"]
    paths = [body(await at(world, client).get(f"/v1/jobs/{job}/why")) for world in pair]
    assert paths[0] == paths[1]
    assert (paths[0]["registered"], paths[0]["fits"], paths[0]["price_for_more"]) == (1, 0, 0.1)
    # A miner that comes to one is taken into account by the other: at once where it makes a warning needless.
    answer = body(await at(pair.b, client).post("/v1/jobs", json=JOB), 201)
    assert "asks for more than it pays" in answer["warning"]
    await pair.a.miner()
    await pair.later(3)
    assert body(await at(pair.b, client).post("/v1/jobs", json=JOB), 201)["warning"] is None
    assert body(await at(pair.b, client).get(f"/v1/jobs/{job}/why"))["ready"] == 1


async def test_a_limit_that_is_counted_by_all_together_is_told_by_each(
    coordinator: Callable[..., contextlib.AbstractAsyncContextManager[World]],
) -> None:
    limits = {"requests_per_minute": 0, "job_operations_per_minute": 1, "registrations_per_minute": 0}
    async with coordinator("a", rate_limits=limits) as a, coordinator("b", rate_limits=limits) as b:
        client, miner = await a.client(), await a.miner()
        await miner.take(await client.submit())
        [stop] = body(await at(b, miner).get("/why"))["stops"]
        assert stop["rule"] == "job_operations"
        assert "the limit of 1 job operations in 60 s is reached, again in " in stop["reason"]
