"""Heartbeats go on whatever else happens, and what they tell is heeded."""

import asyncio
from typing import Any

import pytest
from tests.agent.rig import Rig, answered, lost_answer
from tests.http.exchange import body

from pithead.agent.gpus import Sampler
from pithead.client import NotFound, Unauthorized


def state(job: dict[str, Any]) -> tuple[str, int]:
    return job["status"], job["attempts"]


async def test_the_first_one_makes_a_new_miner_active(rig: Rig) -> None:
    assert await rig.miner.status() == "pending"
    async with rig.life():
        assert await rig.miner.status() == "active"


async def test_a_running_job_never_holds_one_up(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(600)
        assert len(rig.line.calls("heartbeat")) - before == 40
        assert state(await rig.client.job(work.job)) == ("running", 1)
        work.done()
        await rig.settled()
        assert (await rig.client.job(work.job))["status"] == "completed"


@pytest.mark.parametrize("name", ["available", "accept", "progress", "result", "complete"])
async def test_no_other_call_holds_one_up(name: str, rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        gate = rig.line.gate(name)
        if name in ("available", "accept"):
            await rig.client.submit()
        elif name != "progress":
            work.done()
        await rig.passes(30)
        assert gate.reached
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(300)
        assert len(rig.line.calls("heartbeat")) - before == 20
        assert (await rig.client.job(work.job))["attempts"] == 1
        gate.open()


async def test_a_lease_that_is_shorter_than_the_pace_is_renewed_in_time(dark: Rig) -> None:
    rig = dark
    async with rig.peopled(leases={"ttl": 8.0}), rig.life() as life:
        # In the middle of a long wait for the next heartbeat.
        await rig.passes(3)
        work = await life.given()
        await rig.passes(60, step=0.5)
        assert state(await rig.client.job(work.job)) == ("running", 1)
        # And once nothing is held any more, as seldom as before.
        work.done()
        await rig.passes(10)
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(60)
        assert len(rig.line.calls("heartbeat")) - before == 4


async def test_a_job_near_its_end_makes_no_flood_of_them(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(attempt_timeout=60)
        other = await life.given()
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(59.5, step=0.1)
        assert not work.stopped()
        assert len(rig.line.calls("heartbeat")) - before <= 5
        await rig.passes(10)
        assert work.stopped()
        assert state(await rig.client.job(other.job)) == ("running", 1)


async def test_nor_does_one_that_is_alone(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(attempt_timeout=60)
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(59.9, step=0.1)
        assert not work.stopped()
        assert len(rig.line.calls("heartbeat")) - before <= 5


async def test_a_cancelled_job_is_stopped_and_its_place_is_free_again(rig: Rig) -> None:
    await rig.miner.put(json={"max_concurrent": 1})
    async with rig.life() as life:
        work = await life.given()
        waiting = await rig.client.submit()
        await rig.client.delete(f"/v1/jobs/{work.job}")
        await rig.passes(15)
        assert work.stopped()
        assert [work.job for work in life.hands.running] == [waiting]
        for name in ("result", "complete", "fail", "release"):
            assert rig.line.calls(name) == []


async def test_a_job_whose_lease_is_lost_is_stopped(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.cut()
        await rig.passes(60)
        # Nothing is stopped for that the coordinator is away.
        assert not work.stopped()
        await rig.world.later(120)
        other = await rig.world.miner()
        await other.take(work.job)
        rig.line.mend()
        await rig.passes(15)
        assert work.stopped()
        await other.complete(work.job)
        assert (await rig.client.job(work.job))["miner_id"] == other.id


async def test_what_is_held_without_being_known_here_is_handed_back_at_once(rig: Rig) -> None:
    """An earlier life took it, and left nothing behind."""
    await rig.miner.beat()
    job = await rig.client.submit()
    await rig.miner.take(job)
    async with rig.life() as life:
        assert state(await rig.client.job(job)) == ("queued", 1)
        assert life.hands.works == []
        # Nobody failed: with the attempt that was handed back, three failures would be four.
        assert (await rig.miner.stats())["total_jobs"] == 0


async def test_it_is_handed_back_once_however_long_the_limits_hold_that_up(rig: Rig) -> None:
    await rig.miner.beat()
    job = await rig.client.submit()
    await rig.miner.take(job)
    rig.line.next("release", answered(429, retry_after=50))
    async with rig.life():
        await rig.passes(45)
        assert len(rig.line.calls("heartbeat")) >= 4
        await rig.passes(10)
        assert [said.status for said in rig.line.said if said.name == "release"] == [429, 200]


async def test_a_job_that_is_being_accepted_is_known(rig: Rig) -> None:
    async with rig.life() as life:
        rig.line.next("accept", lost_answer)
        gate = rig.line.gate("accept")
        await rig.client.submit()
        await rig.passes(30)
        assert gate.reached
        assert len(rig.line.calls("heartbeat")) >= 3
        gate.open()
        await rig.settled()
        assert rig.line.calls("release") == []
        [work] = life.hands.running
        assert work.assignment.attempt == 1


async def test_a_job_that_is_delivered_while_a_heartbeats_answer_is_on_its_way_is_known(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        gate = rig.line.gate("heartbeat", answer=True)
        await rig.passes(15)
        assert gate.reached
        work.done()
        await rig.settled()
        gate.open()
        await rig.settled()
        assert len(rig.line.calls("complete")) == 1
        assert [said for said in rig.line.said if said.name == "release"] == []


async def test_telemetry_comes_along_and_a_driver_that_hangs_holds_nothing_up(rig: Rig) -> None:
    hangs, done = asyncio.Event(), False
    loop = asyncio.get_running_loop()

    def sample() -> dict[str, Any]:
        if not done:
            return {"gpus": [{"name": "V100"}]}
        asyncio.run_coroutine_threadsafe(hangs.wait(), loop).result()
        return {}

    async with rig.life(telemetry=Sampler(sample).take):
        view = body(await rig.world.operator.get(f"/miners/{rig.miner.id}"))
        assert view["telemetry"] == {"gpus": [{"name": "V100"}]}
        done = True
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(151)
        assert len(rig.line.calls("heartbeat")) - before >= 9
        hangs.set()


@pytest.mark.parametrize("at_work", [False, True])
async def test_a_key_that_is_not_known_ends_the_agent(at_work: bool, rig: Rig) -> None:
    if not at_work:
        rig.miner.key = "key_of-somebody-else"
    async with rig.life() as life:
        if at_work:
            work = await life.given()
            done = await life.given()
            gate = rig.line.gate("result")
            done.done(b"kept")
            await rig.settled()
            body(await rig.world.operator.delete(f"/accounts/{rig.miner.id}/keys"))
            await rig.passes(15)
            assert work.stopped()
            assert rig.spooled() == [b"kept"]
            gate.open()
        with pytest.raises(Unauthorized, match="the key is not accepted"):
            await life.ended()
        assert life.hands.closed


async def test_a_miner_that_is_not_there_ends_the_agent(rig: Rig) -> None:
    rig.miner.id = "miner_of-another-exchange"
    async with rig.life() as life:
        with pytest.raises(NotFound):
            await life.ended()
