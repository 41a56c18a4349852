"""Sealing the blobs that are plain, or the other way round, while nobody uses them.

One after the other: written anew under the other name, read back and compared, named in the database, and only then
deleted. Wherever it is interrupted, each result is named and whole; doing it again goes on with the others.
"""

from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from typing import Protocol

from pithead.exchange.blobs import BlobError, Blobs, owner_of
from pithead.store.errors import StoreError
from pithead.store.sealed import SUFFIX, SealedBlobs


class Names(Protocol):
    """The names of blobs in the database; each call is durable when it returns."""

    def has(self, owner: str, blob: str) -> bool:
        """Whether an attempt of the job, or the file, names the blob."""

    def change(self, owner: str, before: str, after: str) -> None:
        """Let what names `before` name `after`."""


async def reseal(
    inner: Blobs, sealed: SealedBlobs, names: Names, *, to_sealed: bool, tell: Callable[[int, int], None]
) -> int:
    """Bring every blob into the one form; how many were written anew. `tell` is told of blobs and bytes so far.

    What nothing names is deleted where it is in the other form: nothing is under way. Raises `StoreError`.
    """
    done = size = 0
    try:
        async for batch in inner.list():
            for entry in batch:
                owner = owner_of(entry.name)
                if owner is None or entry.name.endswith(SUFFIX) == to_sealed:
                    continue
                if names.has(owner, entry.name):
                    other = entry.name + SUFFIX if to_sealed else entry.name.removesuffix(SUFFIX)
                    size += await _copy(sealed, entry.name, sealed if to_sealed else inner, other)
                    names.change(owner, entry.name, other)
                    done += 1
                    tell(done, size)
                await inner.delete([entry.name])
    except BlobError as error:
        raise StoreError(
            f"cannot go on with the results, of which {done} are done: {error}; mend that, and do it again"
        ) from error
    return done


async def _copy(source: Blobs, name: str, target: Blobs, other: str) -> int:
    """The same bytes under another name, compared; how many. Raises `BlobError`."""
    found = await source.peek(name, 0)
    if found is None:
        raise BlobError(f"blob {name} has gone away meanwhile")
    size, digest = found[0], sha256()

    async def measured() -> AsyncGenerator[bytes]:
        async for piece in source.get(name, 0, size):
            digest.update(piece)
            yield piece

    await target.put(other, measured())
    copied = sha256()
    async for piece in target.get(other, 0, size):
        copied.update(piece)
    if copied.digest() != digest.digest():
        raise BlobError(f"blob {other} reads differently from what was written")
    return size
