"""Who watches at one coordinator is told of what happens at another."""

import asyncio

from tests.coordinators.conftest import Pair, at
from tests.http.exchange import body
from tests.http.streams import watching


async def test_a_job_is_followed_where_it_was_not_submitted_and_not_worked_on(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    job = await client.submit()
    async with watching(pair.b, client, f"/v1/jobs/{job}/events") as stream:
        await stream.until("job", status="queued")
        await miner.take(job)
        await stream.until("job", status="assigned")
        body(await miner.post(f"/jobs/{job}/progress", json={"output": "here"}))
        seen = await stream.until("output", text="here")
    body(await miner.post(f"/jobs/{job}/progress", json={"output": " and there", "output_offset": 4}))
    # It goes on at the other one, where the first one was left.
    async with watching(pair.a, client, f"/v1/jobs/{job}/events", after=seen.id) as stream:
        await stream.until("output", text=" and there", offset=4)
        body(await at(pair.b, miner).complete(job))
        await stream.until("job", status="completed")


async def test_an_account_hears_of_all_of_it_and_goes_on_at_the_other_coordinator(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    path = "/v1/account/events"
    async with watching(pair.a, client, path) as here, watching(pair.b, client, path) as there:
        pair.a.clock.now += 10
        one = await client.submit()
        seen = await here.until("job", job_id=one)
        await there.until("job", job_id=one)
        two = await at(pair.b, client).submit()
        await here.until("job", job_id=two)
    async with watching(pair.b, client, path, after=seen.id) as stream:
        assert (await stream.until("sync")).data == {"resumed": True}
        await stream.until("job", job_id=two)
    async with watching(pair.b, miner, path) as stream, watching(pair.b, pair.a.operator, path) as operator:
        await stream.next(), await operator.next()
        body(await miner.put(json={"payout_destination": "a bank"}))
        await miner.take(one)
        body(await miner.complete(one))
        payout = body(await miner.post("/payouts"), 201)["payout_id"]
        await stream.until("payout", payout_id=payout)
        await operator.until("payout", payout_id=payout)
        body(await pair.a.operator.post(f"/miners/{miner.id}/suspend"))
        await operator.until("miner", miner_id=miner.id, status="suspended")


async def test_who_may_have_missed_something_is_told_to_begin_anew(pair: Pair) -> None:
    client = await pair.a.client()
    job = await client.submit()
    path = "/v1/account/events"
    async with watching(pair.b, client, path) as stream, watching(pair.b, client, f"/v1/jobs/{job}/events") as one:
        begun = await stream.until("sync")
        last = await client.submit()
        await stream.until("job", job_id=last)
        await one.until("job", status="queued")
        pair.b.application.coordinator.on_gap()
        assert await stream.rest() == []
        # Who looks at the database itself misses nothing.
        body(await at(pair.b, client).delete(f"/v1/jobs/{job}"))
        await one.until("job", status="cancelled")
    pair.a.clock.now += 1
    async with watching(pair.b, client, path, after=begun.id, query="wait=0") as stream:
        assert (await stream.until("sync")).data == {"resumed": False}


async def test_a_miner_that_listens_here_hears_what_was_decided_there(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    job = await client.submit()
    await miner.take(job)
    known = body(await at(pair.b, miner).get("/orders"))["version"]
    call = asyncio.create_task(at(pair.b, miner).get("/orders", params={"wait": 60, "after": known}))
    await asyncio.sleep(0)
    body(await client.delete(f"/v1/jobs/{job}"))
    heard = body(await asyncio.wait_for(call, 10))
    assert heard["stop"] == [{"job_id": job, "reason": "cancelled"}]
    call = asyncio.create_task(at(pair.b, miner).get("/orders", params={"wait": 60, "after": heard["version"]}))
    await asyncio.sleep(0)
    body(await pair.a.operator.post(f"/miners/{miner.id}/suspend"))
    assert body(await asyncio.wait_for(call, 10))["miner_status"] == "suspended"
