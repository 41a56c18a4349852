"""The client's side: submitting, idempotency, batches, pages, and whose jobs one sees."""

import asyncio
from typing import Any

import pytest
from tests.http.exchange import HASH, JOB, Client, Party, World, body, problem

JSON = {"Content-Type": "application/json"}


async def test_a_job_as_its_client_sees_it(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(priority=3, timeout=1000, max_attempts=5)
    queued = {
        "job_id": job, "status": "queued", "model": "gpt2", "gpu_type": "v100", "gpu_count": 1, "estimated_time": 600,
        "price": 0.05, "priority": 3, "timeout": 1000, "max_attempts": 5, "require_result": False, "attempts": 0,
        "created_at": world.clock.now, "expires_at": world.clock.now + 1000, "started_at": None, "finished_at": None,
        "miner_id": None, "miner_name": None, "progress": None, "progress_message": "", "result_hash": None,
        "result_size": None, "result_expired": False, "failure": None, "metrics": None, "output": None,
    }  # fmt: skip
    assert await client.job(job) == queued
    await world.later(5)
    await miner.take(job)
    await world.later(5)
    body(await miner.complete(job, execution_time_seconds=5, gpu_time_seconds=4.5))
    assert await client.job(job) == queued | {
        "status": "completed", "attempts": 1, "started_at": world.clock.now - 5, "finished_at": world.clock.now,
        "miner_id": miner.id, "miner_name": "my-miner", "result_hash": HASH,
        "metrics": {"execution_time_seconds": 5, "gpu_time_seconds": 4.5, "prompt_tokens": None,
                    "completion_tokens": None},
    }  # fmt: skip


async def test_a_job_s_defaults(world: World) -> None:
    client = await world.client()
    job = body(await client.post("/v1/jobs", json={"model": "gpt2", "input": None, "price": 0}), 201)
    assert job["status"] == "queued"
    assert (await client.job(job["job_id"])).items() >= {
        "gpu_type": "any", "gpu_count": 1, "estimated_time": 60, "timeout": 86_400, "max_attempts": 3, "priority": 0,
    }.items()  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [b'{"b":1,"a":[1.50,-0,1e3]}', b'"caf\xc3\xa9 \\u2713"', b"null", b"  [ 1 ]", b"123456789012345678901234567890"],
)
async def test_the_input_reaches_the_miner_as_it_was_written(world: World, text: bytes) -> None:
    client, miner = await world.client(), await world.miner()
    sent = b'{"model":"gpt2","price":1,"gpu_type":"v100","input":' + text + b"}"
    job = body(await client.post("/v1/jobs", content=sent, headers=JSON), 201)["job_id"]
    assert b'"input":' + text.strip() in (await miner.accept(job)).content


async def test_an_input_that_is_not_utf_8_is_refused(world: World) -> None:
    client = await world.client()
    sent = b'{"model":"gpt2","price":1,"input":"\xff"}'
    problem(await client.post("/v1/jobs", content=sent, headers=JSON), 400)
    problem(await client.post("/v1/jobs/batch", content=b'{"jobs":[' + sent + b"]}", headers=JSON), 400)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"modle": "x"}, ["modle"]),
        ({"model": "", "price": -1, "gpu_count": 0, "priority": 1001}, ["model", "price", "gpu_count", "priority"]),
        ({"timeout": 0, "attempt_timeout": -1, "max_attempts": 0}, ["timeout", "attempt_timeout", "max_attempts"]),
        ({"estimated_time": 0.0001}, ["estimated_time"]),
        ({"estimated_time": 0.0001, "price": 1e-7}, ["estimated_time", "price"]),
        ({"require_result": "yes", "gpu_type": "a b", "timeout": 1e10}, ["require_result", "gpu_type", "timeout"]),
    ],
)
async def test_422_on_submitting_names_every_fault(world: World, change: dict[str, Any], fields: list[str]) -> None:
    client = await world.client()
    problem(await client.post("/v1/jobs", json=JOB | change), 422, *fields)
    nested = [f"jobs[1].{field}" for field in fields]
    problem(await client.post("/v1/jobs/batch", json={"jobs": [JOB, JOB | change]}), 422, *nested)
    assert await client.balance() == (100, 0)


async def test_422_names_the_faults_of_every_job_of_a_batch(world: World) -> None:
    client = await world.client()
    fine = {"jobs": [JOB | {"price": 1e-7}, JOB, JOB | {"price": 1e-7}]}
    problem(await client.post("/v1/jobs/batch", json=fine), 422, "jobs[0].price", "jobs[2].price")


