"""Faults that exchanges of this kind are known for, one test each: here they cannot be met."""

import asyncio
import time
from typing import Any

import pytest
from tests.http.exchange import HASH, JOB, OTHER_HASH, REGISTRATION, Party, World, body, hash_of, problem


async def test_fault_01_one_key_for_everybody(world: World) -> None:
    """A key is one account's: no header, path or body makes its bearer somebody else."""
    thief, victim = await world.miner(), await world.miner()
    named: dict[str, dict[str, Any]] = {
        name: {"headers": {name: victim.id}} for name in ("X-Miner-Id", "Miner-Id", "X-User", "X-Forwarded-User")
    }
    for more in (*named.values(), {"json": {"miner_id": victim.id, "location": "stolen"}}):
        answer = body(await thief.put(**({"json": {}} | more)))
        assert answer["miner_id"] == thief.id
    as_victim = Party(world.http, thief.key, victim.base)
    problem(await as_victim.put(json={"location": "stolen"}), 404)
    problem(await as_victim.get(headers={"X-Api-Key": victim.key}), 401)  # two keys name nobody
    assert body(await victim.get())["location"] == "us-east"


async def test_fault_02_acting_on_what_is_anothers(world: World) -> None:
    """Nobody but the holder completes, fails, hands back or reports on a job, and nobody sees another's earnings."""
    client, holder, thief = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    token = (await holder.take(job))["lease_token"]
    for sent in (None, token):  # not even with the holder's token
        headers = {} if sent is None else {"Lease-Token": sent}
        problem(await thief.complete(job, token=sent), 409)
        problem(await thief.fail(job, "bad_input", sent), 409)
        problem(await thief.post(f"/jobs/{job}/release", headers=headers), 409)
        problem(await thief.post(f"/jobs/{job}/progress", headers=headers), 409)
        problem(await thief.upload(job, b"forged", sent), 409)
    problem(await Party(world.http, thief.key, holder.base).get("/stats"), 404)
    problem(await Party(world.http, thief.key).delete(f"/v1/jobs/{job}"), 403)
    problem(await Party(world.http, thief.key).post(f"/v1/admin/miners/{holder.id}/retire"), 403)
    assert (await client.job(job))["status"] == "assigned"
    assert body(await holder.complete(job, token=token))["earned"] == 0.05
    assert (await thief.stats())["earnings"] == 0


async def test_fault_03_two_holders(world: World) -> None:
    """However many ask at the same moment, one has the job."""
    client = await world.client()
    miners = [await world.miner() for _ in range(20)]
    for _ in range(5):
        job = await client.submit()
        answers = await asyncio.gather(*(miner.accept(job) for miner in miners))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19


async def test_fault_04_a_dead_worker_keeps_its_job(world: World) -> None:
    """A miner that falls silent loses its jobs to others, whatever it has earned before, and they are not starved."""
    client, veteran, other = await world.client(), await world.miner(), await world.miner()
    for _ in range(5):
        job = await client.submit()
        await veteran.take(job)
        body(await veteran.complete(job))
    job = await client.submit()
    await veteran.take(job)
    for _ in range(2):
        await world.later(60)
        await other.beat()
    assert await other.offered() == [job]
    await other.take(job)
    assert body(await other.complete(job))["earned"] == 0.05
    await world.later(60)
    assert await veteran.status() == "offline"


async def test_fault_05_completing_twice_fails_the_job(world: World) -> None:
    """A completed job stays completed: a repeat is answered alike, and no later word of anybody changes it."""
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    first = body(await miner.complete(job))
    for _ in range(3):
        assert body(await miner.complete(job)) == first
    problem(await miner.complete(job, OTHER_HASH), 409)
    problem(await miner.fail(job), 409)
    problem(await miner.release(job), 409)
    problem(await client.delete(f"/v1/jobs/{job}"), 409)
    await world.later(100_000)
    assert (await client.job(job)).items() >= {"status": "completed", "result_hash": HASH}.items()
    assert (await miner.stats()).items() >= {"total_jobs": 1, "success_rate": 1, "earnings": 0.05}.items()


