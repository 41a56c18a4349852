"""The agent hears of a cancellation, a lost lease and a decision at once, and with heartbeats where it cannot listen."""

import pytest
from tests.agent.rig import Fault, Rig, answered, lost_request
from tests.http.exchange import body


async def test_a_cancelled_job_is_stopped_without_any_time_passing(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(2)
        work, other = await life.given(), await life.given()
        before = len(rig.line.calls("heartbeat"))
        body(await rig.client.delete(f"/v1/jobs/{work.job}"))
        # It is the event that wakes it: no clock has moved.
        await rig.settled()
        assert work.stopped()
        assert not other.stopped()
        # One that was taken after the question began is asked for by a heartbeat, at once too.
        assert len(rig.line.calls("heartbeat")) <= before + 1
        for name in ("result", "complete", "fail", "release"):
            assert rig.line.calls(name) == []


async def test_likewise_one_after_the_other_within_two_seconds_each(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(2)
        works = [await life.given() for _ in range(3)]
        for work in works:
            body(await rig.client.delete(f"/v1/jobs/{work.job}"))
        await rig.passes(2, step=0.5)
        assert all(work.stopped() for work in works)


async def test_a_lost_lease_stops_the_job_at_once(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(2)
        work = await life.given()
        # Its heartbeats do not get there, but it still listens.
        rig.line.next("heartbeat", *[lost_request] * 100)
        await rig.passes(110)
        assert not work.stopped()
        await rig.passes(12, step=0.5)
        assert work.stopped()
        assert (await rig.client.job(work.job))["status"] == "queued"


async def test_what_the_operator_decides_is_heard_at_once(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(2)
        body(await rig.world.operator.post(f"/miners/{rig.miner.id}/suspend"))
        await rig.settled()
        assert life.agent._record.state.miner_status == "suspended"
        assert not life.task.done()


async def test_while_there_is_nothing_to_hear_it_asks_seldom(rig: Rig) -> None:
    async with rig.life():
        await rig.passes(600)
        assert len(rig.line.calls("orders")) <= 14


async def test_a_coordinator_that_does_not_know_the_call_is_heard_with_heartbeats(rig: Rig) -> None:
    rig.line.next("orders", *[answered(404)] * 10)
    async with rig.life() as life:
        work = await life.given()
        body(await rig.client.delete(f"/v1/jobs/{work.job}"))
        await rig.settled()
        assert not work.stopped()
        await rig.passes(15)
        assert work.stopped()
        await rig.passes(500)
        assert len(rig.line.calls("orders", 404)) == 1


@pytest.mark.parametrize("fault", [lost_request, answered(503), answered(429, 5), answered(401)])
async def test_who_cannot_listen_tries_again_and_nothing_else_minds(rig: Rig, fault: Fault) -> None:
    rig.line.next("orders", *[fault] * 3)
    async with rig.life() as life:
        await rig.passes(60)
        work = await life.given()
        body(await rig.client.delete(f"/v1/jobs/{work.job}"))
        await rig.settled()
        assert work.stopped()


async def test_an_old_word_does_not_stop_a_job_that_was_taken_anew(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(2)
        work = await life.given()
        gate = rig.line.gate("orders", answer=True)
        # The lease is lost, and the word of it is on its way for long.
        body(await rig.world.operator.post(f"/miners/{rig.miner.id}/approve"))
        await rig.settled()
        rig.line.next("heartbeat", *[lost_request] * 100)
        await rig.passes(125)
        rig.line._faults["heartbeat"].clear()
        await rig.passes(30)
        assert work.stopped() or gate.reached
        gate.open()
        await rig.passes(90)
        again = [one for one in life.hands.running if one.job == work.job]
        assert len(again) == 1
        await rig.passes(30)
        assert not again[0].stopped()
        again[0].done()
        await rig.settled()
        assert (await rig.client.job(work.job))["status"] == "completed"


async def test_listening_ends_with_the_agent(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(2)
        life.agent.interrupt()
        assert await life.ended()
        asked = len(rig.line.said)
        await rig.passes(120)
        assert len(rig.line.said) == asked
