"""What a run brings forth reaches whoever watches, in turns that use little of the limits."""

import httpx
import pytest
from tests.agent.rig import Fault, Forward, Rig, answered, lost_answer, lost_request

from pithead.agent import telling
from pithead.agent.line import Pace


async def shown(rig: Rig, job: str) -> str:
    output = (await rig.client.job(job))["output"]
    return "" if output is None else str(output["text"])


async def test_the_first_of_it_is_told_at_once_and_the_rest_in_turns(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        work.report(0.1, "1 token", "Once")
        await rig.settled()
        assert await shown(rig, work.job) == "Once"
        for word in (" upon", " a", " time"):
            work.report(0.2, "more", word)
            await rig.settled()
        assert await shown(rig, work.job) == "Once"
        await rig.passes(3)
        assert await shown(rig, work.job) == "Once upon a time"
        assert len(rig.line.calls("progress")) == 2


async def test_many_runs_use_no_more_of_the_limits_than_one(rig: Rig) -> None:
    async with rig.life() as life:
        works = [await life.given() for _ in range(4)]
        for second in range(60):
            for work in works:
                work.report(None, "", f"{second} ")
            await rig.passes(1)
        assert len(rig.line.calls("progress")) <= 21
        for work in works:
            assert len(await shown(rig, work.job)) > 100


async def test_the_end_of_it_is_told_before_the_result(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        work.report(None, "", "Half an ")
        await rig.settled()
        work.report(1.0, "", "answer")
        work.done()
        await rig.settled()
        told = "".join(said.body["output"] for said in rig.line.calls("progress"))
        assert told == "Half an answer"
        assert [said.name for said in rig.line.said if said.name in ("progress", "complete")][-1] == "complete"
        assert (await rig.client.job(work.job))["status"] == "completed"
        # Of a run that was over before anybody could watch, nothing is told.
        short = await life.given()
        before = len(rig.line.calls("progress"))
        short.report(1.0, "", "quick")
        short.done()
        await rig.settled()
        assert len(rig.line.calls("progress")) <= before + 1


@pytest.mark.parametrize("fault", [lost_request, lost_answer, answered(503), answered(429, 2)])
async def test_what_was_lost_is_told_again_and_what_was_heard_is_not_there_twice(rig: Rig, fault: Fault) -> None:
    rig.line.next("progress", fault)
    async with rig.life() as life:
        work = await life.given()
        work.report(None, "", "one ")
        await rig.settled()
        work.report(None, "", "two")
        await rig.passes(15)
        assert await shown(rig, work.job) == "one two"
        assert not work.stopped()


async def test_no_more_is_told_than_is_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_MOST", 10)
    monkeypatch.setattr(telling, "_PIECE", 4)
    async with rig.life(pace=Pace(output=0.1)) as life:
        work = await life.given()
        work.report(None, "", "0123456")
        work.report(None, "", "789abcdef")
        await rig.passes(5)
        assert await shown(rig, work.job) == "0123456789"
        before = len(rig.line.calls("progress"))
        work.report(None, "", "more")
        await rig.passes(5)
        assert len(rig.line.calls("progress")) == before


async def test_a_coordinator_that_keeps_none_is_not_told_of_it_again(rig: Rig) -> None:
    # An older one passes over what it does not know.
    async def without_output(forward: Forward) -> httpx.Response:
        return httpx.Response(200, json={"job_id": "job", "status": "running"})

    rig.line.next("progress", without_output)
    async with rig.life() as life:
        work = await life.given()
        work.report(None, "", "some")
        await rig.settled()
        work.report(0.5, "", "more")
        await rig.passes(12)
        assert [said.body.get("output") for said in rig.line.calls("progress")] == ["some", None]
