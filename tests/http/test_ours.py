"""What the fixed part leaves open, as this exchange decides it: enrolment, matching, leases, waiting."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from tests.http.exchange import HASH, OTHER_HASH, Api, Miner, World, body, hash_of, parked, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


# -- enrolment, and the states of a miner


async def test_open_enrollment_admits_with_the_first_heartbeat(world: World) -> None:
    client, miner = await world.client(), await world.register()
    job = await client.submit()
    assert await miner.status() == "pending"
    assert await miner.offered() == []
    problem(await miner.accept(job), 409)
    assert (await miner.beat())["miner_status"] == "active"
    assert await miner.offered() == [job]


async def test_enrollment_by_approval(open_world: OpenWorld) -> None:
    async with open_world(enrollment="approval") as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        assert await miner.status() == "pending"
        assert await miner.offered() == []
        problem(await miner.accept(job), 409)
        assert body(await world.operator.post(f"/miners/{miner.id}/approve"))["status"] == "active"
        # It need not wait for its next heartbeat.
        assert await miner.offered() == [job]
        assert (await miner.beat())["miner_status"] == "active"


async def test_enrollment_by_token(open_world: OpenWorld) -> None:
    async with open_world(enrollment="token") as world:
        registration = {
            "name": "m", "gpu_type": "v100", "gpu_count": 1, "location": "", "price_per_hour": 0, "max_concurrent": 1,
        }  # fmt: skip

        async def register(token: Any) -> httpx.Response:
            return await world.http.post("/v1/miners", json=registration | {"enrollment_token": token})

        made = body(await world.operator.post("/enrollment-tokens", json={"uses": 2, "expires_in": 60}), 201)
        token = made["enrollment_token"]
        assert made["uses"] == 2
        assert made["expires_at"] == world.clock.now + 60
        problem(await world.http.post("/v1/miners", json=registration), 403)
        problem(await register("enroll_nonsense"), 403)
        problem(await register(None), 403)
        # A registration that is refused for another fault does not use the token up.
        problem(await world.http.post("/v1/miners", json={"enrollment_token": token}), 422, *registration)
        registered = [body(await register(token), 201) for _ in range(2)]
        problem(await register(token), 403)
        miner = Miner(world.http, registered[0]["api_key"], f"/v1/miners/{registered[0]['miner_id']}")
        assert (await miner.beat())["miner_status"] == "active"

        second = body(await world.operator.post("/enrollment-tokens", json={"expires_in": 60}), 201)
        assert second["uses"] == 1
        await world.later(60)
        problem(await register(second["enrollment_token"]), 403)


async def test_draining_finishes_and_takes_nothing_new(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    held, queued = await client.submit(), await client.submit()
    await miner.take(held)
    assert body(await miner.put(json={"draining": True}))["status"] == "draining"
    assert await miner.offered() == []
    assert (await miner.beat()).items() >= {"miner_status": "draining", "jobs_assigned": 1, "queue_length": 0}.items()
    problem(await miner.accept(queued), 409)
    body(await miner.complete(held))
    assert body(await miner.put(json={"draining": False}))["status"] == "active"
    assert await miner.offered() == [queued]


async def test_suspended_finishes_and_takes_nothing_new(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    held, queued = await client.submit(), await client.submit()
    await miner.take(held)
    assert body(await world.operator.post(f"/miners/{miner.id}/suspend"))["status"] == "suspended"
    assert (await miner.beat()).items() >= {"miner_status": "suspended", "queue_length": 0}.items()
    assert await miner.offered() == []
    problem(await miner.accept(queued), 409)
    assert body(await miner.complete(held))["earned"] == 0.05
    assert body(await world.operator.post(f"/miners/{miner.id}/approve"))["status"] == "active"
    assert await miner.offered() == [queued]


async def test_offline_after_silence_and_back_with_a_heartbeat(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await world.later(179)
    assert await miner.status() == "active"
    await world.later(1)
    assert await miner.status() == "offline"
    assert await miner.offered() == []
    problem(await miner.accept(job), 409)
    assert (await miner.beat())["miner_status"] == "active"
    assert await miner.offered() == [job]


async def test_retired_is_for_good(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    retire = f"/miners/{miner.id}/retire"
    retired = body(await world.operator.post(retire))
    assert retired["status"] == "retired"
    assert body(await world.operator.post(retire)) == retired
    problem(await miner.post("/heartbeat"), 401)
    # What it held is another's at once, and no attempt has failed.
    assert await other.offered() == [job]
    assert (await client.job(job))["status"] == "queued"
    for call in ("approve", "suspend"):
        problem(await world.operator.post(f"/miners/{miner.id}/{call}"), 409)
    for method in ("POST", "DELETE"):
        problem(await world.operator.call(method, f"/accounts/{miner.id}/keys"), 409)


# -- who is offered what


@pytest.mark.parametrize(
    ("miner", "job", "fits"),
    [
        ({"gpu_type": "A100"}, {"gpu_type": "a100"}, True),
        ({"gpu_type": "a100"}, {"gpu_type": "A100"}, True),
        ({"gpu_type": "a100"}, {"gpu_type": "v100"}, False),
        ({"gpu_type": "a100"}, {"gpu_type": "a100-80gb"}, False),
        ({"gpu_type": "a100"}, {"gpu_type": "any"}, True),
        ({"gpu_type": "a100"}, {"gpu_type": "ANY"}, True),
        ({"gpu_type": "cpu"}, {"gpu_type": "any"}, True),
        ({"gpu_type": "cpu", "gpu_count": 4}, {"gpu_type": "CPU", "gpu_count": 4}, True),
        ({"gpu_count": 2}, {"gpu_count": 2}, True),
        ({"gpu_count": 2}, {"gpu_count": 1}, True),
        ({"gpu_count": 2}, {"gpu_count": 3}, False),
        ({}, {"model": "anything"}, True),
        ({"models": ["gpt2", "llama"]}, {"model": "gpt2"}, True),
        ({"models": ["llama"]}, {"model": "gpt2"}, False),
        ({"models": ["GPT2"]}, {"model": "gpt2"}, False),
        ({"models": []}, {"model": "gpt2"}, False),
        # price >= price_per_hour * gpu_count * estimated_time / 3600
        ({"price_per_hour": 0.3}, {"price": 0.05, "estimated_time": 600}, True),
        ({"price_per_hour": 0.300001}, {"price": 0.05, "estimated_time": 600}, False),
        ({"price_per_hour": 0.3}, {"price": 0.049999, "estimated_time": 600}, False),
        ({"price_per_hour": 3.6, "gpu_count": 8}, {"price": 0.004, "gpu_count": 4, "estimated_time": 1}, True),
        ({"price_per_hour": 3.6, "gpu_count": 8}, {"price": 0.003999, "gpu_count": 4, "estimated_time": 1}, False),
        ({"price_per_hour": 0.1}, {"price": 0.000028, "estimated_time": 1}, True),  # 0.0000277…
        ({"price_per_hour": 0.1}, {"price": 0.000027, "estimated_time": 1}, False),
        ({"price_per_hour": 0}, {"price": 0}, True),
        ({"price_per_hour": 0.000001}, {"price": 0}, False),
    ],
)
async def test_matching(world: World, miner: dict[str, Any], job: dict[str, Any], fits: bool) -> None:
    client, party = await world.client(), await world.miner(**{"price_per_hour": 0} | miner)
    name = await client.submit(**job)
    assert await party.offered() == ([name] if fits else [])
    assert (await party.beat())["queue_length"] == int(fits)
    answer = await party.accept(name)
    if fits:
        assert body(answer)["job_id"] == name
    else:
        problem(answer, 409)


async def test_listing_models_anew(world: World) -> None:
    client, miner = await world.client(), await world.miner(models=["llama"])
    job = await client.submit()
    assert await miner.offered() == []
    assert body(await miner.put(json={"models": ["gpt2"]}))["models"] == ["gpt2"]
    assert await miner.offered() == [job]
    body(await miner.put(json={"name": "still the same models"}))
    assert await miner.offered() == [job]
    assert body(await miner.put(json={"models": None}))["models"] is None
    assert await miner.offered() == [job]


async def test_the_order_is_priority_then_age(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    jobs = [await client.submit(priority=p, model=f"m{i}") for i, p in enumerate([0, 5, 0, -1, 5])]
    assert await miner.offered() == [jobs[i] for i in (1, 4, 0, 2, 3)]
    assert await miner.offered(limit=2) == [jobs[1], jobs[4]]


async def test_max_concurrent_bounds_what_it_holds(world: World) -> None:
    client, miner = await world.client(), await world.miner(max_concurrent=2)
    jobs = [await client.submit() for _ in range(3)]
    await miner.take(jobs[0])
    await miner.take(jobs[1])
    assert await miner.offered() == []
    assert (await miner.beat()).items() >= {"jobs_assigned": 2, "queue_length": 0}.items()
    problem(await miner.accept(jobs[2]), 409)
    body(await miner.complete(jobs[0]))
    assert await miner.offered() == [jobs[2]]


# -- accepting and leases


async def test_accepting_again_gives_the_same(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    first = await miner.take(job)
    assert await miner.take(job) == first
    problem(await other.accept(job), 409)
    assert (await client.job(job))["attempts"] == 1


@pytest.mark.parametrize("state", ["at its limit", "draining", "suspended"])
async def test_the_holder_gets_the_same_whatever_else_it_may_not_take(world: World, state: str) -> None:
    """A lost answer costs nothing: the job is its own, and repeating takes no new one."""
    client, miner = await world.client(), await world.miner(max_concurrent=1)
    job = await client.submit()
    first = await miner.take(job)
    match state:
        case "draining":
            body(await miner.put(json={"draining": True}))
        case "suspended":
            body(await world.operator.post(f"/miners/{miner.id}/suspend"))
    assert await miner.take(job) == first
    problem(await miner.accept(await client.submit()), 409)


async def test_accepting_under_a_lease(world: World) -> None:
    """One who names an older lease is told so, rather than handed a newer one that it does not expect."""
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit(max_attempts=9)
    first = await miner.take(job)
    assert body(await miner.accept(job, first["lease_token"])) == first
    problem(await miner.accept(job, "lease_unknown"), 409)
    problem(await other.accept(job, first["lease_token"]), 409)
    await world.later(120)
    await miner.beat()
    # Nobody has taken it since: its own lease is still the last.
    second = body(await miner.accept(job, first["lease_token"]))
    assert (second["attempt"], second["lease_token"] != first["lease_token"]) == (2, True)
    for _ in range(2):
        problem(await miner.accept(job, first["lease_token"]), 409)
        assert body(await miner.accept(job, second["lease_token"])) == second
    assert body(await miner.accept(job)) == second


async def test_heartbeats_renew_all_or_the_named(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    one, two = await client.submit(), await client.submit()
    await miner.take(one)
    await miner.take(two)
    await world.later(100)
    leases = (await miner.beat())["leases"]
    assert sorted((lease["job_id"], lease["expires_in"]) for lease in leases) == sorted([(one, 120), (two, 120)])
    await world.later(100)
    leases = (await miner.beat(one))["leases"]
    assert {lease["job_id"]: lease["expires_in"] for lease in leases} == {one: 120, two: 20}
    await world.later(20)
    assert (await client.job(one))["status"] == "assigned"
    assert (await client.job(two))["status"] == "queued"
    answer = await miner.beat(one, two)
    assert answer["jobs_assigned"] == 1
    assert answer["stop"] == [{"job_id": two, "reason": "lost"}]


async def test_a_lapse_counts_and_the_last_one_gives_the_money_back(world: World) -> None:
    client, miner = await world.client(1), await world.miner()
    job = await client.submit(max_attempts=2, price=0.4)
    assert await client.balance() == (0.6, 0.4)
    await miner.take(job)
    await world.later(119)
    assert (await client.job(job))["status"] == "assigned"
    await world.later(1)
    assert (await client.job(job)).items() >= {"status": "queued", "attempts": 1, "miner_id": None}.items()
    assert await client.balance() == (0.6, 0.4)
    assert (await miner.beat(job))["stop"] == [{"job_id": job, "reason": "lost"}]
    # Where it failed it is not offered at once, but whoever asks for it by name may have it.
    assert await miner.offered() == []
    assert (await miner.take(job))["attempt"] == 2
    assert (await miner.beat(job))["stop"] == []
    await world.later(120)
    failed = await client.job(job)
    assert failed["status"] == "failed"
    assert failed["failure"]["kind"] == "lapsed"
    assert await client.balance() == (1, 0)
    assert (await world.ledger())["escrow"] == 0
    assert (await miner.stats()).items() >= {"total_jobs": 2, "success_rate": 0, "earnings": 0}.items()


async def test_back_off_begins_with_the_second_failure(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit(max_attempts=9)
    await miner.take(job)
    assert body(await miner.fail(job))["status"] == "queued"
    assert await other.offered() == [job]
    await other.take(job)
    body(await other.fail(job))
    third = await world.miner()
    assert await other.offered() == await miner.offered() == await third.offered() == []
    # Nor is it counted among those that could be taken now.
    assert (await third.beat())["queue_length"] == 0
    problem(await miner.accept(job), 409)
    await world.later(5)
    assert (await third.beat())["queue_length"] == 1
    await miner.take(job)


@pytest.mark.parametrize(("kind", "status"), [("error", "queued"), ("bad_input", "failed"), ("rejected", "failed")])
async def test_failing(world: World, kind: str, status: str) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    for _ in range(2):  # repeating it changes nothing
        assert body(await miner.fail(job, kind)) == {"job_id": job, "status": status}
    problem(await miner.complete(job), 409)
    assert (await client.job(job))["status"] == status
    assert await client.balance() == ((100, 0) if status == "failed" else (99.95, 0.05))
    assert (await miner.stats()).items() >= {"total_jobs": 1, "success_rate": 0, "earnings": 0}.items()


async def test_handing_back_counts_no_failure(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit(max_attempts=1)
    await miner.take(job)
    for _ in range(2):
        assert body(await miner.release(job)) == {"job_id": job, "status": "queued"}
    assert await miner.offered() == []
    assert await other.offered() == [job]
    assert (await miner.stats())["total_jobs"] == 0
    assert (await other.take(job))["attempt"] == 2


async def test_an_outage_counts_against_no_lease(open_world: OpenWorld) -> None:
    async with open_world() as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit(timeout=1000)
        lease = await miner.take(job)
        world.clock.now += 100
    world.clock.now += 10_000
    async with open_world() as again:
        for party in (client, miner):
            party.http = again.http
        await again.later(19)
        assert (await client.job(job))["status"] == "assigned"
        assert await miner.status() == "active"
        assert await miner.take(job) == lease | {
            "lease_expires_at": lease["lease_expires_at"] + 10_000, "lease_expires_in": 1, "attempt_expires_in": 881,
        }  # fmt: skip
        await again.later(1)
        assert (await client.job(job))["status"] == "queued"


async def test_work_goes_on_after_a_restart(open_world: OpenWorld) -> None:
    async with open_world() as world:
        client, miner = await world.client(), await world.miner()
        held, waiting = await client.submit(), await client.submit(priority=-1)
        token = (await miner.take(held))["lease_token"]
        body(await miner.upload(held, b"bytes", token))
    async with open_world() as again:
        for party in (client, miner):
            party.http = again.http
        assert await miner.offered() == [waiting]
        assert body(await miner.complete(held, hash_of(b"bytes"), token))["earned"] == 0.05
        assert (await client.get(f"/v1/jobs/{held}/result")).content == b"bytes"


# -- completing


async def test_completing_twice(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    token = (await miner.take(job))["lease_token"]
    first = body(await miner.complete(job, token=token, gpu_time_seconds=1))
    await world.later(1000)
    for sent in (token, None):
        assert body(await miner.complete(job, token=sent)) == first
        problem(await miner.complete(job, OTHER_HASH, sent), 409)
    assert (await miner.stats()).items() >= {"total_jobs": 1, "earnings": 0.05}.items()
    assert await client.balance() == (99.95, 0)
    assert first["receipt"].items() >= {
        "job_id": job, "miner_id": miner.id, "attempt": 1, "result_hash": HASH, "amount": 0.05,
    }.items()  # fmt: skip


@pytest.mark.parametrize("with_token", [True, False])
async def test_a_late_complete_is_paid_while_nobody_has_the_job(world: World, with_token: bool) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    token = (await miner.take(job))["lease_token"]
    await world.later(1000)
    assert (await client.job(job))["status"] == "queued"
    answer = body(await miner.complete(job, token=token if with_token else None))
    assert answer["earned"] == 0.05
    assert body(await miner.complete(job)) == answer
    assert (await miner.stats()).items() >= {"total_jobs": 1, "success_rate": 1, "earnings": 0.05}.items()
    assert (await client.job(job)).items() >= {"status": "completed", "miner_id": miner.id}.items()


@pytest.mark.parametrize("with_token", [True, False])
@pytest.mark.parametrize("done", [True, False])
async def test_a_late_complete_is_refused_once_another_has_the_job(world: World, with_token: bool, done: bool) -> None:
    client, slow, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    lease = await slow.take(job)
    token: str | None = lease["lease_token"] if with_token else None
    await world.later(120)
    await other.beat()
    await other.take(job)
    if done:
        body(await other.complete(job, OTHER_HASH))
    problem(await slow.complete(job, token=token), 409)
    problem(await slow.fail(job, token=token), 409)
    problem(await slow.upload(job, b"late", token), 409)
    problem(await slow.post(f"/jobs/{job}/progress", headers={} if token is None else {"Lease-Token": token}), 409)
    assert (await slow.stats())["earnings"] == 0
    if not done:
        body(await other.complete(job, OTHER_HASH))
    assert (await other.stats())["earnings"] == 0.05
    assert (await client.job(job))["result_hash"] == OTHER_HASH


async def test_a_lease_token_fences_also_within_one_miner(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    old = (await miner.take(job))["lease_token"]
    await world.later(120)
    await miner.beat()
    new = (await miner.take(job))["lease_token"]
    assert new != old
    problem(await miner.upload(job, b"old", old), 409)
    problem(await miner.complete(job, token=old), 409)
    problem(await miner.complete(job, token="lease_unknown"), 409)
    body(await miner.complete(job, token=new))


async def test_a_late_complete_is_refused_once_the_job_has_failed(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(max_attempts=1)
    await miner.take(job)
    await world.later(120)
    problem(await miner.complete(job), 409)
    assert (await client.job(job))["status"] == "failed"
    assert await client.balance() == (100, 0)


async def test_a_job_that_it_completed_is_not_called_lost(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    late, again = await client.submit(), await client.submit()
    for job in (late, again):
        await miner.take(job)
    await world.later(120)
    assert {stop["job_id"] for stop in (await miner.beat())["stop"]} == {late, again}
    body(await miner.complete(late))
    await miner.take(again)
    body(await miner.complete(again))
    assert (await miner.beat())["stop"] == []
    # Nor where the answer to its complete was lost, and it still names the job.
    assert (await miner.beat(late, again))["stop"] == []


# -- cancelling and expiring


async def test_the_holder_is_told_of_a_cancellation(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    cancelled = body(await client.delete(f"/v1/jobs/{job}"))
    assert cancelled["status"] == "cancelled"
    assert body(await client.delete(f"/v1/jobs/{job}")) == cancelled
    assert await client.balance() == (100, 0)
    for named in ((), (job,)):
        answer = await miner.beat(*named)
        assert answer["stop"] == [{"job_id": job, "reason": "cancelled"}]
        assert answer["jobs_assigned"] == 0
    problem(await miner.complete(job), 409)
    problem(await miner.upload(job, b"x"), 409)
    assert (await miner.stats()).items() >= {"total_jobs": 0, "earnings": 0}.items()


async def test_cancelling_a_queued_or_a_finished_job(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    queued, done = await client.submit(), await client.submit()
    body(await client.delete(f"/v1/jobs/{queued}"))
    assert await miner.offered() == [done]
    problem(await miner.accept(queued), 409)
    await miner.take(done)
    body(await miner.complete(done))
    problem(await client.delete(f"/v1/jobs/{done}"), 409)
    assert await client.balance() == (99.95, 0)


async def test_a_timeout_expires_the_job(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    queued, held = await client.submit(timeout=50), await client.submit(timeout=50)
    lease = await miner.take(held)
    assert (lease["lease_expires_in"], lease["attempt_expires_in"]) == (50, 50)
    await world.later(49)
    await miner.beat()
    assert (await client.job(held))["status"] == "assigned"
    await world.later(1)
    for job in (queued, held):
        assert (await client.job(job))["status"] == "expired"
    assert await client.balance() == (100, 0)
    assert (await miner.beat())["stop"] == [{"job_id": held, "reason": "expired"}]
    problem(await miner.complete(held), 409)


async def test_an_attempt_timeout_ends_the_attempt_whatever_is_renewed(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(attempt_timeout=150, timeout=1000)
    assert (await miner.take(job))["attempt_expires_in"] == 150
    await world.later(100)
    assert (await miner.beat())["leases"] == [{"job_id": job, "expires_in": 50}]
    await world.later(50)
    assert (await client.job(job))["status"] == "queued"


# -- waiting


async def test_waiting_for_an_offer_ends_with_the_first_that_fits(world: World) -> None:
    client, miner = await world.client(), await world.miner(models=["gpt2"])
    waiting = asyncio.create_task(miner.offered(wait=60))
    await parked(waiting)
    await client.submit(model="another")
    await client.submit(gpu_type="a100")
    await parked(waiting)
    async with asyncio.timeout(10):
        job = await client.submit()
        assert await waiting == [job]


async def test_waiting_for_an_offer_ends_when_another_hands_back(world: World) -> None:
    client, holder, miner = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    await holder.take(job)
    waiting = asyncio.create_task(miner.offered(wait=60))
    await parked(waiting)
    async with asyncio.timeout(10):
        body(await holder.release(job))
        assert await waiting == [job]


async def test_waiting_for_an_offer_ends_when_back_off_does(world: World) -> None:
    client, one, two = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    for miner in (one, two):
        await miner.take(job)
        body(await miner.fail(job))
    third = await world.miner()
    waiting = asyncio.create_task(third.offered(wait=60))
    await parked(waiting)
    async with asyncio.timeout(10):
        await world.later(5)
        assert await waiting == [job]


async def test_waiting_ends_without_anything_too(roomy: Api) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="nothing-comes")
    job = await client.submit(gpu_type="nobody-has-it")
    begun = time.monotonic()
    offered, seen = await asyncio.gather(miner.offered(wait=0.2), client.get(f"/v1/jobs/{job}?wait=0.2"))
    assert 0.2 <= time.monotonic() - begun < 5
    assert offered == []
    assert body(seen)["status"] == "queued"


@pytest.mark.parametrize("end", ["complete", "cancel", "fail", "expire"])
async def test_waiting_for_a_job_to_finish(world: World, end: str) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(timeout=100)
    waiting = asyncio.create_task(client.get(f"/v1/jobs/{job}", params={"wait": 60}))
    await parked(waiting)
    await miner.take(job)
    await parked(waiting)
    async with asyncio.timeout(10):
        match end:
            case "complete":
                body(await miner.complete(job))
            case "cancel":
                body(await client.delete(f"/v1/jobs/{job}"))
            case "fail":
                body(await miner.fail(job, "bad_input"))
            case _:
                await world.later(100)
        status = body(await waiting)["status"]
    assert status == {"complete": "completed", "cancel": "cancelled", "fail": "failed", "expire": "expired"}[end]
    assert body(await client.get(f"/v1/jobs/{job}?wait=60"))["status"] == status


async def test_those_who_wait_are_let_go_at_the_stop(open_world: OpenWorld) -> None:
    async with open_world() as world:
        client, miner = await world.client(), await world.miner(gpu_type="a100")
        job = await client.submit()
        calls = [asyncio.create_task(c) for c in (miner.offered(wait=60), client.get(f"/v1/jobs/{job}?wait=60"))]
        for call in calls:
            await parked(call)
        async with asyncio.timeout(10):
            world.application.coordinator.stop()
            await asyncio.gather(*calls)


async def test_progress_is_shown(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    problem(await miner.post(f"/jobs/{job}/progress"), 409)
    await miner.take(job)
    answer = body(await miner.post(f"/jobs/{job}/progress", json={"fraction": 0.25, "message": "loading"}))
    assert answer == {"job_id": job, "status": "running"}
    assert (await client.job(job)).items() >= {"progress": 0.25, "progress_message": "loading"}.items()
    problem(await miner.post(f"/jobs/{job}/progress", json={"fraction": 1.1}), 422, "fraction")
