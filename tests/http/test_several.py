"""Faults that are impossible over several coordinators too: whoever is asked, and whoever dies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.exchange import HASH, JOB, Clock, body, hash_of, problem
from tests.http.receipts import facts_of, keys_of
from tests.http.several import Several, at, caller
from tests.http.test_input_files import cut_off
from tests.postgres import Server

TTL = 120


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def several(postgres: Server, tmp_path: Path, clock: Clock) -> Iterator[Several]:
    """None is open yet."""
    with postgres.lent() as name:
        yield Several(postgres.url(name), tmp_path, clock)


@pytest.fixture
async def three(several: Several) -> AsyncIterator[Several]:
    """Three of them."""
    async with contextlib.AsyncExitStack() as stack:
        for name in ("a", "b", "c"):
            await stack.enter_async_context(several.serving(name))
        yield several


async def test_fault_03_two_holders(three: Several) -> None:
    """Miners at every coordinator reach for the same jobs at once: each job has one holder, and one attempt."""
    first = three.faces[0]
    client = await first.client()
    made = [await first.miner(price_per_hour=0) for _ in range(6)]
    miners = [at(three.faces[number % 3], miner) for number, miner in enumerate(made)]
    for _ in range(5):
        job = await client.submit()
        answers = await asyncio.gather(*(miner.accept(job) for miner in miners))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
        (holder,) = [made[n].id for n, answer in enumerate(answers) if answer.status_code == 200]
        assert (await client.job(job)).items() >= {"miner_id": holder, "attempts": 1}.items()


async def test_fault_05_completing_at_all_of_them_at_once(three: Several) -> None:
    """It is one completion, one payment and one receipt, whoever is asked."""
    first = three.faces[0]
    client, miner = await first.client(1), await first.miner()
    keys = await keys_of(first)
    job = await client.submit()
    await miner.take(job)
    answers = await asyncio.gather(*(at(face, miner).complete(job, HASH) for face in three.faces * 3))
    facts = [facts_of(answer, keys) for answer in answers]
    assert facts == facts[:1] * 9
    assert body(answers[0])["earned"] == 0.05
    assert await client.balance() == (0.95, 0)
    assert (await miner.stats())["earnings"] == 0.05


async def test_one_outcome_where_everybody_wants_another(three: Several) -> None:
    """Complete, fail, hand back and cancel come at once, at different coordinators: the money goes one way, once."""
    one, two, other = three.faces
    client, miner = await one.client(100), await one.miner(max_concurrent=100)
    for _ in range(10):
        job = await client.submit(max_attempts=1)
        await miner.take(job)
        await asyncio.gather(
            at(one, miner).complete(job, HASH),
            at(two, miner).fail(job),
            at(other, miner).release(job),
            caller(two, client).delete(f"/v1/jobs/{job}"),
        )
        view = await client.job(job)
        if view["status"] == "queued":
            view = body(await client.delete(f"/v1/jobs/{job}"))
        assert view["status"] in ("completed", "failed", "cancelled")
    checked = (await other.operator.get("/ledger/check")).text.splitlines()[-1]
    assert '"sound":true' in checked
    spendable, held = await client.balance()
    assert held == 0
    assert round(spendable + (await miner.stats())["earnings"], 6) == 100


async def test_fault_14_money_is_spent_once(three: Several) -> None:
    """A client with credit for ten jobs who asks everywhere at once has ten."""
    client = await three.faces[0].client(0.5)
    asked = [caller(face, client).post("/v1/jobs", json=JOB) for face in three.faces for _ in range(10)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [402] * 20
    assert await client.balance() == (0, 0.5)


async def test_an_idempotency_key_acts_once(three: Several) -> None:
    client = await three.faces[0].client()
    once = {"Idempotency-Key": "order-1"}
    asked = [caller(face, client).post("/v1/jobs", json=JOB, headers=once) for face in three.faces * 4]
    answers = await asyncio.gather(*asked)
    assert len({body(answer, 201)["job_id"] for answer in answers}) == 1
    assert len(body(await client.get("/v1/jobs"))["jobs"]) == 1


async def test_fault_19_an_old_holder_writes_last(three: Several, clock: Clock) -> None:
    """Every write under a lease is refused at every coordinator once a later lease exists, whichever gave that."""
    one, two, _ = three.faces
    client, old, new = await one.client(), await one.miner(), at(two, await two.miner())
    job = await client.submit()
    fence = {"Lease-Token": (await old.take(job))["lease_token"]}
    body(await old.upload(job, b"old bytes"))
    for _ in range(TTL // 5 + 1):
        clock.now += 5
        await three.look_after()
    for miner in (old, new):
        await miner.beat()
    await new.take(job)
    body(await new.upload(job, b"new bytes"))

    async def refused() -> None:
        calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("POST", "accept", {}),
            ("PUT", "result", {"content": b"old bytes again"}),
            ("POST", "progress", {"json": {"fraction": 1}}),
            ("POST", "complete", {"json": {"result_hash": hash_of(b"old bytes")}}),
            ("POST", "fail", {"json": {"kind": "bad_input"}}),
            ("POST", "release", {}),
        )
        for face in three.faces:
            for method, call, sent in calls:
                problem(await at(face, old).call(method, f"/jobs/{job}/{call}", headers=fence, **sent), 409)

    await refused()
    assert (await client.job(job)).items() >= {"status": "uploading", "miner_id": new.id, "attempts": 2}.items()
    body(await new.release(job))
    await refused()
    await new.take(job)
    body(await new.upload(job, b"new bytes"))
    body(await new.complete(job, hash_of(b"new bytes")))
    await refused()
    assert (await client.get(f"/v1/jobs/{job}/result")).content == b"new bytes"
    assert (await old.stats())["earnings"] == 0


async def test_an_outage_of_all_lapses_no_lease(several: Several, clock: Clock) -> None:
    """It does not matter which of them comes back first, nor how long all were away."""
    async with several.serving("a") as one, several.serving("b"):
        client, miner = await one.client(), await one.miner()
        job = await client.submit(timeout=600)
        token = (await miner.take(job))["lease_token"]
        clock.now += 5
        await several.look_after()
    clock.now += 100_000
    async with several.serving("b") as other:
        await several.look_after()
        (lease,) = (await at(other, miner).beat())["leases"]
        assert lease["expires_in"] == TTL
        async with several.serving("a") as one:
            await several.look_after()
            client = type(client)(one.http, client.key, client.base, client.id)
            assert (await client.job(job)).items() >= {"status": "assigned", "attempts": 1}.items()
            body(await at(one, miner).complete(job, HASH, token))
            assert await client.balance() == (99.95, 0)


async def test_while_one_is_up_the_others_outage_holds_up_no_lapse(several: Several, clock: Clock) -> None:
    """Fault 4, where the coordinator that gave the lease is gone as well: another one sees to it."""
    async with several.serving("b") as other:
        async with several.serving("a") as one:
            client, miner = await one.client(), await one.miner()
            job = await client.submit()
            await miner.take(job)
        for _ in range(TTL // 5 + 1):
            clock.now += 5
            await several.look_after()
        view = body(await caller(other, client).get(f"/v1/jobs/{job}"))
        assert view.items() >= {"status": "queued", "attempts": 1}.items()
        body(await at(other, await other.miner()).accept(job))


async def test_a_revoked_key_opens_no_door(three: Several) -> None:
    """Fault 1: it was in the memory of all of them, and ends everywhere within moments."""
    one, *others = three.faces
    client = await one.client()
    for face in three.faces:
        body(await caller(face, client).get("/v1/clients/me"))
    body(await one.operator.delete(f"/accounts/{client.id}/keys"))
    problem(await client.get("/v1/clients/me"), 401)
    for face in others:
        for _ in range(500):
            answer = await caller(face, client).get("/v1/clients/me")
            if answer.status_code == 401:
                break
            await asyncio.sleep(0.01)
        problem(answer, 401)


async def test_an_input_file_is_gone_on_with_named_and_read_at_whichever_coordinator(three: Several) -> None:
    """Its upload breaks off at one, ends at another; it is named at the third, and read by the holder at each."""
    one, two, other = three.faces
    client, miner = await one.client(), await one.miner()
    content = b"".join(bytes([n]) * 1_000_000 for n in range(4))
    path = "/v1/files/" + hash_of(content).removeprefix("sha256:")

    await cut_off(three.applications[0], client, path, content[:2_000_000])
    assert body(await caller(two, client).get(path + "/upload"))["upload_offset"] == 2_000_000
    rest = {"Upload-Offset": "2000000"}
    body(await caller(two, client).put(path, content=content[2_000_000:], headers=rest))
    named = {"input_files": [{"name": "in", "sha256": path.rpartition("/")[2]}]}
    job = body(await caller(other, client).post("/v1/jobs", json=JOB | named), 201)["job_id"]
    problem(await client.delete(path), 409)
    await at(two, miner).take(job)
    for face in three.faces:
        answer = await at(face, miner).get(f"/jobs/{job}/files/{path.rpartition('/')[2]}")
        assert answer.content == content
    # Of a client that names it while another call deletes it, one is told no; a job never names what is gone.
    for number in range(10):
        small = b"small %d" % number
        path = "/v1/files/" + hash_of(small).removeprefix("sha256:")
        body(await client.put(path, content=small))
        named = {"input_files": [{"name": "in", "sha256": path.rpartition("/")[2]}]}
        submitted, deleted = await asyncio.gather(
            caller(two, client).post("/v1/jobs", json=JOB | named), caller(other, client).delete(path)
        )
        assert (submitted.status_code, deleted.status_code) in {(201, 409), (422, 200)}
        assert (await client.get(path)).status_code == (200 if submitted.status_code == 201 else 404)
