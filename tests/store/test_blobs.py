"""What every blob store guarantees: a blob appears whole and durable or not at all, and its bytes never change."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore
from tests.buckets import Service

from pithead.exchange.blobs import BlobError, Blobs, Entry, NoSuchBlob
from pithead.store import blobs as module
from pithead.store.blobs import LocalBlobs
from pithead.store.keyring import Keyring, new_wrapped_key
from pithead.store.keys import DatabaseKey
from pithead.store.objects import ObjectBlobs
from pithead.store.places import open_blobs
from pithead.store.sealed import SealedBlobs

Make = Callable[[], Blobs]


def local(tmp_path: Path, s3: Service) -> Blobs:
    return LocalBlobs(tmp_path / "blobs")


def folder(tmp_path: Path, s3: Service) -> Blobs:
    return ObjectBlobs(LocalStore(tmp_path / "objects", mkdir=True), "file:///objects")


def memory(tmp_path: Path, s3: Service) -> Blobs:
    return ObjectBlobs(MemoryStore(), "memory:///")


def bucket(tmp_path: Path, s3: Service) -> Blobs:
    options = {"endpoint": s3.url, "region": "us-east-1"}
    return open_blobs(s3.bucket(), tmp_path, s3=options, allow_http=True)


def keyring() -> Keyring:
    master, made = DatabaseKey(b"m" * 32), Keyring()
    made.fill([new_wrapped_key(master, 1.0)], master)
    return made


def sealed_local(tmp_path: Path, s3: Service) -> Blobs:
    return SealedBlobs(local(tmp_path, s3), keyring())


def sealed_bucket(tmp_path: Path, s3: Service) -> Blobs:
    return SealedBlobs(bucket(tmp_path, s3), keyring())


STORES = [local, folder, memory, bucket, sealed_local, sealed_bucket]


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def blobs(request: Any, tmp_path: Path, s3: Service) -> Blobs:
    made: Blobs = request.param(tmp_path, s3)
    return made


@pytest.fixture
def name(blobs: Blobs) -> str:
    """What the exchange could name a blob."""
    return "ab/job_1-1-c0" + blobs.suffix


class Source:
    """Bytes that come in chunks, and end in an error if there is one."""

    def __init__(self, *chunks: bytes, error: BaseException | None = None) -> None:
        self.closed = False
        self._chunks = chunks
        self._error = error

    async def __call__(self) -> AsyncGenerator[bytes]:
        try:
            for chunk in self._chunks:
                yield chunk
                await asyncio.sleep(0)
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def read(blobs: Blobs, name: str, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in blobs.get(name, start, end)])


async def listed(blobs: Blobs) -> list[Entry]:
    return [entry async for batch in blobs.list() for entry in batch]


#: Longer than any piece in which a store writes or reads.
LONG = bytes(range(251)) * 83_000


@pytest.mark.parametrize("content", [b"", b"x", b"some bytes", LONG], ids=["none", "one", "some", "many"])
async def test_what_is_put_is_got(blobs: Blobs, name: str, content: bytes) -> None:
    await blobs.check()
    source = Source(*(content[at : at + 65_536] for at in range(0, len(content), 65_536)))
    await blobs.put(name, source())
    assert source.closed
    assert await blobs.peek(name, 0) == (len(content), b"")
    assert await blobs.peek(name, 64) == (len(content), content[:64])
    assert await read(blobs, name, 0, len(content)) == content
    assert [entry.name for entry in await listed(blobs)] == [name]


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (10, 20), (5_000_000, 9_000_000), (len(LONG) - 1, len(LONG)), (7, 7)]
)
async def test_a_part_of_it_is_got(blobs: Blobs, name: str, start: int, end: int) -> None:
    await blobs.put(name, Source(LONG)())
    assert await read(blobs, name, start, end) == LONG[start:end]


@pytest.mark.parametrize("before", [(), (b"x",), (LONG,)], ids=["at once", "early", "late"])
async def test_where_the_source_fails_nothing_is_left(blobs: Blobs, name: str, before: tuple[bytes, ...]) -> None:
    source = Source(*before, error=ValueError("gone"))
    with pytest.raises(ValueError, match="gone"):
        await blobs.put(name, source())
    assert source.closed
    assert await blobs.peek(name, 10) is None
    assert await listed(blobs) == []


async def test_a_put_that_is_cancelled_leaves_nothing(blobs: Blobs, name: str) -> None:
    waits = asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        yield LONG
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(blobs.put(name, source()))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await blobs.peek(name, 10) is None
    assert await listed(blobs) == []


async def test_a_file_is_not_closed_under_a_write_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number would be another file's by then: the database's, for all we know."""
    begun, let_go = threading.Event(), threading.Event()
    wrote: list[int] = []

    def slow(descriptor: int, data: bytes) -> None:
        begun.set()
        assert let_go.wait(10)
        wrote.append(os.write(descriptor, data))

    monkeypatch.setattr(module, "_write_all", slow)
    task = asyncio.create_task(LocalBlobs(tmp_path / "blobs").put("ab/job_1-1-c0", Source(b"bytes")()))
    assert await asyncio.to_thread(begun.wait, 10)
    for _ in range(2):  # whoever is impatient may say it twice
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wrote == [5]
    assert not [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]


