"""Results, finished jobs and kept answers are given up when their time is over; the ledger stays whole."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.http.exchange import HASH, JOB, Client, Miner, Party, World, body, hash_of, problem

from pithead.bootstrap import rules_of
from pithead.exchange.blobs import BlobError
from pithead.settings import Retention, Settings, SettingsError

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
DAY = 86_400.0


async def done(client: Client, miner: Miner, content: bytes | None = b"result", **job: Any) -> str:
    """A job that was completed, with these bytes."""
    job_id = await client.submit(timeout=100 * DAY, **job)
    await miner.beat()
    await miner.take(job_id)
    if content is None:
        body(await miner.complete(job_id))
    else:
        body(await miner.upload(job_id, content))
        body(await miner.complete(job_id, hash_of(content)))
    return job_id


async def sound(world: World, **counts: int) -> None:
    found = body(await world.operator.get("/ledger/check"))
    assert found["sound"], found["faults"]
    assert found.items() >= counts.items()


async def test_a_result_is_kept_for_its_time_and_then_gone_for_good(open_world: OpenWorld) -> None:
    async with open_world(retention={"results": 7 * DAY}) as world:
        client, miner = await world.client(), await world.miner()
        old = await done(client, miner)
        await world.later(DAY)
        young, bare = await done(client, miner, b"younger"), await done(client, miner, None)
        await world.later(6 * DAY - 1)
        assert (await client.get(f"/v1/jobs/{old}/result")).content == b"result"
        await world.later(2)
        gone = problem(await client.get(f"/v1/jobs/{old}/result"), 410)
        assert gone["type"] == "/problems/result-expired"
        assert hash_of(b"result") in gone["detail"]
        assert len(world.files()) == 1
        # The job is there, and says so.
        view = await client.job(old)
        assert (view["status"], view["result_expired"], view["result_size"]) == ("completed", True, 6)
        assert view["result_hash"] == hash_of(b"result")
        assert (await client.job(young))["result_expired"] is False
        await world.later(7 * DAY)
        assert world.files() == []
        # Where no bytes were delivered, none expired.
        assert (await client.job(bare))["result_expired"] is False
        problem(await client.get(f"/v1/jobs/{bare}/result"), 404)
        # The miner that asks again is still answered as the first time.
        assert body(await miner.complete(old, hash_of(b"result")))["earned"] == 0.05
        await sound(world, jobs=3)


async def test_nothing_is_given_up_unless_it_is_wanted(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await done(client, miner)
    await world.later(1000 * DAY)
    assert (await client.get(f"/v1/jobs/{job}/result")).content == b"result"
    assert (await client.job(job))["status"] == "completed"


async def test_a_finished_job_is_put_away_and_the_ledger_still_explains_it(open_world: OpenWorld) -> None:
    async with open_world(retention={"jobs": 30 * DAY}, fee_basis_points=1000) as world:
        client, other, miner = await world.client(10), await world.client(10), await world.miner(price_per_hour=0)
        completed = await done(client, miner, price=2, model="gpt2")
        cancelled = await client.submit(price=1)
        body(await client.delete(f"/v1/jobs/{cancelled}"))
        failed = await client.submit(price=0.5, max_attempts=1)
        await miner.take(failed)
        body(await miner.fail(failed))
        free = await done(client, miner, None, price=0)
        waiting = await client.submit(price=0.25, timeout=100 * DAY)
        before = {
            name: (await party.get(path)).content
            for name, party, path in (
                ("statement", client, "/v1/clients/me/ledger"),
                ("held", client, "/v1/clients/me/ledger?account=held"),
                ("ledger", client, "/v1/clients/me"),
                *((by, miner, f"/earnings?by={by}") for by in ("day", "model", "client")),
            )
        }
        whole = (await world.operator.get("/ledger")).content
        stats = await miner.stats()
        await world.later(30 * DAY - 1)
        assert len(body(await client.get("/v1/jobs"))["jobs"]) == 5
        await world.later(2)
        assert [job["job_id"] for job in body(await client.get("/v1/jobs"))["jobs"]] == [waiting]
        assert world.files() == []
        for job in (completed, cancelled, failed, free):
            for answer in (
                await client.get(f"/v1/jobs/{job}"),
                await client.get(f"/v1/jobs/{job}?wait=5"),
                await client.get(f"/v1/jobs/{job}/result"),
                await client.delete(f"/v1/jobs/{job}"),
                await world.operator.delete(f"/jobs/{job}"),
            ):
                assert problem(answer, 410)["type"] == "/problems/job-archived"
            problem(await other.get(f"/v1/jobs/{job}"), 404)
        problem(await miner.complete(completed, hash_of(b"result")), 404)
        # Every posting stays, and is still explained by the job it was for.
        after = {
            "statement": (await client.get("/v1/clients/me/ledger")).content,
            "held": (await client.get("/v1/clients/me/ledger?account=held")).content,
            "ledger": (await client.get("/v1/clients/me")).content,
        } | {by: (await miner.get(f"/earnings?by={by}")).content for by in ("day", "model", "client")}
        assert after == before
        assert (await world.operator.get("/ledger")).content == whole
        assert await miner.stats() == stats
        await sound(world, jobs=5)


async def test_the_check_still_names_a_job_that_was_put_away(open_world: OpenWorld) -> None:
    async with open_world(retention={"jobs": DAY}) as world:
        client, miner = await world.client(), await world.miner()
        job = await done(client, miner, price=2)
        await client.submit(timeout=100 * DAY)
        await world.later(DAY + 1)
        problem(await client.get(f"/v1/jobs/{job}"), 410)
        world.tamper(f"UPDATE archive SET price = 1 WHERE id = '{job}'")
        found = body(await world.operator.get("/ledger/check"))
        assert {(fault["kind"], fault["subject"]) for fault in found["faults"]} == {("job", job)}


async def test_a_number_is_never_given_out_twice(open_world: OpenWorld) -> None:
    """The newest job stays: the number of the next one comes after the highest there is."""
    async with open_world(retention={"jobs": DAY}) as world:
        client, miner = await world.client(), await world.miner()
        jobs = [await done(client, miner, None, price=1) for _ in range(3)]
        await world.later(5 * DAY)
        assert [(await client.get(f"/v1/jobs/{job}")).status_code for job in jobs] == [410, 410, 200]
        await miner.beat()
        await done(client, miner, None, price=1)
        await world.later(5 * DAY)
        assert (await client.get(f"/v1/jobs/{jobs[2]}")).status_code == 410
        entries = body(await client.get("/v1/clients/me/ledger"))["entries"]
        assert len({entry["job_id"] for entry in entries if entry["cause"] == "hold"}) == 4
        await sound(world, jobs=4)


async def test_uploads_of_attempts_that_came_to_nothing_go_with_their_job(open_world: OpenWorld) -> None:
    async with open_world(retention={"jobs": DAY}) as world:
        client, miner, second = await world.client(), await world.miner(), await world.miner()
        job = await client.submit(timeout=100 * DAY)
        await miner.take(job)
        body(await miner.upload(job, b"half done"))
        body(await miner.fail(job))
        await second.take(job)
        body(await second.upload(job, b"whole"))
        body(await second.complete(job, hash_of(b"whole")))
        assert len(world.files()) == 2
        await client.submit()
        await world.later(DAY + 1)
        assert world.files() == []
        await sound(world)


async def test_a_long_backlog_is_worked_off_in_bounded_steps(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.exchange.retention.BATCH", 2)
    monkeypatch.setattr("pithead.exchange.retention._TURNS", 2)
    async with open_world(retention={"results": DAY, "jobs": 2 * DAY, "idempotency": DAY}) as world:
        client, miner = await world.client(), await world.miner(max_concurrent=99)
        jobs = [await done(client, miner, bytes([65 + n])) for n in range(7)]
        for number in range(7):
            key = {"Idempotency-Key": f"order {number}"}
            body(await client.post("/v1/jobs", json=JOB | {"timeout": 9e6}, headers=key), 201)
        left = []
        for _ in range(3):
            await world.later(DAY / 2 + 1)
            left.append(len(world.files()))
        assert left == [7, 3, 0]
        for _ in range(2):
            await world.later(DAY / 2 + 1)
        assert [(await client.get(f"/v1/jobs/{job}")).status_code for job in jobs] == [410] * 7
        await sound(world, jobs=14)


async def test_answers_are_kept_for_their_time(open_world: OpenWorld) -> None:
    async with open_world(retention={"idempotency": 2 * DAY}) as world:
        client, key = await world.client(), {"Idempotency-Key": "x"}
        first = body(await client.post("/v1/jobs", json=JOB | {"timeout": 9e6}, headers=key), 201)
        await world.later(2 * DAY - 1)
        assert body(await client.post("/v1/jobs", json=JOB | {"timeout": 9e6}, headers=key), 201) == first
        await world.later(2)
        assert body(await client.post("/v1/jobs", json=JOB | {"timeout": 9e6}, headers=key), 201) != first
    async with open_world(retention={"idempotency": 0}) as world:
        kept = body(
            await Party(world.http, client.key).post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "y"}), 201
        )
        await world.later(1000 * DAY)
        again = await Party(world.http, client.key).post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "y"})
        assert body(again, 201) == kept


async def test_bytes_that_cannot_be_deleted_now_are_an_orphan(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says first that they are gone: whatever happens then, nobody is promised bytes that are not there."""
    async with open_world(retention={"results": DAY}) as world:
        client, miner = await world.client(), await world.miner()
        job = await done(client, miner)
        (file,) = world.files()
        blobs = world.application.blobs

        async def fails(names: Any) -> None:
            assert (await client.job(job))["result_expired"], "the bytes went before the row said so"
            raise BlobError("the disk is away")

        with monkeypatch.context() as broken:
            broken.setattr(blobs, "delete", fails)
            await world.later(DAY + 1)
        problem(await client.get(f"/v1/jobs/{job}/result"), 410)
        assert world.files() == [file]
        # By the coordinator's clock it is old by now: the collector takes it.
        world.clock.now = file.stat().st_mtime + 30 * DAY
        while await world.application.collector.turn():
            pass
        assert world.files() == []


async def test_a_result_that_is_hash_alone_stays(open_world: OpenWorld) -> None:
    async with open_world(retention={"results": DAY}) as world:
        client, miner = await world.client(), await world.miner()
        job = await done(client, miner, None)
        await world.later(10 * DAY)
        assert (await client.job(job)).items() >= {"result_hash": HASH, "result_expired": False}.items()


@pytest.mark.parametrize("seconds", [1.0, 86_399.0])
def test_answers_are_kept_for_a_day_at_the_least(seconds: float) -> None:
    with pytest.raises(SettingsError, match=r"retention\.idempotency"):
        rules_of(Settings(retention=Retention(idempotency=seconds)))


@pytest.mark.parametrize("seconds", [0.0, 86_400.0])
def test_or_for_ever(seconds: float) -> None:
    assert rules_of(Settings(retention=Retention(idempotency=seconds))).keep_answers == seconds
