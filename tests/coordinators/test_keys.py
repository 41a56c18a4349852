"""What is kept in memory beside the database: keys and the board, also while nothing is heard."""

import asyncio

import httpx
from tests.coordinators.conftest import Pair, at, until
from tests.http.exchange import Party, World, body

from pithead.store.listener import BELIEVED_FOR


async def _refused(party: Party) -> bool:
    return (await party.get("/v1/clients/me")).status_code == 401


async def test_a_key_that_is_revoked_at_one_is_refused_at_the_other(pair: Pair) -> None:
    client = await pair.a.client()
    there = at(pair.b, client)
    await there.balance()
    body(await pair.a.operator.delete(f"/accounts/{client.id}/keys"))
    assert await _refused(client)
    await until(lambda: _refused(there))


async def test_a_key_that_is_rotated_at_one_is_another_at_the_other(pair: Pair) -> None:
    client = await pair.a.client()
    there = at(pair.b, client)
    await there.balance()
    new = body(await pair.a.operator.post(f"/accounts/{client.id}/keys"), 201)["api_key"]
    await until(lambda: _refused(there))
    there.key = new
    await there.balance()


async def test_limits_of_a_miner_that_are_set_at_one_hold_at_the_other(pair: Pair) -> None:
    miner = await pair.a.miner()
    there = at(pair.b, miner)
    assert await there.status() == "active"
    body(await pair.a.operator.put(f"/miners/{miner.id}/limits", json={"requests_per_minute": 3}))

    async def limited() -> bool:
        return (await there.get()).status_code == 429

    await until(limited)


def _deafen(world: World) -> None:
    """Nothing is heard any more, as when the network swallows what the server sends."""
    world.application.database.listener._heard_at = float("-inf")  # type: ignore[union-attr]


async def test_while_nothing_is_heard_every_key_is_looked_up(pair: Pair) -> None:
    client = await pair.a.client()
    there = at(pair.b, client)
    await there.balance()
    body(await pair.a.operator.delete(f"/accounts/{client.id}/keys"))
    # Whatever it has in memory: not heard of lately is not believed.
    _deafen(pair.b)
    assert await _refused(there)
    assert BELIEVED_FOR <= 5, "the documentation says five seconds"


async def test_after_the_connection_was_cut_nothing_missed_is_believed(pair: Pair) -> None:
    client = await pair.a.client()
    there, miner = at(pair.b, client), await pair.b.miner()
    await there.balance()
    before = await pair.a.client()
    # What is committed while it is cut is never told to it.
    listener = pair.b.application.database.listener  # type: ignore[union-attr]
    gone = asyncio.Event()
    on_gap = listener._on_gap

    def hear_of_it() -> None:
        on_gap()
        gone.set()

    listener._on_gap = hear_of_it
    listener.cut()
    body(await pair.a.operator.delete(f"/accounts/{client.id}/keys"))
    job = await before.submit()
    async with asyncio.timeout(10):
        await gone.wait()
    assert await _refused(there)
    await pair.later(1)

    async def offered() -> bool:
        return await miner.offered() == [job]

    await until(offered)


async def test_every_coordinator_s_signatures_can_be_checked_at_every_one(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    receipts = []
    for world in pair:
        job = await client.submit()
        face = at(world, miner)
        await face.take(job)
        receipts.append(body(await face.complete(job))["receipt"])
    assert receipts[0]["key_id"] != receipts[1]["key_id"]
    for world in pair:
        keys = body(await world.http.get("/v1/receipt-keys"))["keys"]
        assert {receipt["key_id"] for receipt in receipts} == {key["key_id"] for key in keys}


async def test_of_two_that_start_on_an_empty_database_one_makes_the_operator_s_key(pair: Pair) -> None:
    answers: list[httpx.Response] = [await world.operator.get("/overview") for world in pair]
    assert [answer.status_code for answer in answers] == [200, 200]