async def test_what_is_not_there(blobs: Blobs, name: str) -> None:
    assert await blobs.peek(name, 10) is None
    with pytest.raises(NoSuchBlob):
        await read(blobs, name, 0, 1)
    await blobs.delete([name, "cd/job_2-1-c0"])


async def test_less_than_is_asked_for_is_an_error_and_no_short_answer(blobs: Blobs, name: str) -> None:
    await blobs.put(name, Source(b"12345")())
    with pytest.raises(BlobError):
        await read(blobs, name, 3, 9)


async def test_deleting(blobs: Blobs) -> None:
    names = [f"{number:02x}/job_1-1-{number}{blobs.suffix}" for number in range(5)]
    for one in names:
        await blobs.put(one, Source(b"x")())
    await blobs.delete([*names[:2], "ff/job_9-1-a", *names[3:4]])
    assert sorted(entry.name for entry in await listed(blobs)) == [names[2], names[4]]


async def test_a_listing_comes_in_batches(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pithead.store.blobs.BATCH", 2)
    monkeypatch.setattr("pithead.store.objects.BATCH", 2)
    names = [f"{number % 3:02x}/job_1-1-{number}{blobs.suffix}" for number in range(5)]
    for one in names:
        await blobs.put(one, Source(b"x")())
    batches = [[entry.name for entry in batch] async for batch in blobs.list()]
    assert all(len(batch) <= 2 for batch in batches)
    assert sorted(one for batch in batches for one in batch) == sorted(names)


async def test_a_blob_that_is_put_again_is_replaced_as_a_whole(blobs: Blobs, name: str) -> None:
    await blobs.put(name, Source(LONG)())
    await blobs.put(name, Source(b"short")())
    assert await blobs.peek(name, 9) == (5, b"short")


async def test_an_upload_to_a_bucket_that_fails_is_aborted(s3: Service, tmp_path: Path) -> None:
    url = s3.bucket()
    blobs = open_blobs(url, tmp_path, s3={"endpoint": s3.url, "region": "us-east-1"}, allow_http=True)
    with pytest.raises(ValueError, match="gone"):
        await blobs.put("ab/job_1-1-c0", Source(LONG, error=ValueError("gone"))())
    assert s3.under_way(url) == 0


async def test_a_bucket_that_is_not_there_is_said_at_the_check(s3: Service, tmp_path: Path) -> None:
    options = {"endpoint": s3.url, "region": "us-east-1"}
    blobs = open_blobs("s3://no-such-bucket/x", tmp_path, s3=options, allow_http=True)
    with pytest.raises(BlobError) as refusal:
        await blobs.check()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("place", ["ftp://host/x", "s3://", "s3:///x", "file://host/x", "file://", "az://container"])
def test_a_place_that_is_none(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BlobError) as refusal:
        open_blobs(place, tmp_path)
    assert "\n" not in str(refusal.value)


def test_places(tmp_path: Path) -> None:
    wanted = tmp_path / "a b"
    assert open_blobs("", wanted).describe() == str(wanted)
    assert open_blobs(str(wanted), tmp_path).describe() == str(wanted)
    assert open_blobs(wanted.as_uri(), tmp_path).describe() == str(wanted)
    assert open_blobs("gs://bucket/x", tmp_path).describe() == "gs://bucket/x"