async def test_a_batch_is_all_or_none(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    jobs = [JOB | {"model": f"m{i}"} for i in range(3)]
    answer = body(await client.post("/v1/jobs/batch", json={"jobs": jobs}), 201)["jobs"]
    assert [job["status"] for job in answer] == ["queued"] * 3
    assert [(await client.job(job["job_id"]))["model"] for job in answer] == ["m0", "m1", "m2"]
    assert await miner.offered() == [job["job_id"] for job in answer]
    problem(await client.post("/v1/jobs/batch", json={"jobs": [*jobs, JOB | {"price": -1}]}), 422, "jobs[3].price")
    problem(await client.post("/v1/jobs/batch", json={"jobs": []}), 422, "jobs")
    problem(await client.post("/v1/jobs/batch", json={"jobs": [JOB] * 1001}), 422, "jobs")
    assert await client.balance() == (99.85, 0.15)
    assert len(body(await client.get("/v1/jobs"))["jobs"]) == 3
    body(await client.post("/v1/jobs/batch", json={"jobs": [JOB | {"price": 0}] * 1000}), 201)


async def test_idempotency(world: World) -> None:
    client, neighbour = await world.client(), await world.client()
    key = {"Idempotency-Key": "order-1"}
    first = body(await client.post("/v1/jobs", json=JOB, headers=key), 201)
    await world.later(3600)
    assert body(await client.post("/v1/jobs", json=JOB, headers=key), 201) == first
    problem(await client.post("/v1/jobs", json=JOB | {"price": 1}, headers=key), 422, "Idempotency-Key")
    problem(await client.post("/v1/jobs/batch", json={"jobs": [JOB]}, headers=key), 422, "Idempotency-Key")
    # It is the caller's own, and another key is another order.
    assert body(await neighbour.post("/v1/jobs", json=JOB, headers=key), 201) != first
    assert body(await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "order-2"}), 201) != first
    assert await client.balance() == (99.9, 0.1)
    for wrong in ("", "x" * 256):
        answer = await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": wrong})
        problem(answer, 422, "Idempotency-Key")


async def test_idempotency_of_a_batch(world: World) -> None:
    client = await world.client()
    key, batch = {"Idempotency-Key": "batch"}, {"jobs": [JOB] * 3}
    first = body(await client.post("/v1/jobs/batch", json=batch, headers=key), 201)
    assert body(await client.post("/v1/jobs/batch", json=batch, headers=key), 201) == first
    problem(await client.post("/v1/jobs/batch", json={"jobs": [JOB] * 2}, headers=key), 422, "Idempotency-Key")
    assert await client.balance() == (99.85, 0.15)


async def test_idempotency_of_a_credit(world: World) -> None:
    client, other = await world.client(1), await world.client(1)
    key = {"Idempotency-Key": "top-up"}

    async def credit(amount: float, whom: Client) -> Any:
        return await world.operator.post(f"/clients/{whom.id}/credit", json={"amount": amount}, headers=key)

    first = body(await credit(5, client))
    assert first["balance"] == 6
    assert body(await credit(5, client)) == first
    problem(await credit(6, client), 422, "Idempotency-Key")
    problem(await credit(5, other), 422, "Idempotency-Key")
    assert [await c.balance() for c in (client, other)] == [(6, 0), (1, 0)]


async def test_idempotency_when_all_come_at_once(world: World) -> None:
    client = await world.client()
    key = {"Idempotency-Key": "at-once"}
    answers = await asyncio.gather(*(client.post("/v1/jobs", json=JOB, headers=key) for _ in range(20)))
    assert len({body(answer, 201)["job_id"] for answer in answers}) == 1
    assert await client.balance() == (99.95, 0.05)


async def test_a_refusal_is_not_kept(world: World) -> None:
    client = await world.client(0)
    key = {"Idempotency-Key": "poor"}
    problem(await client.post("/v1/jobs", json=JOB, headers=key), 402)
    body(await world.operator.post(f"/clients/{client.id}/credit", json={"amount": 1}))
    body(await client.post("/v1/jobs", json=JOB, headers=key), 201)