async def test_fault_06_a_failure_paid_as_a_success(world: World) -> None:
    """The way to report a result takes no failure, and the way to report a failure pays nothing."""
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    failed = {"status": "failed", "error": "out of memory", "metrics": {}}
    problem(await miner.post(f"/jobs/{job}/complete", json=failed), 422, "result_hash")
    body(await miner.fail(job, "out_of_memory"))
    assert await client.balance() == (99.95, 0.05)
    problem(await miner.complete(job), 409)
    assert (await miner.stats()).items() >= {"success_rate": 0, "earnings": 0}.items()


async def test_fault_07_pay_by_the_miners_own_word(world: World) -> None:
    """What a miner reports with its result moves no money, and raises no figure beyond what the time allows."""
    client, miner = await world.client(), await world.miner()
    job = await client.submit(price=0.05)
    await miner.take(job)
    await world.later(10)
    claimed = {"price": 1000, "earned": 1000, "amount": 1000, "reputation": 1, "success_rate": 1}
    metrics = {"execution_time_seconds": 1e9, "gpu_time_seconds": 1e9, "prompt_tokens": 2**53} | claimed
    sent = {"result_hash": HASH, "metrics": metrics} | claimed
    assert body(await miner.post(f"/jobs/{job}/complete", json=sent))["earned"] == 0.05
    stats = await miner.stats()
    assert stats["earnings"] == 0.05
    assert stats["earnings_per_gpu_hour"] == pytest.approx(0.05 / (10 / 3600))
    assert await client.balance() == (99.95, 0)


async def test_fault_08_a_proof_that_nobody_brought(world: World) -> None:
    """Without a hash from the miner nothing is completed, and a hash is never made to fit."""
    client, miner = await world.client(), await world.miner()
    job = await client.submit(require_result=True)
    await miner.take(job)
    wrong: list[dict[str, Any]] = [{}, {"result_hash": None}, {"result_hash": ""}, {"result_hash": "sha256:"}]
    for sent in wrong:
        problem(await miner.post(f"/jobs/{job}/complete", json=sent), 422, "result_hash")
    problem(await miner.complete(job), 409)  # no bytes that it could be the hash of
    uploaded = body(await miner.upload(job, b"work"))["result_hash"]
    problem(await miner.complete(job), 422, "result_hash")
    assert (await client.job(job))["status"] == "uploading"
    body(await miner.complete(job, uploaded))


async def test_fault_09_registering_over_a_name_in_use(world: World) -> None:
    """A second registration under a name is a second miner; the first keeps its key, price and earnings."""
    first = await world.miner(name="rig")
    before = body(await first.get())
    second = await world.miner(name="rig", price_per_hour=9, location="elsewhere")
    assert second.id != first.id
    assert body(await first.get()) == before
    problem(await Party(world.http, second.key, first.base).put(json={"price_per_hour": 9}), 404)
    renamed = await world.miner(name="other")
    body(await renamed.put(json={"name": "rig"}))
    assert body(await first.get()) == before


async def test_fault_10_fetching_what_a_client_names(world: World) -> None:
    """An address in a job's input is data: it reaches the miner as written, and the coordinator fetches nothing."""
    client, miner = await world.client(), await world.miner()
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("a request")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        given = {
            "url": "file:///etc/passwd",
            "callback": f"http://127.0.0.1:{port}/",
            "image": "http://169.254.169.254/",
        }
        job = await client.submit(input=given)
        assert (await miner.take(job))["input"] == given
        body(await miner.complete(job))
    assert asked == []
    problem(await client.post("/v1/jobs", json=JOB | {"webhook": "http://127.0.0.1/"}), 422, "webhook")


