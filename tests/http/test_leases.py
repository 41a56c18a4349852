"""Accepting, and how a lease goes on or ends: renewal, lapse, back-off, failure, hand-back, cancellation, outages."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from tests.http.exchange import World, body, hash_of, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


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
        await world.later(100)
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
