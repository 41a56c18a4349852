"""Orphans go, and nothing else."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from tests.http.exchange import World, body, hash_of
from tests.http.test_results import cut_off

from pithead.exchange.blobs import BlobError, name_of
from pithead.exchange.collector import Collector

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


async def left(world: World) -> set[str]:
    """What is in the store once a walk is over."""
    while await world.application.collector.turn():
        pass
    return {entry.name for entry in await world.blobs()}


async def put(world: World, name: str, content: bytes = b"orphan") -> str:
    async def source() -> AsyncGenerator[bytes]:
        yield content

    await world.application.blobs.put(name, source())
    return name


async def test_a_result_stays_and_what_no_attempt_names_goes(blob_world: World) -> None:
    world = blob_world
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    body(await miner.upload(job, b"result"))
    [result] = [entry.name for entry in await world.blobs()]
    other = await put(world, name_of(job, 1))
    lost = await put(world, name_of("job_of-another-database", 1))
    strange = await put(world, "ab/not-named-by-us")
    # While the job is not finished, any blob of it may be of an upload that is under way.
    assert await left(world) == {result, other, strange}
    assert lost not in await left(world)
    body(await miner.complete(job, hash_of(b"result")))
    assert await left(world) == {result, strange}
    assert (await client.get(f"/v1/jobs/{job}/result")).content == b"result"


async def test_a_part_stays_until_its_job_is_finished(blob_world: World) -> None:
    world = blob_world
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    await cut_off(world, miner, job, b"x" * 2_000_000)
    assert len(await left(world)) == 1
    await client.delete(f"/v1/jobs/{job}")
    assert await left(world) == set()


async def test_what_is_young_stays(open_world: OpenWorld) -> None:
    async with open_world() as world:
        lost = await put(world, name_of("job_of-another-database", 1))
        [entry] = await world.blobs()
        world.clock.now = entry.modified_at + 86_399
        assert await left(world) == {lost}
        world.clock.now = entry.modified_at + 86_401
        assert await left(world) == set()


async def test_what_a_coordinator_that_died_left_on_its_way_goes(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    leftover = world.application.settings.folder / "results" / "incoming" / (name_of(job, 1).partition("/")[2] + ".ab")
    leftover.write_bytes(b"half of it")
    assert len(await left(world)) == 1
    body(await miner.complete(job))
    assert await left(world) == set()


async def test_a_turn_looks_at_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pithead.store.blobs.BATCH", 2)
    for number in range(5):
        await put(world, name_of("job_of-another-database", number))
    turns = [(await world.application.collector.turn(), len(await world.blobs())) for _ in range(4)]
    assert turns == [(True, 3), (True, 1), (True, 0), (False, 0)]


async def test_a_store_that_fails_ends_the_walk_and_the_next_begins_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = world.application.blobs
    await put(world, name_of("job_of-another-database", 1))

    async def refuse(names: list[str]) -> None:
        raise BlobError("not now")

    collector = Collector(world.application.coordinator, blobs, 60)
    with monkeypatch.context() as patched:
        patched.setattr(blobs, "delete", refuse)
        with pytest.raises(BlobError, match="not now"):
            await collector.turn()
    assert await collector.turn()
    assert await world.blobs() == []
    await collector.close()