async def test_fault_11_a_heartbeat_that_forgets(world: World) -> None:
    """What a heartbeat leaves out is as it was: it resets no count, no lease and no registration."""
    client, miner = await world.client(), await world.miner(models=["gpt2"], max_concurrent=2)
    jobs = [await client.submit() for _ in range(2)]
    for job in jobs:
        await miner.take(job)
    before = body(await miner.get())
    bare: tuple[Any, ...] = (None, {}, {"jobs": []}, {"telemetry": {}}, {"running": 0, "jobs_assigned": 0})
    for sent in (*bare, {"jobs": jobs[:1]}):
        answer = body(await miner.post("/heartbeat", json=sent))
        assert answer["jobs_assigned"] == 2
        assert {lease["job_id"] for lease in answer["leases"]} == set(jobs)
    assert body(await miner.get()) == before
    assert (await miner.stats())["total_jobs"] == 0


async def test_fault_13_gpus_and_models_misread(world: World) -> None:
    """A count of GPUs is a whole number or an error, and a job runs the model it names or does not run."""
    for wrong in ("8", "8 GPUs", 0, 2.5, None, [1, 2], {"count": 8}):
        answer = await world.http.post("/v1/miners", json=REGISTRATION | {"gpu_count": wrong})
        problem(answer, 422, "gpu_count")
    client, eight = (
        await world.client(),
        await world.miner(gpu_count=8, models=["llama", "gpt2-large"], price_per_hour=0),
    )
    wide = await client.submit(gpu_count=8, model="llama")
    missing = await client.submit(model="gpt2")
    assert await eight.offered() == [wide]
    problem(await eight.accept(missing), 409)
    assert (await eight.take(wide)).items() >= {"model": "llama", "gpu_count": 8}.items()


