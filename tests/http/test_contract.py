"""The fixed part of the contract, word for word, against a coordinator started as a user starts one."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.http.exchange import COMPLETE, HASH, JOB, JSON, OTHER_HASH, REGISTER, Api, Miner, Party, World, body, problem
from tests.http.server import OPERATOR_KEY

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


#: Every call but registration: method, path under the miner's own, body.
CALLS = [
    ("PUT", "", {}),
    ("POST", "/heartbeat", None),
    ("GET", "/jobs/available", None),
    ("POST", "/jobs/job_unknown/accept", None),
    ("POST", "/jobs/job_unknown/complete", json.loads(COMPLETE)),
    ("GET", "/stats", None),
]
BY_NAME = pytest.mark.parametrize(("method", "path", "sent"), CALLS, ids=lambda v: v if isinstance(v, str) else "")


def exactly(content: dict[str, Any], **types: type | tuple[type, ...]) -> None:
    """The content has these fields with these JSON types, where `bool` is no number; keys beside them are allowed."""
    for name, kind in types.items():
        assert name in content
        assert isinstance(content[name], kind), (name, content[name])
        assert not isinstance(content[name], bool), name


NUMBER = (int, float)


# -- the seven calls


async def test_register(api: Api) -> None:
    answer = body(await api.http.post("/v1/miners", content=REGISTER, headers=JSON), 201)
    exactly(answer, miner_id=str, api_key=str, status=str)
    assert answer["miner_id"].startswith("miner_")
    assert answer["api_key"].startswith("key_")
    assert answer["status"] == "pending"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"name": "renamed"},
        {"gpu_type": "a100"},
        {"gpu_count": 8},
        {"location": "eu-west"},
        {"price_per_hour": 1.25},
        {"max_concurrent": 1},
        {"gpu_count": 2, "price_per_hour": 0},
        {"name": "all", "gpu_type": "h100", "gpu_count": 4, "location": "", "price_per_hour": 2, "max_concurrent": 9},
    ],
    ids=lambda change: ",".join(change) or "nothing",
)
async def test_update_takes_any_subset(api: Api, change: dict[str, Any]) -> None:
    miner = await api.register()
    answer = body(await miner.put(json=change))
    assert answer.items() >= (json.loads(REGISTER) | change).items()
    assert answer["miner_id"] == miner.id
    assert answer["status"] == "pending"
    assert "api_key" not in answer
    assert miner.key not in json.dumps(answer)
    assert body(await miner.get()) == answer


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"content": b""},
        {"content": b"", "headers": JSON},
        {"json": {}},
        {"json": {"jobs": []}},
        {"json": {"telemetry": {"temperature": 60, "gpus": [{"used": 0.5}]}}},
        {"json": {"jobs": ["job_unknown"], "telemetry": {}, "something": "else"}},
    ],
    ids=["nothing", "empty", "empty-json", "object", "no-jobs", "telemetry", "unknown-job"],
)
async def test_heartbeat_needs_no_body(api: Api, sent: dict[str, Any]) -> None:
    miner = await api.register(gpu_type="heartbeat-only")
    answer = body(await miner.post("/heartbeat", **sent))
    exactly(answer, status=str, jobs_assigned=int, queue_length=int)
    assert (answer["status"], answer["jobs_assigned"], answer["queue_length"]) == ("ok", 0, 0)


async def test_heartbeat_counts(api: Api) -> None:
    client, miner = await api.client(), await api.miner(gpu_type="counts")
    jobs = [await client.submit(gpu_type="counts") for _ in range(5)]
    assert (await miner.beat()).items() >= {"jobs_assigned": 0, "queue_length": 5}.items()
    await miner.take(jobs[0])
    await miner.take(jobs[1])
    assert (await miner.beat()).items() >= {"jobs_assigned": 2, "queue_length": 3}.items()
    assert (await miner.beat(jobs[1])).items() >= {"jobs_assigned": 2, "queue_length": 3}.items()


async def test_available_accept_complete_stats(api: Api) -> None:
    client = await api.client()
    made = body(await api.http.post("/v1/miners", content=REGISTER, headers=JSON), 201)
    miner = Miner(api.http, made["api_key"], f"/v1/miners/{made['miner_id']}")
    none = body(await miner.get("/stats"))
    assert set(none.values()) == {0}
    job = await client.submit(gpu_count=1)
    await miner.beat()

    offers = body(await miner.get("/jobs/available"))["jobs"]
    (offer,) = [offer for offer in offers if offer["job_id"] == job]
    assert offer.items() >= {
        "job_id": job, "model": "gpt2", "gpu_type": "v100", "gpu_count": 1, "estimated_time": 600, "price": 0.05,
    }.items()  # fmt: skip
    exactly(offer, job_id=str, model=str, gpu_type=str, gpu_count=int, estimated_time=int, price=NUMBER)
    assert job.startswith("job_")

    assignment = body(await miner.accept(job))
    assert assignment["job_id"] == job
    assert assignment["input"] == JOB["input"]
    assert assignment["attempt"] == 1
    assert assignment["lease_expires_in"] == pytest.approx(120, abs=5)
    assert assignment["lease_token"]

    outcome = body(await miner.post(f"/jobs/{job}/complete", content=COMPLETE, headers=JSON))
    assert outcome["status"] == "completed"
    assert outcome["earned"] == 0.05
    assert outcome["receipt"]["result_hash"] == "sha256:abc123..."

    stats = body(await miner.get("/stats"))
    exactly(
        stats, total_jobs=int, success_rate=NUMBER, average_completion_time=NUMBER, earnings=NUMBER,
        earnings_per_gpu_hour=NUMBER,
    )  # fmt: skip
    assert (stats["total_jobs"], stats["success_rate"], stats["earnings"]) == (1, 1, 0.05)


@pytest.mark.parametrize("metrics", [{}, {"metrics": {}}, {"metrics": {"gpu_time_seconds": 1.5, "of_mine": "x"}}])
async def test_completing_needs_no_metrics(api: Api, metrics: dict[str, Any]) -> None:
    client, miner = await api.client(), await api.miner(gpu_type="bare")
    job = await client.submit(gpu_type="bare")
    await miner.take(job)
    assert body(await miner.post(f"/jobs/{job}/complete", json={"result_hash": HASH} | metrics))["earned"] == 0.05


# -- keys


@BY_NAME
async def test_both_headers_carry_the_key(api: Api, method: str, path: str, sent: Any) -> None:
    miner = await api.register()
    wanted = 404 if "job_unknown" in path else 200
    for headers in (
        {"Authorization": f"Bearer {miner.key}"},
        {"authorization": f"bearer {miner.key}"},
        {"X-Api-Key": miner.key},
        {"Authorization": f"Bearer {miner.key}", "X-Api-Key": miner.key},
    ):
        answer = await api.http.request(method, miner.base + path, json=sent, headers=headers)
        assert answer.status_code == wanted, answer.text


@BY_NAME
async def test_401_without_a_valid_key(api: Api, method: str, path: str, sent: Any) -> None:
    miner = await api.register()
    revoked = await api.register()
    body(await api.operator.delete(f"/accounts/{revoked.id}/keys"))
    for headers in (
        {},
        {"Authorization": "Bearer key_nobody"},
        {"X-Api-Key": "key_nobody"},
        {"X-Api-Key": ""},
        {"Authorization": "Bearer"},
        {"Authorization": miner.key},
        {"Authorization": f"Basic {miner.key}"},
        {"Authorization": f"Bearer {miner.key}", "X-Api-Key": "key_nobody"},
        {"X-Api-Key": revoked.key},
    ):
        answer = await api.http.request(method, miner.base + path, json=sent, headers=headers)
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


# -- what is not there, or not the caller's


@BY_NAME
async def test_404_on_another_miners_path_tells_nothing(api: Api, method: str, path: str, sent: Any) -> None:
    miner, other, client = await api.register(), await api.register(), await api.client()
    told = set()
    for caller in (Party(api.http, miner.key), Party(api.http, client.key), Party(api.http, OPERATOR_KEY)):
        for whose in (other.base, "/v1/miners/miner_unknown"):
            answer = problem(await caller.call(method, whose + path, json=sent), 404)
            told.add((answer["type"], answer["title"], answer["detail"]))
    assert len(told) == 1


@pytest.mark.parametrize("call", ["accept", "complete"])
async def test_404_for_a_job_that_is_not_there(api: Api, call: str) -> None:
    miner = await api.miner()
    sent = json.loads(COMPLETE) if call == "complete" else None
    problem(await miner.post(f"/jobs/job_unknown/{call}", json=sent), 404)


async def test_paths_and_methods_that_are_not_there_are_problems(api: Api) -> None:
    miner = await api.register()
    problem(await miner.get("/nothing"), 404)
    problem(await miner.get("/stats/"), 404)
    refused = await miner.delete("/stats")
    problem(refused, 405)
    assert "GET" in refused.headers["allow"]


# -- 409


async def test_409_for_a_job_that_is_assigned(api: Api) -> None:
    client = await api.client()
    miner, other = await api.miner(gpu_type="taken"), await api.miner(gpu_type="taken")
    job = await client.submit(gpu_type="taken")
    problem(await miner.complete(job), 409)
    await miner.take(job)
    problem(await other.accept(job), 409)
    problem(await other.complete(job), 409)
    body(await miner.complete(job))
    problem(await miner.complete(job, OTHER_HASH), 409)
    problem(await other.accept(job), 409)
    problem(await miner.accept(job), 409)
