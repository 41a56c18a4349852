"""What the agent takes, and how it gets on with limits, rivals, and a coordinator that comes and goes."""

import pytest
from tests.agent.rig import Hands, Rig, answered, lost_answer, lost_request

from pithead.agent.gpus import Inventory


async def test_it_offers_the_models_that_its_runner_has_or_those_that_its_owner_chose(rig: Rig) -> None:
    async with rig.life(Hands("gpt2", "llama")) as life:
        assert (await rig.miner.get()).json()["models"] == ["gpt2", "llama"]
        assert life.hands.at_once == 4
        assert (await life.given(model="llama")).assignment.model == "llama"
    async with rig.life(Hands("gpt2", "llama"), models=["gpt2"]):
        assert (await rig.miner.get()).json()["models"] == ["gpt2"]


async def test_never_more_at_a_time_than_it_was_registered_with(rig: Rig) -> None:
    await rig.miner.put(json={"max_concurrent": 2})
    jobs = [await rig.client.submit() for _ in range(5)]
    async with rig.life() as life:
        done: list[str] = []
        for job in jobs:
            await rig.passes(3)
            running = life.hands.running
            assert len(running) == min(2, len(jobs) - len(done))
            assert running[0].job == job
            running[0].done()
            await rig.settled()
            done.append(job)
        assert [said.job for said in rig.line.calls("complete")] == jobs
        assert rig.line.calls("accept", 409) == []


async def test_a_job_comes_without_a_wait_while_it_asks(rig: Rig) -> None:
    async with rig.life() as life:
        await rig.passes(5)
        # `given` lets no time pass.
        await life.given()


async def test_what_another_miner_was_faster_with_is_let_go_and_the_next_one_taken(rig: Rig) -> None:
    rival = await rig.world.miner()
    first, second = await rig.client.submit(), await rig.client.submit()
    gate = rig.line.gate("accept")
    async with rig.life() as life:
        assert gate.reached
        await rival.take(first)
        gate.open()
        await rig.settled()
        assert [(said.job, said.status) for said in rig.line.said if said.name == "accept"] == [
            (first, 409),
            (second, 200),
        ]
        assert [work.job for work in life.hands.running] == [second]


async def test_where_everything_goes_to_others_it_does_not_ask_without_a_pause(rig: Rig) -> None:
    await rig.client.submit()
    rig.line.next("accept", *[answered(409)] * 1000)
    async with rig.life():
        await rig.passes(30)
        assert 5 <= len(rig.line.calls("accept", 409)) <= 11


async def test_a_lost_answer_to_an_accept_costs_no_attempt(rig: Rig) -> None:
    rig.line.next("accept", lost_answer, lost_request, lost_answer)
    job = await rig.client.submit()
    async with rig.life() as life:
        await rig.passes(10)
        [work] = life.hands.running
        assert (work.job, work.assignment.attempt) == (job, 1)


async def test_over_the_limit_of_job_operations_it_waits_as_long_as_it_is_told(rig: Rig) -> None:
    rig.line.next("accept", answered(429, retry_after=40))
    await rig.client.submit()
    async with rig.life() as life:
        await rig.passes(39.5, step=0.5)
        assert len([said for said in rig.line.said if said.name == "accept"]) == 1
        assert len(rig.line.calls("heartbeat")) >= 3
        await rig.passes(1.5)
        assert len(life.hands.running) == 1


