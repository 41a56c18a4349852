"""What miners measured and report: estimates for jobs that name none, and a history of telemetry."""

from typing import Any

import pytest
from tests.http.exchange import JOB, World, body


async def estimate(world: World, **job: Any) -> float:
    client = await world.client()
    asked = {name: value for name, value in (JOB | {"price": 1} | job).items() if value is not None}
    made = body(await client.post("/v1/jobs", json=asked), 201)
    return float((await client.job(made["job_id"]))["estimated_time"])


async def test_a_job_without_a_time_is_estimated_by_what_the_fleet_measured(world: World) -> None:
    assert await estimate(world, estimated_time=None) == 60
    miner = await world.miner(speeds={"gpt2": 50})
    assert await estimate(world, estimated_time=None, input={"max_tokens": 100}) == 4
    assert await estimate(world, estimated_time=None, input="what is not read says nothing") == pytest.approx(
        2 + 256 / 50
    )
    assert await estimate(world, estimated_time=None, input={"max_tokens": "many"}) == pytest.approx(2 + 256 / 50)
    assert await estimate(world, input={"max_tokens": 100}) == 600, "what the client says is kept"
    await miner.put(json={"speeds": {"gpt2": 25}})
    assert await estimate(world, estimated_time=None, input={"max_tokens": 100}) == 6
    await miner.put(json={"name": "other"})
    shown = body(await world.operator.get(f"/miners/{miner.id}"))
    assert shown["speeds"] == {"gpt2": 25}


@pytest.mark.parametrize("speeds", [{"gpt2": 0}, {"gpt2": "fast"}, {" ": 1}, 3])
async def test_speeds_that_make_no_sense_are_refused(speeds: Any, world: World) -> None:
    miner = await world.miner()
    refused = body(await miner.put(json={"speeds": speeds}), 422)
    assert [error["field"].partition("[")[0].partition(".")[0] for error in refused["errors"]] == ["speeds"]


async def test_the_operator_sees_how_a_miner_did(world: World) -> None:
    miner = await world.miner()
    began = world.clock.now
    for minute in range(5):
        await miner.post("/heartbeat", json={"telemetry": {"minute": minute}})
        await world.application.coordinator.write_down(everything=True)
        world.clock.now += 60
    path = f"/miners/{miner.id}/telemetry"
    samples = body(await world.operator.get(path))["samples"]
    assert [sample["telemetry"] for sample in samples] == [{"minute": minute} for minute in range(5)]
    assert 0 <= began - samples[0]["at"] < 60
    later = body(await world.operator.get(path, params={"since": began + 61, "limit": 2}))["samples"]
    assert [sample["telemetry"]["minute"] for sample in later] == [2, 3]
    assert (await world.operator.get("/miners/miner_nobody/telemetry")).status_code == 404
    assert (await miner.get("/telemetry")).status_code in (401, 403, 404)
