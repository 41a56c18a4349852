"""Encryption of blobs: nothing readable in the store, and nothing taken that is not as it was sealed."""

import itertools
from pathlib import Path

import pytest
from tests.store.test_blobs import LONG, Source, keyring, read

from pithead.exchange.blobs import BlobError
from pithead.store.blobs import LocalBlobs
from pithead.store.sealed import SUFFIX, SealedBlobs
from pithead.store.sealing import CHUNK, HEADER, SEALED

NAME = "ab/job_1-1-c0" + SUFFIX
OTHER = "ab/job_2-1-c0" + SUFFIX
SECRET = b"what nobody may read "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path) -> SealedBlobs:
    return SealedBlobs(LocalBlobs(folder), keyring())


async def test_nothing_readable_is_stored(blobs: SealedBlobs, folder: Path) -> None:
    await blobs.put(NAME, Source(SECRET * 10_000)())
    stored = (folder / NAME).read_bytes()
    assert len(stored) > 10_000 * len(SECRET)
    assert all(stored.find(SECRET[at : at + 8]) < 0 for at in range(len(SECRET) - 8))


async def test_a_part_reads_only_the_chunks_it_lies_in(blobs: SealedBlobs, folder: Path) -> None:
    await blobs.put(NAME, Source(LONG)())
    stored = bytearray((folder / NAME).read_bytes())
    # All but one chunk in ruins.
    for number in itertools.chain(range(7), range(8, len(LONG) // CHUNK)):
        stored[HEADER + number * SEALED] ^= 1
    (folder / NAME).write_bytes(stored)
    start = 7 * CHUNK
    assert await read(blobs, NAME, start, start + CHUNK) == LONG[start : start + CHUNK]
    assert await read(blobs, NAME, start + 10, start + 20) == LONG[start + 10 : start + 20]
    with pytest.raises(BlobError, match="damaged"):
        await read(blobs, NAME, start - 1, start + 1)


@pytest.mark.parametrize(
    "cut", [1, SEALED, SEALED + 5, 10 * SEALED], ids=["a byte", "a chunk", "a chunk and more", "many chunks"]
)
async def test_a_blob_that_was_cut_is_damaged(blobs: SealedBlobs, folder: Path, cut: int) -> None:
    size = 20 * CHUNK + 100
    await blobs.put(NAME, Source(LONG[:size])())
    stored = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(stored[:-cut])
    fresh = SealedBlobs(LocalBlobs(folder), blobs._keyring)
    with pytest.raises(BlobError):
        await read(fresh, NAME, 0, size)


async def test_blobs_do_not_pass_for_one_another(blobs: SealedBlobs, folder: Path) -> None:
    await blobs.put(NAME, Source(b"mine, and paid for")())
    await blobs.put(OTHER, Source(b"theirs, as long...")())
    (folder / NAME).write_bytes((folder / OTHER).read_bytes())
    with pytest.raises(BlobError, match="damaged"):
        await read(SealedBlobs(LocalBlobs(folder), blobs._keyring), NAME, 0, 18)


async def test_a_plain_blob_does_not_pass_for_a_sealed_one(blobs: SealedBlobs, folder: Path) -> None:
    await blobs.put(NAME, Source(LONG)())
    (folder / NAME).write_bytes(LONG)
    with pytest.raises(BlobError, match="damaged"):
        await read(SealedBlobs(LocalBlobs(folder), blobs._keyring), NAME, 0, 18)


async def test_another_keyring_does_not_open_it(blobs: SealedBlobs, folder: Path) -> None:
    await blobs.put(NAME, Source(LONG)())
    with pytest.raises(BlobError, match="does not have"):
        await read(SealedBlobs(LocalBlobs(folder), keyring()), NAME, 0, 18)


async def test_what_was_stored_before_is_read_as_it_is(blobs: SealedBlobs, folder: Path) -> None:
    await LocalBlobs(folder).put("ab/job_1-1-c0", Source(b"from before")())
    assert await read(blobs, "ab/job_1-1-c0", 5, 11) == b"before"
    assert await blobs.peek("ab/job_1-1-c0", 4) == (11, b"from")
    with pytest.raises(ValueError, match="named so"):
        await blobs.put("ab/job_1-1-c1", Source(b"new")())
