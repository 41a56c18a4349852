"""Receipts over HTTP: what a miner is given can be checked with what anybody may fetch."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
from tests.http.exchange import HASH, Api, Miner, World, body
from tests.http.receipts import keys_of

from pithead.client import verify_receipt
from pithead.wire.miners import Completed, Receipt, ReceiptBatch, ReceiptKeys


async def test_a_receipt_is_checked_with_the_public_key(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    done = msgspec.json.decode((await miner.complete(job)).content, type=Completed)
    # No key is needed to fetch it.
    keys = await keys_of(world)
    assert verify_receipt(done.receipt, keys)
    done.receipt.amount += 1
    assert not verify_receipt(done.receipt, keys)


async def _receipt(miner: Miner, job: str, key: str | None = None) -> Receipt:
    named = {} if key is None else {"Idempotency-Key": key}
    answer = await miner.post(f"/jobs/{job}/complete", json={"result_hash": HASH, "metrics": {}}, headers=named)
    assert answer.status_code == 200
    if "batch" not in answer.json()["receipt"]:
        assert b"batch" not in answer.content, "it is left out, not null"
    return msgspec.json.decode(answer.content, type=Completed).receipt


def _facts(receipt: Receipt) -> Receipt:
    """The receipt but for how it is signed."""
    return msgspec.structs.replace(receipt, key_id="", signature="", batch=msgspec.UNSET)


async def _taken(api: Api, count: int, miners: int = 4) -> list[tuple[Miner, str]]:
    """So many jobs in the hands of a few miners."""
    client = await api.client()
    fleet = [await api.miner(max_concurrent=count) for _ in range(miners)]
    held = [(fleet[number % miners], await client.submit()) for number in range(count)]
    for miner, job in held:
        await miner.take(job)
    return held


def _sound(receipts: list[Receipt], keys: ReceiptKeys) -> set[str]:
    """The signatures of those that were signed together; all must hold, each for its own receipt only."""
    together = [receipt for receipt in receipts if isinstance(receipt.batch, ReceiptBatch)]
    assert all(verify_receipt(receipt, keys) for receipt in receipts)
    for receipt in together:
        assert not verify_receipt(msgspec.structs.replace(receipt, amount=receipt.amount + 1), keys)
        assert not verify_receipt(msgspec.structs.replace(receipt, batch=msgspec.UNSET), keys)
    return {receipt.signature for receipt in together}


async def test_completions_of_one_moment_are_signed_together(world: World) -> None:
    keys, held = await keys_of(world), await _taken(world, 12)
    receipts = await asyncio.gather(*(_receipt(*one) for one in held))
    signatures = _sound(receipts, keys)
    assert 1 <= len(signatures) < 12
    # Repeated it is the same receipt, and signed the same way.
    assert [await _receipt(*one) for one in held] == receipts
    # What is remembered no more is signed alone.
    world.application._signer._lately.clear()
    for one, receipt in zip(held, receipts, strict=True):
        again = await _receipt(*one)
        assert verify_receipt(again, keys)
        assert (again.batch, _facts(again)) == (msgspec.UNSET, _facts(receipt))


async def test_under_an_idempotency_key_the_first_receipt_comes_again(world: World) -> None:
    keys, held = await keys_of(world), await _taken(world, 8)
    names = [f"completion-{number}" if number % 2 else None for number in range(8)]
    receipts = await asyncio.gather(*(_receipt(*one, name) for one, name in zip(held, names, strict=True)))
    _sound(receipts, keys)
    for one, name, receipt in zip(held, names, receipts, strict=True):
        if name is not None:
            assert await _receipt(*one, name) == receipt


async def test_of_many_at_a_served_process_every_receipt_holds(roomy: Api) -> None:
    keys, held = await keys_of(roomy), await _taken(roomy, 64)
    receipts = await asyncio.gather(*(_receipt(*one) for one in held))
    # How many of them meet in a batch is the machine's matter.
    _sound(receipts, keys)
    again = await asyncio.gather(*(_receipt(*one) for one in held))
    assert again == receipts


async def test_the_key_outlives_a_restart(open_world: Callable[..., AbstractAsyncContextManager[World]]) -> None:
    async with open_world() as world:
        before = body(await world.http.get("/v1/receipt-keys"))
    async with open_world() as world:
        assert body(await world.http.get("/v1/receipt-keys")) == before
