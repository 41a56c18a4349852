"""The database itself goes away, and comes back."""

import asyncio
import signal

import httpx
import psycopg
from tests.coordinators.conftest import Pair, at, until
from tests.http.exchange import JOB, Client, body, problem
from tests.postgres import Server

from pithead.store.shared import Shared


async def test_nothing_that_was_answered_is_lost_and_nothing_is_done_twice(pair: Pair, postgres: Server) -> None:
    client, miner = await pair.a.client(100), await pair.a.miner()
    before = await client.submit(price=1)
    lease = await miner.take(before)

    async def submit(number: int) -> httpx.Response:
        """Asked again until it is answered, as a client does, at whichever coordinator."""
        for turn in range(1000):
            face: Client = at(pair[(number + turn) % 2], client)
            answer = await face.post("/v1/jobs", json=JOB | {"price": 1}, headers={"Idempotency-Key": f"job {number}"})
            if answer.status_code != 503:
                return answer
            assert answer.headers["retry-after"] == "5"
            await asyncio.sleep(0)
        raise AssertionError

    asking = [asyncio.create_task(submit(number)) for number in range(30)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    # As a crash: no connection is ended in order, and the log is gone through at the start.
    await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
    await asyncio.to_thread(postgres.start)
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["job_id"] for answer in answers}) == 30

    async def works() -> bool:
        return (await pair.b.operator.get("/ledger/check")).status_code == 200

    await until(works)
    assert body(await pair.b.operator.get("/ledger/check"))["sound"]
    assert await client.balance() == (69, 31)
    assert (await at(pair.b, miner).take(before))["lease_token"] == lease["lease_token"]
    body(await at(pair.b, miner).complete(before))
    # And they hear of each other again.
    waiting = asyncio.create_task(at(pair.b, miner).offered(wait=30))
    async with asyncio.timeout(20):
        await waiting


async def test_connections_that_the_server_ends_are_made_anew(pair: Pair, url: str) -> None:
    client = await pair.a.client()
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(3):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for world in pair:
                await at(world, client).submit()
                assert (await at(world, client).balance())[1] > 0
    assert await client.balance() == (99.7, 0.3)


async def test_while_it_is_away_everybody_is_told_so_in_time(pair: Pair, postgres: Server) -> None:
    client = await pair.a.client()
    for world in pair:
        database = world.application.database
        assert isinstance(database, Shared)
        database.lanes.patience = 0.2
    await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
    try:
        for world in pair:
            told = problem(await at(world, client).post("/v1/jobs", json=JOB), 503)
            assert told["type"] == "/problems/store-unavailable"
            # What happens by itself is tried again at the next turn.
            await world.application.look_after()
            assert (await world.http.get("/healthz")).status_code == 200
    finally:
        await asyncio.to_thread(postgres.start)

    async def works() -> bool:
        return (await client.post("/v1/jobs", json=JOB)).status_code == 201

    await until(works)
