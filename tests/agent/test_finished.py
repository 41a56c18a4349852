"""What is finished gets to the coordinator, once, whatever is lost on the way."""

from decimal import Decimal
from typing import Any, get_args

import httpx
import pytest
from tests.agent.rig import Rig, Work, answered, lost_answer, lost_request
from tests.http.exchange import body, hash_of

from pithead.agent.spool import Spool
from pithead.wire.miners import FailureKind, Metrics


async def paid_once(rig: Rig, work: Work, data: bytes) -> None:
    """The job is completed with these bytes, paid once, and nothing of it is left at the miner."""
    job = await rig.client.job(work.job)
    assert (job["status"], job["miner_id"], job["attempts"]) == ("completed", rig.miner.id, 1)
    assert job["result_hash"] == hash_of(data)
    assert (await rig.client.get(f"/v1/jobs/{work.job}/result")).content == data
    stats = await rig.miner.stats()
    assert (stats["total_jobs"], stats["earnings"]) == (1, 0.05)
    assert (await rig.world.ledger())["miner"] == Decimal("0.05")
    assert rig.spooled() == []


async def test_it_is_on_the_disk_before_it_is_delivered(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(require_result=True)
        gate = rig.line.gate("result")
        work.done(b"precious", execution_time_seconds=2.5, completion_tokens=7)
        await rig.settled()
        assert gate.reached
        assert rig.spooled() == [b"precious"]
        assert rig.line.calls("complete") == []
        gate.open()
        await rig.settled()
        await paid_once(rig, work, b"precious")
        metrics = (await rig.client.job(work.job))["metrics"]
        assert (metrics["execution_time_seconds"], metrics["completion_tokens"]) == (2.5, 7)


@pytest.mark.parametrize("name", ["result", "complete"])
@pytest.mark.parametrize("loss", [lost_answer, lost_request, answered(502), answered(503)])
async def test_lost_answers_cost_nothing(name: str, loss: Any, rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(require_result=True)
        rig.line.next(name, *[loss] * 3)
        work.done(b"x" * 3_000_000)
        await rig.passes(30)
        await paid_once(rig, work, b"x" * 3_000_000)


async def test_bytes_that_do_not_arrive_as_they_were_are_sent_again(rig: Rig) -> None:
    async def torn(forward: Any) -> Any:
        return await rig.miner.upload(work.job, b"something else")

    async with rig.life() as life:
        work = await life.given(require_result=True)
        rig.line.next("result", torn)
        work.done(b"as it was")
        await rig.settled()
        assert [said.status for said in rig.line.said if said.name == "complete"] == [422, 200]
        await paid_once(rig, work, b"as it was")


async def test_bytes_that_did_not_arrive_at_all_are_sent_again(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(require_result=True)
        # Somebody between the two says yes without passing them on.
        said_yes = {"job_id": work.job, "result_hash": hash_of(b"it"), "size": 2}

        async def swallowed(forward: Any) -> Any:
            return httpx.Response(200, json=said_yes)

        rig.line.next("result", swallowed)
        work.done(b"it")
        await rig.settled()
        assert [said.status for said in rig.line.said if said.name == "complete"] == [409, 200]
        await paid_once(rig, work, b"it")


async def test_a_coordinator_that_is_away_is_waited_for(dark: Rig) -> None:
    async with dark.peopled():
        pass
    async with dark.life() as life:
        async with dark.coordinator():
            await dark.passes(10)
            work = await life.given()
        work.done(b"meanwhile")
        await dark.passes(1000)
        assert dark.spooled() == [b"meanwhile"]
        async with dark.coordinator():
            await dark.passes(10)
            await paid_once(dark, work, b"meanwhile")


@pytest.mark.parametrize("cut_at", ["result", "complete", "answer"])
async def test_a_life_that_is_cut_short_leaves_it_to_the_next_one(cut_at: str, rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(require_result=True)
        if cut_at == "answer":
            rig.line.next("complete", lost_answer)
        rig.line.gate("result" if cut_at == "result" else "complete")
        work.done(b"of the first life")
        await rig.passes(5)
        assert rig.spooled() == [b"of the first life"]
    async with rig.life() as second:
        await rig.passes(1)
        await paid_once(rig, work, b"of the first life")
        assert second.hands.works == []


async def test_it_is_delivered_late_while_nobody_else_has_the_job(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(require_result=True)
        rig.line.cut()
        work.done(b"late")
        await rig.passes(60)
        await rig.world.later(100)
        assert (await rig.client.job(work.job))["status"] == "queued"
        rig.line.mend()
        await rig.passes(11)
        await paid_once(rig, work, b"late")


async def test_too_late_it_is_let_go_and_the_other_is_paid(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(require_result=False)
        rig.line.cut()
        work.done(b"too late")
        await rig.passes(60)
        await rig.world.later(100)
        other = await rig.world.miner()
        await other.take(work.job)
        rig.line.mend()
        await rig.passes(11)
        assert rig.spooled() == []
        assert rig.line.calls("fail", 409) == rig.line.calls("fail") == []
        body(await other.complete(work.job))
        assert (await rig.client.job(work.job))["miner_id"] == other.id
        assert (await rig.miner.stats())["earnings"] == 0


async def test_what_was_cancelled_after_it_was_done_is_let_go(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        gate = rig.line.gate("result")
        work.done(b"for nothing")
        await rig.settled()
        await rig.client.delete(f"/v1/jobs/{work.job}")
        await rig.passes(15)
        assert rig.spooled() == [b"for nothing"], "only the coordinator can tell, so it is asked"
        gate.open()
        await rig.settled()
        assert rig.spooled() == []
        assert (await rig.client.job(work.job))["status"] == "cancelled"


async def test_a_result_that_is_never_taken_fails_the_attempt(dark: Rig) -> None:
    """It would be handed out and done again for ever otherwise."""
    async with dark.peopled(http={"max_result_bytes": 100}), dark.life() as life:
        work = await life.given(max_attempts=1)
        work.done(b"x" * 101)
        await dark.passes(1)
        job = await dark.client.job(work.job)
        assert job["status"] == "failed"
        assert job["failure"] == {"kind": "error", "reason": "the result was not taken: a result may have 100 bytes"}
        assert dark.spooled() == []
        # Its place is free again.
        await life.given()


async def test_bytes_that_never_arrive_as_they_were_fail_the_attempt(rig: Rig) -> None:
    async def torn(forward: Any) -> Any:
        return await rig.miner.upload(work.job, b"something else")

    async with rig.life() as life:
        work = await life.given(max_attempts=1)
        rig.line.next("result", *[torn] * 3)
        work.done(b"as it was")
        await rig.settled()
        assert len([said for said in rig.line.said if said.name == "result"]) == 3
        job = await rig.client.job(work.job)
        assert (job["status"], job["failure"]["kind"]) == ("failed", "error")
        assert "the result was not taken: " in job["failure"]["reason"]
        assert rig.spooled() == []


async def test_a_job_that_the_coordinator_does_not_know_is_let_go(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async with rig.life() as life:
        work = await life.given()
        rig.line.next("result", answered(404))
        work.done()
        await rig.settled()
        assert rig.spooled() == []
        assert rig.line.calls("fail") == []
        assert f"{work.job} was not taken: so it is" in caplog.text


async def test_of_two_attempts_at_one_job_each_comes_to_its_end(rig: Rig) -> None:
    await rig.miner.beat()
    job = await rig.client.submit()
    token = (await rig.miner.take(job))["lease_token"]
    for lease in (token, "lease_of-another-time"):
        Spool(rig.spool).add(job, lease, lease.encode(), Metrics())
    async with rig.life():
        await rig.passes(20)
        assert rig.spooled() == []
        assert [said for said in rig.line.said if said.name == "release"] == []
    assert (await rig.client.job(job))["result_hash"] == hash_of(token.encode())


async def test_bytes_that_are_gone_from_the_disk_fail_the_attempt(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async with rig.life() as life:
        work = await life.given(max_attempts=1)
        rig.line.next("result", lost_request)
        work.done()
        await rig.settled()
        for file in rig.spool.glob("*.result"):
            file.unlink()
        await rig.passes(1)
        failure = (await rig.client.job(work.job))["failure"]
        assert failure["kind"] == "error"
        assert "cannot read it from its disk" in failure["reason"]
        assert str(rig.spool) not in failure["reason"], "the client is not told of the miner's folders"
        assert str(rig.spool) in caplog.text


async def test_where_the_disk_takes_nothing_it_is_delivered_from_memory(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.spool.write_text("a file where the folder should be")
    async with rig.life() as life:
        work = await life.given(require_result=True)
        rig.line.next("result", lost_request)
        work.done(b"in memory")
        await rig.passes(1)
        assert "kept in memory" in caplog.text
        await paid_once(rig, work, b"in memory")


@pytest.mark.parametrize("kind", get_args(FailureKind))
async def test_a_failure_is_reported_with_its_kind(kind: FailureKind, rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(max_attempts=1)
        rig.line.next("fail", lost_answer, lost_request)
        work.failed(kind, "this is why")
        await rig.passes(2)
        job = await rig.client.job(work.job)
        assert (job["status"], job["failure"]) == ("failed", {"kind": kind, "reason": "this is why"})
        assert (await rig.miner.stats())["total_jobs"] == 1


async def test_a_failure_is_one_however_long_its_reason(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given()
        work.failed("bad_input", "é" * 5000)
        await rig.settled()
        job = await rig.client.job(work.job)
        assert (job["status"], job["failure"]["reason"]) == ("failed", "é" * 2000)


@pytest.mark.parametrize("error", [ValueError("/home/me/secret"), TimeoutError("of its own")])
async def test_a_runner_that_breaks_is_a_failure_and_its_words_stay_here(
    error: Exception, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig.life() as life:
        work = await life.given(max_attempts=1)
        work.broken(error)
        await rig.settled()
        failure = (await rig.client.job(work.job))["failure"]
        assert failure == {"kind": "error", "reason": "the runner broke; the miner's log says how"}
        assert str(error) in caplog.text
        await life.given()


async def test_an_attempt_ends_with_its_time(rig: Rig) -> None:
    async with rig.life() as life:
        work = await life.given(attempt_timeout=30, max_attempts=1)
        await rig.passes(29)
        assert not work.stopped()
        await rig.passes(2)
        assert work.stopped()
        assert (await rig.client.job(work.job))["status"] == "failed"


async def test_of_the_money_none_is_made_and_none_is_lost(rig: Rig) -> None:
    """Thirty jobs, while one call in three gets lost in one of two ways."""
    lost = [lost_answer, lost_request]
    for name in ("accept", "result", "complete", "heartbeat", "fail"):
        for turn in range(40):
            rig.line.next(name, *([lost[turn % 2]] if turn % 3 == 0 else [_through]))
    jobs = [await rig.client.submit(require_result=True) for _ in range(30)]
    async with rig.life() as life:
        for _ in range(400):
            await rig.passes(1)
            for work in life.hands.running:
                work.done(work.job.encode())
            if not life.hands.running and len(life.hands.works) >= 30:
                break
        await rig.passes(60)
    for job in jobs:
        view = await rig.client.job(job)
        assert (view["status"], view["attempts"], view["result_hash"]) == ("completed", 1, hash_of(job.encode()))
    assert len(life.hands.works) == 30
    assert (await rig.world.ledger())["miner"] == Decimal("1.5")


async def _through(forward: Any) -> Any:
    return await forward()
