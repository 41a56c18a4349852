"""Statistics by their formulas, and money to the millionth."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

import pytest
from tests.http.exchange import JOB, World, body, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


async def test_stats_by_their_formulas(world: World) -> None:
    client, miner = await world.client(), await world.miner(gpu_count=4, max_concurrent=9)
    jobs = [await client.submit(price=price, gpu_count=2) for price in (0.1, 0.2, 0.3, 0.4, 0.5)]
    for job in jobs:
        await miner.take(job)
    await world.later(100)
    body(await miner.complete(jobs[0], gpu_time_seconds=50))
    body(await miner.complete(jobs[1], gpu_time_seconds=1_000_000))  # at most the 2 GPUs for 100 s
    await miner.beat()
    await world.later(50)
    body(await miner.complete(jobs[2]))  # none reported
    body(await miner.fail(jobs[3]))
    await world.later(70)  # the last one lapses
    assert await miner.stats() == {
        "total_jobs": 5,
        "success_rate": 0.6,
        "average_completion_time": pytest.approx((100 + 100 + 150) / 3, abs=1e-5),
        "earnings": 0.6,
        "earnings_per_gpu_hour": pytest.approx(0.6 / (250 / 3600), abs=1e-5),
    }
    shown = body(await world.operator.get(f"/miners/{miner.id}"))
    assert shown["stats"] == await miner.stats()
    assert shown["jobs_assigned"] == 0


async def test_money_is_exact(world: World) -> None:
    client, miner = await world.client(0), await world.miner(price_per_hour=0, max_concurrent=50)
    for amount in (0.1, 0.2, 0.000001, 1e-6, 99_999_999):
        body(await world.operator.post(f"/clients/{client.id}/credit", json={"amount": amount}))
    account = await client.get("/v1/clients/me")
    assert b'"balance":99999999.300002,' in account.content
    for price in (0.1, 0.2, 0.1 + 0.2, 0.7 * 3, 1.1 * 1.1, 0.000001):
        job = await client.submit(price=price)
        await miner.take(job)
        assert body(await miner.complete(job))["earned"] == round(price, 6)
    for _ in range(30):
        job = await client.submit(price=0.1)
        await miner.take(job)
        body(await miner.complete(job))
    assert b'"earnings":6.910001,' in (await miner.get("/stats")).content
    assert await client.balance() == (99_999_992.390001, 0)
    assert (await world.ledger())["miner"] == Decimal("6.910001")


@pytest.mark.parametrize("price", ["0.0000001", "0.1234567", "1e-7", "100.00000001"])
async def test_nothing_finer_than_a_millionth(world: World, price: str) -> None:
    client, miner = await world.client(), await world.miner()
    job = json.dumps(JOB | {"price": "PRICE"}).replace('"PRICE"', price).encode()
    typed = {"Content-Type": "application/json"}
    problem(await client.post("/v1/jobs", content=job, headers=typed), 422, "price")
    problem(await client.post("/v1/jobs/batch", content=b'{"jobs":[%s]}' % job, headers=typed), 422, "jobs[0].price")
    problem(await miner.put(content=f'{{"price_per_hour":{price}}}'.encode(), headers=typed), 422, "price_per_hour")
    credit = f'{{"amount":{price}}}'.encode()
    problem(await world.operator.post(f"/clients/{client.id}/credit", content=credit, headers=typed), 422, "amount")
    assert await client.balance() == (100, 0)


async def test_the_fee_is_the_operators(open_world: OpenWorld) -> None:
    async with open_world(fee_basis_points=333) as world:
        client, miner = await world.client(10), await world.miner()
        job = await client.submit(price=0.100001)
        await miner.take(job)
        outcome = body(await miner.complete(job))
        # The fee is rounded down to the millionth: 0.00333… of it.
        assert outcome["earned"] == outcome["receipt"]["amount"] == 0.096671
        assert (await miner.stats())["earnings"] == 0.096671
        assert {kind: str(sum) for kind, sum in (await world.ledger()).items()} == {
            "client": "9.899999", "escrow": "0", "fees": "0.00333", "issued": "-10", "miner": "0.096671",
            "payouts": "0",
        }  # fmt: skip


async def test_402_where_the_balance_does_not_cover_it(world: World) -> None:
    client = await world.client(0.1)
    await client.submit(price=0.06)
    problem(await client.post("/v1/jobs", json=JOB | {"price": 0.040001}), 402)
    two = {"jobs": [JOB | {"price": 0.02}, JOB | {"price": 0.020001}]}
    problem(await client.post("/v1/jobs/batch", json=two), 402)
    assert await client.balance() == (0.04, 0.06)
    await client.submit(price=0.04)
    assert await client.balance() == (0, 0.1)
    assert len(body(await client.get("/v1/jobs"))["jobs"]) == 2
