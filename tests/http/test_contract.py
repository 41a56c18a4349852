"""The fixed part of the contract, word for word, against a coordinator started as a user starts one."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
import time_machine
from tests.http.exchange import HASH, JOB, OTHER_HASH, Api, Miner, Party, World, body, connect, problem
from tests.http.server import OPERATOR_KEY

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]

# The contract's own texts, byte for byte.
REGISTER = b"""{"name":"my-miner","gpu_type":"v100","gpu_count":1,"location":"us-east","price_per_hour":0.05,"max_concurrent":4}"""
COMPLETE = b"""{"result_hash":"sha256:abc123...","metrics":{"execution_time_seconds":600,"gpu_time_seconds":600}}"""
JSON = {"Content-Type": "application/json"}

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


# -- 400 and 422

UNREADABLE: dict[str, dict[str, Any]] = {
    "not JSON": {"content": b"{name: 1}", "headers": JSON},
    "cut off": {"content": REGISTER[:-5], "headers": JSON},
    "cut off after a fault": {"content": b'{"name":5,"gpu_type', "headers": JSON},
    "two values": {"content": b"{} {}", "headers": JSON},
    "not UTF-8": {"content": b'{"name":"\xff"}', "headers": JSON},
    "not UTF-8 after a fault": {"content": b'{"gpu_type":5,"name":"\xff"}', "headers": JSON},
    "half a surrogate": {"content": b'{"gpu_type":5,"name":"\\ud800"}', "headers": JSON},
    "nested too deeply": {"content": b"[" * 100_000 + b"]" * 100_000, "headers": JSON},
    "nested too deeply, after a fault": {
        "content": b'{"name":5,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "headers": JSON,
    },
    "empty": {"content": b"", "headers": JSON},
    "no content type": {"content": REGISTER},
    "another content type": {"content": REGISTER, "headers": {"Content-Type": "text/plain"}},
    "a form": {"data": {"name": "x"}},
    "another charset": {"content": REGISTER, "headers": {"Content-Type": "application/json; charset=latin-1"}},
    "too large": {"content": b'{"name":"' + b"x" * 4_194_304 + b'"}', "headers": JSON},
}  # fmt: skip


@pytest.mark.parametrize("sent", UNREADABLE.values(), ids=UNREADABLE)
async def test_400_for_what_cannot_be_read(roomy: Api, sent: dict[str, Any]) -> None:
    problem(await roomy.http.post("/v1/miners", **sent), 400)


async def test_400_for_a_body_over_the_limit_that_does_not_say_its_length(roomy: Api) -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b" " * 65_536

    problem(await roomy.http.post("/v1/miners", content=chunks(), headers=JSON), 400)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"])
async def test_json_by_its_other_names(api: Api, content_type: str) -> None:
    body(await api.http.post("/v1/miners", content=REGISTER, headers={"Content-Type": content_type}), 201)


#: The other calls that take a body, with one that they take.
BODIES = [
    ("PUT", "", {"location": "elsewhere"}),
    ("POST", "/heartbeat", {}),
    ("POST", "/jobs/{job}/complete", json.loads(COMPLETE)),
]


@pytest.mark.parametrize(("method", "path", "fine"), BODIES, ids=lambda v: v if isinstance(v, str) else "")
async def test_400_from_every_call_that_takes_a_body(roomy: Api, method: str, path: str, fine: Any) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="bodies")
    job = await client.submit(gpu_type="bodies")
    await miner.take(job)
    path = path.format(job=job)
    text = json.dumps(fine).encode()
    refused: dict[str, dict[str, Any]] = UNREADABLE | {
        "no content type": {"content": text}, "another content type": {"content": text, "headers": {"Content-Type": "text/plain"}},
    }  # fmt: skip
    for name, sent in refused.items():
        if name == "empty" and path == "/heartbeat":
            continue  # It needs none.
        problem(await miner.call(method, path, **sent | {"headers": sent.get("headers")}), 400)
    assert body(await miner.get())["location"] == "us-east"
    assert (await client.job(job))["status"] == "assigned"
    body(await miner.call(method, path, json=fine))


@pytest.mark.parametrize(
    "sent", [{"json": {}}, {"content": b"anything"}, {"json": [1]}], ids=["object", "text", "array"]
)
async def test_a_body_that_a_call_does_not_take_is_not_looked_at(api: Api, sent: dict[str, Any]) -> None:
    client, miner = await api.client(), await api.miner(gpu_type="no-body")
    job = await client.submit(gpu_type="no-body")
    assert body(await miner.call("GET", "/jobs/available", **sent))["jobs"]
    assert body(await miner.call("POST", f"/jobs/{job}/accept", **sent))["job_id"] == job
    assert body(await miner.call("GET", "/stats", **sent))["total_jobs"] == 0


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({"jobs": "job_1"}, ["jobs"]),
        ({"jobs": [1]}, ["jobs[0]"]),
        ({"jobs": None, "telemetry": []}, ["jobs", "telemetry"]),
        ({"telemetry": "warm"}, ["telemetry"]),
        ([], [""]),
        ("alive", [""]),
    ],
)
async def test_422_on_a_heartbeat_names_the_field(roomy: Api, sent: Any, fields: list[str]) -> None:
    miner = await roomy.register()
    problem(await miner.post("/heartbeat", json=sent), 422, *fields)
    assert await miner.status() == "pending", "what is refused is no heartbeat"


WRONG: dict[str, tuple[Any, ...]] = {
    "name": ("", " x", "a\nb", "x" * 201, 5, None, ["x"]),
    "gpu_type": ("", "v 100", "-v", "x" * 65, "any", 5, None),
    "gpu_count": (0, -1, 1025, 1.5, "1", True, None, 2**70),
    "location": ("x" * 501, "a\tb", 5, None),
    "price_per_hour": (-0.01, 100_000_001, 0.0000001, "0.05", True, None),
    "max_concurrent": (0, -1, 10_001, 1.5, "4", None),
    "models": ("gpt2", 5, {"gpt2": 1}),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
async def test_422_names_the_field(roomy: Api, field: str, value: Any) -> None:
    problem(await roomy.http.post("/v1/miners", json=json.loads(REGISTER) | {field: value}), 422, field)


@pytest.mark.parametrize(("field", "value"), [(field, values[0]) for field, values in WRONG.items()])
async def test_422_on_an_update_names_the_field_and_changes_nothing(roomy: Api, field: str, value: Any) -> None:
    miner = await roomy.register()
    problem(await miner.put(json={"location": "elsewhere", field: value}), 422, field)
    assert body(await miner.get())["location"] == "us-east"


@pytest.mark.parametrize("field", [field for field in WRONG if field != "models"])
async def test_422_names_the_missing_field(roomy: Api, field: str) -> None:
    sent = json.loads(REGISTER)
    del sent[field]
    problem(await roomy.http.post("/v1/miners", json=sent), 422, field)


async def test_422_names_every_fault(roomy: Api) -> None:
    problem(await roomy.http.post("/v1/miners", json={}), 422, *json.loads(REGISTER))
    wrong = {field: values[0] for field, values in WRONG.items()}
    problem(await roomy.http.post("/v1/miners", json=wrong), 422, *wrong)


async def test_422_names_what_only_the_exchange_refuses_together_with_the_rest(roomy: Api) -> None:
    too_fine = json.loads(REGISTER) | {"price_per_hour": 0.0000001, "name": "", "max_concurrent": 0}
    problem(await roomy.http.post("/v1/miners", json=too_fine), 422, "price_per_hour", "name", "max_concurrent")
    two = json.loads(REGISTER) | {"price_per_hour": 0.0000001, "gpu_type": "any"}
    problem(await roomy.http.post("/v1/miners", json=two), 422, "price_per_hour", "gpu_type")


async def test_422_names_the_places_in_a_list(roomy: Api) -> None:
    sent = json.loads(REGISTER) | {"models": ["gpt2", "", "llama", 5]}
    problem(await roomy.http.post("/v1/miners", json=sent), 422, "models[1]", "models[3]")


async def test_422_for_a_number_out_of_range(roomy: Api) -> None:
    huge = REGISTER.replace(b"0.05", b"1e400")
    problem(await roomy.http.post("/v1/miners", content=huge, headers=JSON), 422, "price_per_hour")
    miner = await roomy.register()
    answer = await miner.post("/heartbeat", content=b'{"telemetry":{"a":1e400}}', headers=JSON)
    assert problem(answer, 422, *(f["field"] for f in answer.json().get("errors", [])))["errors"]


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({}, ["result_hash"]),
        ({"result_hash": 5, "metrics": {"gpu_time_seconds": -1}}, ["result_hash", "metrics.gpu_time_seconds"]),
        ({"result_hash": "md5:abc"}, ["result_hash"]),
        ({"result_hash": "sha256:"}, ["result_hash"]),
        ({"result_hash": "sha256:ab\n"}, ["result_hash"]),
        ({"result_hash": HASH, "metrics": [1]}, ["metrics"]),
        ({"result_hash": HASH, "metrics": {"execution_time_seconds": "600"}}, ["metrics.execution_time_seconds"]),
        ([], [""]),
        ("sha256:abc", [""]),
        (None, [""]),
    ],
)
async def test_422_on_completing_changes_nothing(roomy: Api, sent: Any, fields: list[str]) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="wrong-complete")
    job = await client.submit(gpu_type="wrong-complete")
    await miner.take(job)
    answer = await miner.post(f"/jobs/{job}/complete", content=json.dumps(sent).encode(), headers=JSON)
    problem(answer, 422, *fields)
    assert (await client.job(job))["status"] == "assigned"
    assert (await miner.complete(job)).status_code == 200


async def test_a_later_version_of_a_miner_may_send_more(api: Api) -> None:
    miner = await api.register(colour="blue", nested={"a": 1})
    body(await miner.put(json={"colour": "red"}))


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


# -- 429


def standing(response: httpx.Response) -> dict[str, int]:
    """What is left of each limit, by the RateLimit header."""
    parts = (part.split(";") for part in response.headers["ratelimit"].split(", "))
    return {name.strip('"'): int(left.removeprefix("r=")) for name, left, _ in parts}


def limited(response: httpx.Response, limit: int) -> None:
    """The response is a 429 with all its headers."""
    problem(response, 429)
    headers = response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert int(headers["ratelimit-limit"]) == limit
    assert int(headers["ratelimit-remaining"]) == 0
    assert 0 <= int(headers["ratelimit-reset"]) <= 60
    assert 0 in standing(response).values()
    assert f"q={limit};w=60" in headers["ratelimit-policy"]


async def test_429_after_ten_job_operations(api: Api) -> None:
    client, miner = await api.client(), await api.miner(gpu_type="ten")  # its heartbeat is a request
    job = await client.submit(gpu_type="ten")
    operations: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: miner.accept(job),
        lambda: miner.accept("job_unknown"),
        lambda: miner.fail("job_unknown"),
        lambda: miner.release("job_unknown"),
        lambda: miner.complete("job_unknown"),
    ] * 2
    for done, operation in enumerate(operations, 1):
        answer = await operation()
        assert answer.status_code in (200, 404)
        assert standing(answer) == {"requests": 59 - done, "job-operations": 10 - done}
        assert answer.headers["ratelimit-limit"] == "10"
        assert answer.headers["ratelimit-remaining"] == str(10 - done)
    for operation in operations[:5]:
        answer = await operation()
        limited(answer, 10)
        assert standing(answer) == {"requests": 49, "job-operations": 0}  # a refused one uses up neither
    # An upload or a progress report counts as a request only.
    assert body(await miner.post(f"/jobs/{job}/progress", json={"fraction": 0.5}))["status"] == "running"
    uploaded = await miner.upload(job, b"result")
    assert body(uploaded)["size"] == 6
    assert standing(uploaded) == {"requests": 47}
    assert await miner.beat()


async def test_429_after_sixty_requests(api: Api) -> None:
    miner, neighbour = await api.miner(), await api.miner()
    for done in range(2, 61):
        answer = await miner.get("/stats")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-remaining"] == str(60 - done)
        assert answer.headers["ratelimit-limit"] == "60"
    for refused in (miner.get("/stats"), miner.post("/heartbeat"), miner.accept("job_unknown"), miner.get("/nothing")):
        limited(await refused, 60)
    # Per miner, not per address.
    assert (await neighbour.get("/stats")).headers["ratelimit-remaining"] == "58"


async def test_a_refused_key_uses_nothing_up(api: Api) -> None:
    miner = await api.miner()
    for _ in range(5):
        problem(await api.http.get(miner.base + "/stats", headers={"X-Api-Key": "key_nobody"}), 401)
    assert (await miner.get("/stats")).headers["ratelimit-remaining"] == "58"


async def test_limits_for_one_miner(api: Api) -> None:
    miner = await api.miner()

    async def limits(requests: int | None, operations: int | None) -> None:
        given = {"requests_per_minute": requests, "job_operations_per_minute": operations}
        answer = body(await api.operator.put(f"/miners/{miner.id}/limits", json=given))
        assert answer["limits"] == given

    await limits(100, 2)
    assert (await miner.get("/stats")).headers["ratelimit-limit"] == "100"
    for _ in range(2):
        problem(await miner.accept("job_unknown"), 404)
    limited(await miner.accept("job_unknown"), 2)
    await limits(0, 12)
    for _ in range(12):
        problem(await miner.accept("job_unknown"), 404)
    limited(await miner.accept("job_unknown"), 12)
    await limits(0, 0)
    for _ in range(70):
        answer = await miner.accept("job_unknown")
        problem(answer, 404)
    assert "ratelimit" not in answer.headers
    await limits(None, None)
    assert standing(await miner.accept("job_unknown")).keys() == {"requests", "job-operations"}


async def test_the_limit_of_registrations_is_by_address(default_url: str) -> None:
    async def register(api: Api) -> httpx.Response:
        return await api.http.post("/v1/miners", content=REGISTER, headers=JSON)

    async with connect(default_url, "", address="127.2.0.1") as api:
        answers = await asyncio.gather(*(register(api) for _ in range(60)))
        assert {answer.status_code for answer in answers} == {201}
        limited(await register(api), 60)
    async with connect(default_url, "", address="127.2.0.2") as api:
        assert (await register(api)).headers["ratelimit-remaining"] == "59"


async def test_the_window_moves(open_world: OpenWorld) -> None:
    with time_machine.travel(1_800_000_000, tick=False) as time:
        async with open_world(limits=True) as world:
            miner = await world.miner()
            for _ in range(5):
                problem(await miner.accept("job_unknown"), 404)
            time.shift(30)
            for _ in range(5):
                problem(await miner.accept("job_unknown"), 404)
            refused = await miner.accept("job_unknown")
            limited(refused, 10)
            # Retry-After is the truth: one second before, it is still refused; then as many go as have left the window.
            time.shift(int(refused.headers["retry-after"]) - 1)
            limited(await miner.accept("job_unknown"), 10)
            time.shift(1.5)
            for _ in range(5):
                problem(await miner.accept("job_unknown"), 404)
            limited(await miner.accept("job_unknown"), 10)
