"""Jobs and miners at several coordinators: none of them is special."""

import asyncio
from collections import Counter

from tests.coordinators.conftest import Pair, at, until
from tests.http.exchange import HASH, Client, Miner, body, problem
from tests.http.receipts import facts_of, keys_of


async def test_a_job_that_miners_at_both_accept_at_once_has_one_holder(pair: Pair) -> None:
    client = await pair.a.client()
    jobs = [await client.submit() for _ in range(20)]
    miners = [await world.miner(max_concurrent=20) for world in pair for _ in range(3)]

    async def accept_all(miner: Miner, order: list[str]) -> list[tuple[str, int]]:
        return [(job, (await miner.accept(job)).status_code) for job in order]

    # In opposite orders, so that each holds what the other wants next.
    tried = await asyncio.gather(
        *(accept_all(miner, jobs if number % 2 else jobs[::-1]) for number, miner in enumerate(miners))
    )
    codes = Counter(code for attempts in tried for _, code in attempts)
    assert codes == {200: 20, 409: 100}
    for number, attempts in enumerate(tried):
        mine = [job for job, code in attempts if code == 200]
        assert {lease["job_id"] for lease in (await miners[number].beat())["leases"]} == set(mine)


async def test_no_more_than_it_may_take_at_both_together(pair: Pair) -> None:
    client = await pair.a.client()
    jobs = [await client.submit() for _ in range(10)]
    miner = await pair.a.miner(max_concurrent=3)
    faces = [miner, at(pair.b, miner)]
    answers = await asyncio.gather(*(faces[number % 2].accept(job) for number, job in enumerate(jobs)))
    assert Counter(answer.status_code for answer in answers) == {200: 3, 409: 7}


async def test_a_job_submitted_at_one_wakes_a_miner_that_waits_at_another(pair: Pair) -> None:
    miner = await pair.b.miner()
    waiting = asyncio.create_task(miner.offered(wait=30))
    await until(lambda: _waits(pair))
    job = await (await pair.a.client()).submit()
    async with asyncio.timeout(5):
        assert await waiting == [job]


async def _waits(pair: Pair) -> bool:
    await asyncio.sleep(0)
    return len(pair.b.application.coordinator.waiting) > 0


async def test_a_job_completed_at_one_answers_a_client_that_waits_at_another(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.b.miner()
    job = await client.submit()
    waiting = asyncio.create_task(client.get(f"/v1/jobs/{job}?wait=30"))
    await miner.take(job)
    body(await miner.complete(job))
    async with asyncio.timeout(5):
        assert body(await waiting)["status"] == "completed"


async def test_offers_follow_what_happens_at_the_other(pair: Pair) -> None:
    client, miner, rival = await pair.a.client(), await pair.b.miner(), await pair.a.miner()
    jobs = [await client.submit() for _ in range(3)]

    async def offered(*expected: str) -> bool:
        return await miner.offered() == list(expected)

    await until(lambda: offered(*jobs))
    await rival.take(jobs[0])
    await until(lambda: offered(*jobs[1:]))
    body(await client.delete(f"/v1/jobs/{jobs[1]}"))
    await until(lambda: offered(jobs[2]))
    body(await rival.release(jobs[0]))
    await until(lambda: offered(jobs[0], jobs[2]))
    assert (await miner.beat())["queue_length"] == 2


async def test_an_older_lease_is_fenced_off_at_every_coordinator(pair: Pair) -> None:
    client, first, second = await pair.a.client(), await pair.a.miner(), await pair.b.miner()
    job = await client.submit(max_attempts=5)
    old = (await first.take(job))["lease_token"]
    await pair.later(121)
    new = (await second.take(job))["lease_token"]
    for world in pair:
        late = at(world, first)
        for refused in (
            await late.complete(job, token=old), await late.fail(job, token=old), await late.upload(job, b"x", token=old),
            await late.post(f"/jobs/{job}/progress", json={"fraction": 0.5}, headers={"Lease-Token": old}),
            await late.post(f"/jobs/{job}/release", headers={"Lease-Token": old}),
        ):  # fmt: skip
            problem(refused, 409)
    assert (await client.job(job))["status"] == "assigned"
    body(await at(pair.a, second).complete(job, token=new))
    assert (await pair.b.ledger())["miner"] > 0


async def test_a_completion_is_the_same_at_every_coordinator(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    job = await client.submit()
    await miner.take(job)
    answers = await asyncio.gather(*(at(world, miner).complete(job) for world in pair for _ in range(5)))
    keys = await keys_of(pair.a)
    facts = [facts_of(answer, keys) for answer in answers]
    assert facts == facts[:1] * 10
    problem(await at(pair.b, miner).complete(job, HASH + "1"), 409)
    assert (await at(pair.b, miner).stats())["total_jobs"] == 1


async def test_everything_at_once_leaves_a_ledger_that_balances(pair: Pair) -> None:
    """Clients and miners at both, who meet on the same jobs, accounts and rows in every order."""
    clients = [await pair.a.client(1000) for _ in range(3)]
    miners = [await world.miner(max_concurrent=50) for world in pair for _ in range(2)]
    failed: list[int] = []

    async def client(party: Client, turn: int) -> None:
        for number in range(8):
            job = await at(pair[(turn + number) % 2], party).submit(price=1)
            if number % 4 == 3:
                failed.append((await at(pair[number % 2], party).delete(f"/v1/jobs/{job}")).status_code)

    async def miner(party: Miner, turn: int) -> None:
        for number in range(8):
            face = at(pair[(turn + number) % 2], party)
            for job in await face.offered():
                accepted = await face.accept(job)
                done = await face.complete(job) if number % 3 else await face.fail(job)
                failed.extend(answer.status_code for answer in (accepted, done))
            await face.beat()

    await asyncio.gather(
        *(client(party, turn) for turn, party in enumerate(clients)),
        *(miner(party, turn) for turn, party in enumerate(miners)),
        *(world.application.coordinator.sweep() for world in pair for _ in range(5)),
    )
    assert max(failed) < 500
    assert body(await pair.b.operator.get("/ledger/check"))["sound"]
    for world in pair:
        sums = await world.ledger()
        assert sums["issued"] == -3000


async def test_an_idempotency_key_is_one_at_all_of_them(pair: Pair) -> None:
    client = await pair.a.client()
    job = {"model": "gpt2", "input": 1, "price": 1}
    answers = await asyncio.gather(
        *(
            at(world, client).post("/v1/jobs", json=job, headers={"Idempotency-Key": "k"})
            for world in pair
            for _ in range(4)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert (await client.balance())[1] == 1
