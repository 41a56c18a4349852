"""Receipts over HTTP: what a miner is given can be checked with what anybody may fetch."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
from tests.http.exchange import World, body

from pithead.client import verify_receipt
from pithead.wire.miners import Completed, ReceiptKeys


async def test_a_receipt_is_checked_with_the_public_key(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    done = msgspec.json.decode((await miner.complete(job)).content, type=Completed)
    # No key is needed to fetch it.
    keys = msgspec.convert(body(await world.http.get("/v1/receipt-keys")), ReceiptKeys)
    assert verify_receipt(done.receipt, keys)
    done.receipt.amount += 1
    assert not verify_receipt(done.receipt, keys)


async def test_the_key_outlives_a_restart(open_world: Callable[..., AbstractAsyncContextManager[World]]) -> None:
    async with open_world() as world:
        before = body(await world.http.get("/v1/receipt-keys"))
    async with open_world() as world:
        assert body(await world.http.get("/v1/receipt-keys")) == before
