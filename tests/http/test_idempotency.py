"""Every POST under an idempotency key: done once, answered alike ever after, over a restart and all at once."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import httpx
import msgspec
import pytest
from tests.http.exchange import HASH, JOB, REGISTRATION, Miner, Party, World, body, problem

from pithead.wire.endpoints import ENDPOINTS

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
POSTS: Final = {endpoint.name: endpoint for endpoint in ENDPOINTS if endpoint.method == "POST"}


class Request(msgspec.Struct):
    """A request that can be carried out, and another one by the same caller."""

    party: Party
    path: str
    content: Any = None
    other_path: str | None = None
    other_content: Any = None

    async def send(self, key: str) -> httpx.Response:
        return await self.party.post(self.path, json=self.content, headers={"Idempotency-Key": key})

    async def send_other(self, key: str) -> httpx.Response:
        path = self.other_path or self.path
        return await self.party.post(path, json=self.other_content, headers={"Idempotency-Key": key})


async def held(world: World) -> tuple[Miner, str, str]:
    """A miner with two jobs in its hands."""
    client, miner = await world.client(), await world.miner()
    jobs = [await client.submit(), await client.submit()]
    for job in jobs:
        await miner.take(job)
    return miner, jobs[0], jobs[1]


async def job_call(world: World, call: str, content: Any = None, other: Any = None) -> Request:
    miner, job, second = await held(world)
    path = f"/jobs/{job}/{call}"
    if other is None:
        return Request(miner, path, content, f"/jobs/{second}/{call}", content)
    return Request(miner, path, content, None, other)


async def accept(world: World) -> Request:
    client, miner = await world.client(), await world.miner()
    return Request(miner, f"/jobs/{await client.submit()}/accept", None, f"/jobs/{await client.submit()}/accept")


async def earned(world: World) -> Miner:
    miner, job, _ = await held(world)
    body(await miner.complete(job))
    body(await miner.put(json={"payout_destination": "x"}))
    return miner


async def payout(world: World, call: str, content: Any = None, other: Any = None) -> Request:
    miner = await earned(world)
    ids = [body(await miner.post("/payouts", json={"amount": 0.01}), 201)["payout_id"] for _ in range(2)]
    if call == "paid":
        body(await world.operator.post(f"/payouts/{ids[0]}/approve"))
    other_path = f"/payouts/{ids[1]}/{call}" if other is None else None
    return Request(world.operator, f"/payouts/{ids[0]}/{call}", content, other_path, other)


async def about_miner(world: World, call: str, content: Any = None, other: Any = None) -> Request:
    first, second = await world.miner(), await world.miner()
    other_path = f"/miners/{second.id}/{call}" if other is None else None
    return Request(world.operator, f"/miners/{first.id}/{call}", content, other_path, other)


async def simple(party: Awaitable[Party], path: str, content: Any, other: Any) -> Request:
    return Request(await party, path, content, None, other)


async def operator(world: World, path: str, content: Any, other: Any) -> Request:
    return Request(world.operator, path.format(client=(await world.client()).id), content, None, other)


async def stranger(world: World) -> Request:
    # `Party` sends a key; a stranger's is none that the coordinator knows, which a registration need not have.
    return Request(Party(world.http, "key_none"), "/v1/miners", REGISTRATION, None, REGISTRATION | {"name": "other"})


async def miner_payout(world: World, *, by_operator: bool) -> Request:
    miner = await earned(world)
    party, path = (world.operator, f"/miners/{miner.id}/payouts") if by_operator else (miner, "/payouts")
    return Request(party, path, {"amount": 0.01}, None, {"amount": 0.02})


async def webhook(world: World, call: str = "") -> Request:
    client = await world.client()
    made = [{"url": f"https://example.org/{name}"} for name in "ab"]
    if not call:
        return Request(client, "/v1/webhooks", made[0], None, made[1])
    ids = [body(await client.post("/v1/webhooks", json=one), 201)["webhook_id"] for one in made]
    paths = [f"/v1/webhooks/{webhook_id}" for webhook_id in ids]
    if call == "replay":
        sent = [body(await client.post(f"{path}/test"), 201)["delivery_id"] for path in paths]
        paths = [f"{path}/deliveries/{message}" for path, message in zip(paths, sent, strict=True)]
    return Request(client, f"{paths[0]}/{call}", None, f"{paths[1]}/{call}")


REQUESTS: Final[dict[str, Callable[[World], Awaitable[Request]]]] = {
    "register_miner": stranger,
    "heartbeat": lambda w: simple(w.miner(), "/heartbeat", {"jobs": []}, {"telemetry": {"load": 1}}),
    "accept_job": accept,
    "complete_job": lambda w: job_call(w, "complete", {"result_hash": HASH}, {"result_hash": "sha256:other"}),
    "fail_job": lambda w: job_call(w, "fail", {"reason": "a"}, {"reason": "b"}),
    "release_job": lambda w: job_call(w, "release"),
    "report_progress": lambda w: job_call(w, "progress", {"fraction": 0.5}, {"fraction": 0.6}),
    "request_payout": lambda w: miner_payout(w, by_operator=False),
    "submit_job": lambda w: simple(w.client(), "/v1/jobs", JOB, JOB | {"price": 1}),
    "submit_batch": lambda w: simple(w.client(), "/v1/jobs/batch", {"jobs": [JOB]}, {"jobs": [JOB] * 2}),
    "create_client": lambda w: operator(w, "/clients", {"name": "a", "credit": 5}, {"name": "b", "credit": 5}),
    "credit_client": lambda w: operator(w, "/clients/{client}/credit", {"amount": 1}, {"amount": 2}),
    "approve_miner": lambda w: about_miner(w, "approve"),
    "suspend_miner": lambda w: about_miner(w, "suspend", {"reason": "a"}, {"reason": "b"}),
    "retire_miner": lambda w: about_miner(w, "retire"),
    "rotate_key": lambda w: operator(w, "/accounts/{client}/keys", {"grace": 60}, {"grace": 61}),
    "create_enrollment_token": lambda w: operator(w, "/enrollment-tokens", {"uses": 2}, {"uses": 3}),
    "create_payout": lambda w: miner_payout(w, by_operator=True),
    "approve_payout": lambda w: payout(w, "approve"),
    "reject_payout": lambda w: payout(w, "reject", {"note": "a"}, {"note": "b"}),
    "mark_payout_paid": lambda w: payout(w, "paid", {"reference": "a"}, {"reference": "b"}),
    "create_webhook": webhook,
    "rotate_webhook_secret": lambda w: webhook(w, "secret"),
    "test_webhook": lambda w: webhook(w, "test"),
    "replay_delivery": lambda w: webhook(w, "replay"),
}


async def traces(world: World) -> tuple[Any, ...]:
    """What there is that a POST could have made."""
    overview = body(await world.operator.get("/overview"))
    log = body(await world.operator.get("/audit?limit=200"))["entries"]
    ledger = body(await world.operator.get("/ledger?limit=200"))["entries"]
    miners = body(await world.operator.get("/miners?limit=200"))["miners"]
    clients = body(await world.operator.get("/clients?limit=200"))["clients"]
    return overview["ledger"], overview["jobs"], log, ledger, len(miners), len(clients)


def test_every_post_is_tried_here() -> None:
    assert REQUESTS.keys() == POSTS.keys()


@pytest.mark.parametrize("name", POSTS)
async def test_the_same_key_and_body_has_the_same_answer_over_a_day_and_a_restart(
    open_world: OpenWorld, name: str
) -> None:
    key = str(uuid.uuid4())
    async with open_world() as world:
        request = await REQUESTS[name](world)
        first = await request.send(key)
        assert first.status_code == POSTS[name].status, first.text
        after = await traces(world)
        again = await request.send(key)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert await traces(world) == after
    async with open_world() as world:
        world.clock.now += 86_400.0
        request.party.http = world.http
        again = await request.send(key)
        assert (again.status_code, again.content) == (first.status_code, first.content)


@pytest.mark.parametrize("name", POSTS)
async def test_the_same_key_with_another_request_is_refused(world: World, name: str) -> None:
    request, key = await REQUESTS[name](world), str(uuid.uuid4())
    assert (await request.send(key)).status_code == POSTS[name].status
    before = await traces(world)
    problem(await request.send_other(key), 422, "Idempotency-Key")
    assert await traces(world) == before


@pytest.mark.parametrize("name", POSTS)
async def test_duplicates_that_come_while_the_first_is_under_way(world: World, name: str) -> None:
    request, key = await REQUESTS[name](world), str(uuid.uuid4())
    answers = await asyncio.gather(*(request.send(key) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {POSTS[name].status}
    assert len({answer.content for answer in answers}) == 1


#: Their secrets have to be read again: test_webhooks.py says how they are kept.
_KEPT: Final = ("create_webhook", "rotate_webhook_secret")


@pytest.mark.parametrize("name", [name for name, one in POSTS.items() if one.secret and name not in _KEPT])
async def test_an_answer_with_a_secret_does_not_lie_in_the_database(world: World, name: str) -> None:
    request, key = await REQUESTS[name](world), f"a-key-of-{uuid.uuid4()}"
    answer = body(await request.send(key), 201)
    secret = answer.get("api_key") or answer["enrollment_token"]
    stored = world.stored()
    assert hashlib.sha256(key.encode()).hexdigest().encode() in stored
    assert secret.encode() not in stored
    assert key.encode() not in stored, "the idempotency key is what the answer is sealed with"
    assert body(await request.send(key), 201) == answer


async def test_answers_that_carry_a_secret_are_marked_as_such() -> None:
    for endpoint in ENDPOINTS:
        fields = getattr(endpoint.response, "__struct_fields__", ())
        assert endpoint.secret == bool({"api_key", "enrollment_token", "secret"} & set(fields)), endpoint.name


async def test_a_refusal_is_not_kept(world: World) -> None:
    client, key = await world.client(0), {"Idempotency-Key": "x"}
    problem(await client.post("/v1/jobs", json=JOB, headers=key), 402)
    body(await world.operator.post(f"/clients/{client.id}/credit", json={"amount": 1}))
    body(await client.post("/v1/jobs", json=JOB, headers=key), 201)


async def test_one_callers_keys_are_nothing_to_another(world: World) -> None:
    first, second, key = await world.client(), await world.client(), {"Idempotency-Key": "x"}
    answers = [body(await c.post("/v1/jobs", json=JOB, headers=key), 201)["job_id"] for c in (first, second)]
    assert len(set(answers)) == 2


async def test_a_short_key_of_a_stranger_is_not_ours(world: World) -> None:
    """The answer to a registration has a key in it: who comes upon `1` must not be given somebody else's machine."""

    async def register(address: str, key: str, **over: Any) -> httpx.Response:
        transport = httpx.ASGITransport(world.application.asgi, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://pithead") as http:
            return await http.post("/v1/miners", json=REGISTRATION | over, headers={"Idempotency-Key": key})

    mine = body(await register("10.0.0.1", "1"), 201)
    assert body(await register("10.0.0.2", "1"), 201)["miner_id"] != mine["miner_id"]
    assert body(await register("10.0.0.1", "1"), 201) == mine
    problem(await register("10.0.0.1", "1", name="other"), 422, "Idempotency-Key")
    # One that nobody comes upon is good from anywhere: addresses change between two attempts.
    secret = str(uuid.uuid4())
    assert body(await register("10.0.0.1", secret), 201) == body(await register("10.0.0.2", secret), 201)


async def test_a_new_lease_is_another_request(world: World) -> None:
    miner, job, _ = await held(world)
    token = (await miner.take(job))["lease_token"]
    key = {"Idempotency-Key": "x"}
    body(await miner.post(f"/jobs/{job}/progress", headers=key | {"Lease-Token": token}))
    problem(await miner.post(f"/jobs/{job}/progress", headers=key | {"Lease-Token": "other"}), 422, "Idempotency-Key")
    problem(await miner.post(f"/jobs/{job}/progress", headers=key), 422, "Idempotency-Key")


async def test_the_natural_repeats_are_safe_without_a_key(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job, cancelled = await client.submit(), await client.submit()
    taken = await miner.take(job)
    assert await miner.take(job) == taken
    body(await miner.upload(job, b"x"))
    body(await miner.upload(job, b"result"))
    digest = "sha256:" + hashlib.sha256(b"result").hexdigest()
    first = body(await miner.complete(job, digest))
    assert body(await miner.complete(job, digest)) == first
    one = body(await client.delete(f"/v1/jobs/{cancelled}"))
    assert body(await client.delete(f"/v1/jobs/{cancelled}")) == one
    assert body(await world.operator.get("/ledger/check"))["sound"]
    assert (await miner.stats())["earnings"] == 0.05


async def test_a_heartbeat_under_a_key_counts_what_fits(world: World) -> None:
    client, miner = await world.client(), await world.register()
    await client.submit()
    beat = await miner.post("/heartbeat", headers={"Idempotency-Key": "x"})
    assert body(beat) == {
        "status": "ok", "jobs_assigned": 0, "queue_length": 1, "miner_status": "active", "stop": [], "leases": [],
    }  # fmt: skip
    assert json.loads(beat.content) == await miner.beat()
