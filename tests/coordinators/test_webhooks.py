"""Of several coordinators one sends each message, and any of them what another recorded."""

import asyncio
import json

from tests.coordinators.conftest import at, until
from tests.http.exchange import Party, body
from tests.http.receiver import receiving


async def test_each_message_is_sent_once_by_whichever_coordinator(coordinator) -> None:  # type: ignore[no-untyped-def]
    near = {"webhooks": {"allowed_networks": "127.0.0.0/8"}}
    async with receiving() as told, coordinator("a", **near) as a, coordinator("b", **near) as b:
        client, miner = await a.client(), await a.miner()
        body(await Party(a.http, client.key).post("/v1/webhooks", json={"url": told.url}), 201)

        async def known() -> bool:
            await asyncio.sleep(0)
            return bool(b.application.coordinator.hooked)

        await until(known)
        jobs = []
        for world in (a, b) * 4:
            job = await client.submit()
            jobs.append(job)
            await miner.take(job)
            body(await at(world, miner).complete(job))
        sent = 0
        while some := sum(await asyncio.gather(a.application.courier.turn(), b.application.courier.turn())):
            sent += some
        assert sent == len(jobs)
        assert sorted(json.loads(one.body)["data"]["job_id"] for one in told.told) == sorted(jobs)
        assert len({one.id for one in told.told}) == len(jobs)
        # A coordinator that died with a message in its hands: another one sends it after its lease.
        job = await client.submit()
        await miner.take(job)
        body(await miner.complete(job))
        from pithead.exchange import webhooks

        assert len(await a.application.coordinator.run(lambda tx, now: webhooks.claim(tx, now, 10))) == 1
        assert await b.application.courier.turn() == 0
        a.clock.now += webhooks.LEASE + 1
        assert await b.application.courier.turn() == 1