async def test_finished_work_goes_before_new_work_where_limits_leave_little(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.next("complete", answered(429, retry_after=40))
        work.done()
        await rig.settled()
        waiting = await rig.client.submit()
        await rig.passes(39)
        assert [said.job for said in rig.line.calls("accept")] == [work.job]
        await rig.passes(5)
        mine = [said for said in rig.line.said if said.status == 200 and said.name in ("accept", "complete")]
        assert [(said.name, said.job) for said in mine] == [
            ("accept", work.job),
            ("complete", work.job),
            ("accept", waiting),
        ]


async def test_over_the_limit_of_requests_it_waits_too(rig: Rig) -> None:
    async with rig.life():
        await rig.passes(14)
        rig.line.next("heartbeat", answered(429, retry_after=30))
        await rig.passes(29)
        assert [said.status for said in rig.line.said if said.name == "heartbeat"] == [200, 429]
        await rig.passes(5)
        assert [said.status for said in rig.line.said if said.name == "heartbeat"][:3] == [200, 429, 200]


async def test_a_job_that_it_still_delivers_is_not_taken_anew(dark: Rig) -> None:
    """Its lease has lapsed, it is queued again, and by now the coordinator would offer it to the same miner too."""
    async with dark.peopled(leases={"avoid_for": 0.0}), dark.life() as life:
        work = await life.given()
        gate = dark.line.gate("result")
        work.done()
        await dark.settled()
        assert gate.reached
        dark.line.next("heartbeat", *[lost_request] * 30)
        await dark.passes(150)
        assert (await dark.client.job(work.job))["status"] == "queued"
        await dark.passes(100)
        assert len(dark.line.calls("accept")) == 1
        gate.open()
        await dark.settled()
        job = await dark.client.job(work.job)
        assert (job["status"], job["attempts"], job["miner_id"]) == ("completed", 1, dark.miner.id)
        assert (await dark.miner.stats())["earnings"] == 0.05


async def test_a_coordinator_that_is_away_at_the_start_is_waited_for(dark: Rig) -> None:
    async with dark.peopled():
        job = await dark.client.submit()
    async with dark.life() as life:
        await dark.passes(300)
        assert not life.task.done()
        async with dark.coordinator():
            await dark.passes(10)
            assert [work.job for work in life.hands.running] == [job]


async def test_it_finds_back_to_a_coordinator_that_was_away_and_what_ran_went_on(
    dark: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pithead.agent")
    async with dark.peopled():
        first, second = await dark.client.submit(), await dark.client.submit()
    async with dark.life() as life:
        async with dark.coordinator():
            await dark.passes(10)
            running, other = life.hands.running
        other.done(b"in the dark")
        await dark.passes(600)
        assert not running.stopped()
        async with dark.coordinator():
            await dark.passes(10)
            assert (await dark.client.job(second))["status"] == "completed"
            assert (await dark.client.job(first))["attempts"] == 1
            running.done()
            await dark.settled()
            assert (await dark.client.job(first))["status"] == "completed"
            said = [record.message for record in caplog.records]
    # Once for each time that it was away, not with every try.
    assert sum("cannot be reached" in line for line in said) == 2
    assert sum("the coordinator is back" in line for line in said) == 2


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Inventory("v100", 1), None),
        (Inventory("v100", 4), None),
        (Inventory("a100", 1), "registered with 1 × v100, but what is found here is 1 × a100"),
        (Inventory("cpu", 2), "registered with 1 × v100, but what is found here is 2 × cpu"),
        (Inventory("v100", 1, "one of them is odd"), "one of them is odd"),
    ],
)
async def test_it_says_where_the_machine_is_not_what_was_registered(
    found: Inventory, says: str | None, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig.life(machine=found):
        pass
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ([says] if says else [])


async def test_how_far_a_job_is_can_be_seen(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        assert (await rig.client.job(work.job))["status"] == "assigned"
        work.report(0.25, "a quarter")
        await rig.passes(11)
        job = await rig.client.job(work.job)
        assert (job["status"], job["progress"], job["progress_message"]) == ("running", 0.25, "a quarter")
        # What did not change is not said again; what gets lost is made up for by the next word.
        before = len(rig.line.calls("progress"))
        await rig.passes(60)
        assert len(rig.line.calls("progress")) == before
        rig.line.next("progress", lost_request)
        work.report(0.5, "half")
        await rig.passes(11)
        work.report(0.75, "more")
        await rig.passes(11)
        assert (await rig.client.job(work.job))["progress"] == 0.75