async def test_pages_and_filters(world: World) -> None:
    client, miner = await world.client(), await world.miner(max_concurrent=50)
    jobs = [await client.submit(model="even" if i % 2 == 0 else "odd") for i in range(9)]
    await miner.take(jobs[0])
    await miner.take(jobs[1])
    body(await miner.complete(jobs[1]))
    body(await client.delete(f"/v1/jobs/{jobs[2]}"))

    async def listed(party: Party = client, path: str = "/v1/jobs", **query: Any) -> list[str]:
        """All pages."""
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = body(await party.get(path, params=query | ({"cursor": cursor} if cursor else {})))
            assert len(page["jobs"]) <= query.get("limit", 50)
            ids += [job["job_id"] for job in page["jobs"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return ids

    newest = jobs[::-1]
    for limit in (1, 2, 3, 8, 9, 10, 200):
        assert await listed(limit=limit) == newest
    assert await listed(status="queued", limit=2) == newest[:6]
    assert await listed(status="assigned") == [jobs[0]]
    assert await listed(status="completed") == [jobs[1]]
    assert await listed(status="cancelled") == [jobs[2]]
    assert await listed(status="expired") == []
    assert await listed(model="odd", limit=1) == [job for job in newest if jobs.index(job) % 2]
    assert await listed(model="odd", status="queued") == [jobs[7], jobs[5], jobs[3]]
    assert await listed(model="none") == []
    # The same for the operator, over all clients or one.
    other = await world.client()
    theirs = await other.submit()
    assert await listed(world.operator, "/jobs", limit=3) == [theirs, *newest]
    assert await listed(world.operator, "/jobs", client_id=client.id, status="queued", limit=4) == newest[:6]
    # A page is not disturbed by what comes meanwhile.
    first = body(await client.get("/v1/jobs?limit=2"))
    await client.submit()
    second = body(await client.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}))
    assert [job["job_id"] for job in second["jobs"]] == newest[2:4]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=201", ["limit"]),
        ("limit=x&status=none", ["limit", "status"]),
        ("limit=1&limit=2", ["limit"]),
        ("unknown=1&status=", ["unknown", "status"]),
        ("cursor=", ["cursor"]),
        ("cursor=0", ["cursor"]),
        ("cursor=-1", ["cursor"]),
        ("cursor=abc", ["cursor"]),
        ("cursor=9999999999999999999999", ["cursor"]),
        ("cursor=" + "1" * 5000, ["cursor"]),
        ("limit=" + "1" * 5000, ["limit"]),
        ("model=%00", ["model"]),
    ],
)
async def test_422_for_query_parameters(world: World, query: str, fields: list[str]) -> None:
    client = await world.client()
    problem(await client.get(f"/v1/jobs?{query}"), 422, *fields)


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon", ""])
async def test_422_for_a_wait_out_of_range(world: World, wait: str) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    problem(await client.get(f"/v1/jobs/{job}?wait={wait}"), 422, "wait")
    problem(await miner.get(f"/jobs/available?wait={wait}"), 422, "wait")


async def test_a_client_sees_its_own_jobs_only(world: World) -> None:
    client, stranger, miner = await world.client(), await world.client(), await world.miner()
    job = await client.submit()
    told = set()
    for name in (job, "job_unknown"):
        for answer in (
            await stranger.get(f"/v1/jobs/{name}"),
            await stranger.get(f"/v1/jobs/{name}?wait=1"),
            await stranger.delete(f"/v1/jobs/{name}"),
            await stranger.get(f"/v1/jobs/{name}/result"),
        ):
            told.add(problem(answer, 404)["detail"].replace(name, "it"))
    assert len(told) == 1
    assert body(await stranger.get("/v1/jobs"))["jobs"] == []
    assert (await client.job(job))["status"] == "queued"
    problem(await miner.call("GET", headers={"Authorization": f"Bearer {client.key}"}), 404)


async def test_each_key_is_for_its_own_audience(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    root = {"miner": Party(world.http, miner.key), "operator": Party(world.http, world.operator.key)}
    for party in root.values():
        problem(await party.get("/v1/jobs"), 403)
        problem(await party.get(f"/v1/jobs/{job}"), 403)
        problem(await party.post("/v1/jobs", json=JOB), 403)
    for party in (root["miner"], client):
        problem(await party.get("/v1/admin/overview"), 403)
        problem(await party.post("/v1/admin/clients", json={"name": "x"}), 403)
        problem(await party.delete(f"/v1/admin/jobs/{job}"), 403)


async def test_the_account(world: World) -> None:
    client = await world.client(2.5)
    await client.submit(price=1)
    assert body(await client.get("/v1/clients/me")) == {
        "client_id": client.id, "name": "lab", "balance": 1.5, "credit_line": 0, "held": 1,
        "created_at": world.clock.now,
    }  # fmt: skip