async def test_fault_14_work_that_cannot_be_paid(world: World) -> None:
    """The price is set aside before a job is queued; where it cannot be, there is no job."""
    client, miner = await world.client(0.07), await world.miner()
    answers = await asyncio.gather(*(client.post("/v1/jobs", json=JOB | {"price": 0.05}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [402] * 9
    assert len(await miner.offered()) == 1
    # Neither can what is set aside be taken away again.
    assert await client.balance() == (0.02, 0.05)
    problem(await world.operator.post(f"/clients/{client.id}/credit", json={"amount": -0.05}), 409)
    (job,) = await miner.offered()
    await miner.take(job)
    assert body(await miner.complete(job))["earned"] == 0.05


async def test_fault_15_a_poll_that_loads_the_whole_queue(world: World) -> None:
    """What a poll costs does not grow with the queue, and its answer is bounded."""
    client, miner = await world.client(), await world.miner(max_concurrent=10_000)

    async def fastest() -> float:
        times = []
        for _ in range(20):
            begun = time.perf_counter()
            assert len(await miner.offered()) == 20
            times.append(time.perf_counter() - begun)
        return min(times)

    async def queue(count: int) -> None:
        for job in (JOB, JOB | {"gpu_type": "a100"}):
            batch = {"jobs": [job | {"price": 0.0001, "estimated_time": 1}] * (count // 2)}
            body(await client.post("/v1/jobs/batch", json=batch), 201)

    await queue(100)
    short = await fastest()
    for _ in range(5):
        await queue(2000)
    assert (await miner.beat())["queue_length"] == 5050
    # A hundred times the queue; reading it all would take some hundred times as long.
    assert await fastest() < 10 * short
    assert len(await miner.offered(limit=100)) == 100
    problem(await miner.get("/jobs/available?limit=101"), 422, "limit")


async def test_fault_16_limits_shared_by_a_household(open_world: Any) -> None:
    """Limits are each miner's own: those behind one address share none but that of registrations."""
    async with open_world(limits=True) as world:
        miners = [await world.miner() for _ in range(3)]
        while (await miners[0].get("/stats")).status_code == 200:
            pass
        for _ in range(10):
            problem(await miners[1].accept("job_unknown"), 404)
        problem(await miners[1].accept("job_unknown"), 429)
        assert (await miners[2].get("/stats")).headers["ratelimit-remaining"] == "58"
        problem(await miners[2].accept("job_unknown"), 404)
        # Nor does an address that the caller makes up give it another one.
        problem(
            await miners[0].get("/stats", headers={"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}), 429
        )


async def test_fault_17_two_clocks_compared(world: World) -> None:
    """A miner's clock is asked nowhere: it may be decades off, and is online while its heartbeats come."""
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    for wrong in (0, 4_000_000_000):
        sent = {"timestamp": wrong, "now": wrong, "last_seen_at": wrong, "telemetry": {"time": wrong}}
        headers = {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}
        answer = body(await miner.post("/heartbeat", json=sent, headers=headers))
        assert answer["miner_status"] == "active"
        assert answer["leases"] == [{"job_id": job, "expires_in": 120}]
        assert body(await miner.get())["last_seen_at"] == world.clock.now
    await world.later(119)
    assert (await client.job(job))["status"] == "assigned"


async def test_fault_18_balances_that_drift(world: World) -> None:
    """Whatever happens at once, no money appears or is lost: the sum is 0, and each balance is that of its history."""
    clients = [await world.client(1) for _ in range(3)]
    miners = [await world.miner(price_per_hour=0) for _ in range(4)]

    async def one(number: int) -> None:
        client, miner = clients[number % 3], miners[number % 4]
        answer = await client.post("/v1/jobs", json=JOB | {"price": 0.033333, "max_attempts": 1})
        if answer.status_code == 402:
            return
        job = body(answer, 201)["job_id"]
        ends: tuple[Any, ...] = (
            miner.complete,
            miner.fail,
            miner.release,
            lambda job: client.delete(f"/v1/jobs/{job}"),
        )
        if (await miner.accept(job)).status_code == 200:
            await asyncio.gather(*(end(job) for end in (ends[number % 4], ends[(number + 1) % 4])))

    await asyncio.gather(*(one(number) for number in range(120)))
    sums = await world.ledger()
    assert sums["issued"] == -3
    balances = [await client.balance() for client in clients]
    assert all(spendable >= 0 and held >= 0 for spendable, held in balances)
    earned = sum([round(1_000_000 * (await miner.stats())["earnings"]) for miner in miners])
    kept = sum(round(1_000_000 * part) for balance in balances for part in balance)
    assert earned + kept == 3_000_000
    assert 0 < earned < 3_000_000


async def test_fault_19_an_old_holder_writes_last(world: World) -> None:
    """Every write under a lease is refused once a later lease exists, whoever has that."""
    client, old, new = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    fence = {"Lease-Token": (await old.take(job))["lease_token"]}
    body(await old.upload(job, b"old bytes"))
    await world.later(120)
    for miner in (old, new):
        await miner.beat()
    await new.take(job)
    body(await new.upload(job, b"new bytes"))

    async def refused() -> None:
        calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("POST", "accept", {}),
            ("PUT", "result", {"content": b"old bytes again"}),
            ("POST", "progress", {"json": {"fraction": 1}}),
            ("POST", "complete", {"json": {"result_hash": HASH}}),
            ("POST", "fail", {"json": {"kind": "bad_input"}}),
            ("POST", "release", {}),
        )
        for method, call, sent in calls:
            problem(await old.call(method, f"/jobs/{job}/{call}", headers=fence, **sent), 409)

    await refused()
    assert (await client.job(job)).items() >= {"status": "uploading", "miner_id": new.id, "progress": None}.items()
    body(await new.release(job))
    await refused()  # also while nobody holds it: there has been a later lease
    await new.take(job)
    body(await new.upload(job, b"new bytes"))
    body(await new.complete(job, hash_of(b"new bytes")))
    await refused()
    assert (await client.get(f"/v1/jobs/{job}/result")).content == b"new bytes"
    assert (await old.stats())["earnings"] == 0
