"""How the agent ends: with its work finished, or handed back, or on the disk."""

from decimal import Decimal

import pytest
from tests.agent.rig import Rig, lost_answer


async def test_the_first_interruption_finishes_what_runs_and_takes_nothing_new(rig: Rig) -> None:
    await rig.miner.put(json={"max_concurrent": 2})
    async with rig.life() as life:
        work, other = await life.given(), await life.given()
        waiting = await rig.client.submit()
        life.agent.interrupt()
        await rig.passes(300)
        assert not life.task.done()
        assert await rig.miner.status() == "draining"
        work.done()
        other.failed("error")
        assert await life.ended()
        assert life.hands.closed
        assert (await rig.client.job(work.job))["status"] == "completed"
        assert (await rig.client.job(waiting))["attempts"] == 0
    async with rig.life() as again:
        # A new life takes jobs again.
        assert await rig.miner.status() == "active"
        await rig.passes(3)
        assert waiting in [work.job for work in again.hands.running]


async def test_the_second_one_hands_it_back(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        life.agent.interrupt()
        await rig.passes(30)
        life.agent.interrupt()
        assert await life.ended() is False
        assert work.stopped()
        assert life.hands.closed
        job = await rig.client.job(work.job)
        assert (job["status"], job["attempts"]) == ("queued", 1)
        # Nobody failed, and somebody else has it at once.
        assert (await rig.miner.stats())["total_jobs"] == 0
        other = await rig.world.miner()
        assert await other.offered() == [work.job]


async def test_with_nothing_in_hand_it_ends_at_once(rig: Rig) -> None:
    async with rig.life() as life:
        life.agent.interrupt()
        assert await life.ended()
        assert await rig.miner.status() == "draining"


async def test_both_interruptions_may_come_at_once(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        life.agent.interrupt()
        life.agent.interrupt()
        assert await life.ended() is False
        assert (await rig.client.job(work.job))["status"] == "queued"


async def test_a_finished_result_is_delivered_all_the_same(rig: Rig) -> None:
    async with rig.life() as life:
        work, other = await life.given(), await life.given()
        gate = rig.line.gate("result")
        work.done()
        await rig.settled()
        life.agent.interrupt()
        life.agent.interrupt()
        await rig.passes(2)
        gate.open()
        assert await life.ended() is False
        assert (await rig.client.job(work.job))["status"] == "completed"
        assert (await rig.client.job(other.job))["status"] == "queued"


async def test_a_job_whose_accept_was_cut_short_goes_back(rig: Rig) -> None:
    async with rig.life() as life:
        rig.line.next("accept", lost_answer)
        rig.line.gate("accept")
        job = await rig.client.submit()
        await rig.passes(2)
        assert (await rig.client.job(job))["status"] == "assigned"
        life.agent.interrupt()
        assert await life.ended()
        view = await rig.client.job(job)
        assert (view["status"], view["attempts"]) == ("queued", 1)
        assert life.hands.works == []


@pytest.mark.parametrize("interruptions", [1, 2])
async def test_without_a_coordinator_it_leaves_what_is_done_on_the_disk(
    interruptions: int, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.cut()
        work.done(b"for later")
        await rig.passes(1)
        for _ in range(interruptions):
            life.agent.interrupt()
        await rig.passes(11)
        assert await life.ended() is False
        assert rig.spooled() == [b"for later"]
        assert "the next run delivers it" in caplog.text
    rig.line.mend()
    async with rig.life():
        await rig.settled()
        assert (await rig.client.job(work.job))["status"] == "completed"


async def test_without_a_coordinator_what_runs_is_finished_before_it_ends(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.cut()
        life.agent.interrupt()
        await rig.passes(100)
        assert not work.stopped()
        work.done(b"done in the dark")
        await rig.passes(11)
        assert await life.ended() is False
        assert rig.spooled() == [b"done in the dark"]


async def test_without_a_coordinator_the_second_interruption_still_ends_it(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.cut()
        life.agent.interrupt()
        life.agent.interrupt()
        await rig.passes(11)
        assert await life.ended() is False
        assert work.stopped()


async def test_a_result_that_is_in_memory_only_is_not_given_up_before_the_second_one(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.spool.write_text("a file where the folder should be")
    async with rig.life() as life:
        work = await life.given()
        rig.line.cut()
        work.done()
        await rig.passes(1)
        life.agent.interrupt()
        await rig.passes(60)
        assert not life.task.done()
        rig.line.mend()
        await rig.passes(11)
        assert await life.ended()
        assert (await rig.client.job(work.job))["status"] == "completed"
    async with rig.life() as life:
        work = await life.given()
        rig.line.cut()
        work.done()
        await rig.passes(1)
        life.agent.interrupt()
        life.agent.interrupt()
        await rig.passes(11)
        assert await life.ended() is False
        assert "its result is lost" in caplog.text


async def test_what_an_earlier_life_left_is_not_forgotten_where_this_one_never_reached_the_coordinator(
    rig: Rig,
) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.gate("result")
        work.done()
        await rig.settled()
    rig.line.cut()
    async with rig.life() as second:
        second.agent.interrupt()
        await rig.passes(11)
        assert await second.ended() is False
    rig.line.mend()
    async with rig.life() as third:
        third.agent.interrupt()
        await rig.passes(1)
        assert await third.ended()
        assert (await rig.world.ledger())["miner"] == Decimal("0.05")
