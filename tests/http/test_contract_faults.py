"""Requests that cannot be read (400) and those that read but are not valid (422), for each call of the contract that takes a body."""

import json
from typing import Any

import pytest
from tests.http.exchange import COMPLETE, HASH, JSON, REGISTER, Api, body, problem

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
