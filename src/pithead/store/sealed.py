"""Blobs that are encrypted on their way into another store, and decrypted on their way out."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from pithead.exchange.blobs import BlobError, Blobs, Entry, NoSuchBlob
from pithead.store.keyring import Keyring
from pithead.store.sealing import CHUNK, HEADER, SEALED, Broken, Stream, key_id, plain_size, seal

#: What the names of sealed blobs end in. The name is in the database, so whoever can write to the store alone cannot pass
#: a plain blob for a sealed one.
SUFFIX: Final = ".sealed"
#: Chunks that are fetched and decrypted together.
_BATCH: Final = 16
#: Streams whose headers are kept.
_MOST_HEADS: Final = 1024


class SealedBlobs:
    """Implements `exchange.blobs.Blobs` over another store. Blobs that were stored before are read as they are."""

    suffix = SUFFIX

    def __init__(self, inner: Blobs, keyring: Keyring) -> None:
        self._inner = inner
        self._keyring = keyring
        # A client that reads range by range asks for the same header again and again.
        self._heads: dict[str, tuple[Stream, int]] = {}

    def describe(self) -> str:
        return self._inner.describe()

    async def check(self) -> None:
        await self._inner.check()

    async def put(self, name: str, chunks: AsyncGenerator[bytes]) -> None:
        if not name.endswith(SUFFIX):
            raise ValueError(f"a blob to be sealed must be named so: {name}")
        self._heads.pop(name, None)
        async with contextlib.aclosing(chunks):
            await self._inner.put(name, seal(self._keyring.newest, name, chunks))

    async def get(self, name: str, start: int, end: int) -> AsyncGenerator[bytes]:
        if not name.endswith(SUFFIX):
            async with contextlib.aclosing(self._inner.get(name, start, end)) as plain:
                async for piece in plain:
                    yield piece
            return
        stream, size = await self._open(name)
        if end > size:
            raise BlobError(f"blob {name} ends at byte {size}, before {end}")
        while start < end:
            first = start // CHUNK
            beyond = min(first + _BATCH, -(-end // CHUNK))
            data = await self._fetch(name, first, beyond, size)
            try:
                plain_bytes = await asyncio.to_thread(stream.open, data, first, ends=beyond * CHUNK >= size)
            except Broken as error:
                raise _damaged(name, error) from error
            piece = plain_bytes[start - first * CHUNK : end - first * CHUNK]
            start += len(piece)
            yield piece

    async def _fetch(self, name: str, first: int, beyond: int, size: int) -> bytes:
        """These sealed chunks, of a stream with `size` bytes of plaintext."""
        sealed_end = min(HEADER + beyond * SEALED, HEADER + size + max(1, -(-size // CHUNK)) * (SEALED - CHUNK))
        async with contextlib.aclosing(self._inner.get(name, HEADER + first * SEALED, sealed_end)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def _open(self, name: str) -> tuple[Stream, int]:
        """The stream, and how many bytes of plaintext it has."""
        known = self._heads.get(name)
        if known is not None:
            return known
        found = await self._inner.peek(name, HEADER)
        if found is None:
            raise NoSuchBlob(f"there is no blob {name}")
        size, header = found
        try:
            head = Stream(self._keyring.find(key_id(header)), header, name), plain_size(size)
        except Broken as error:
            raise _damaged(name, error) from error
        if len(self._heads) >= _MOST_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[name] = head
        return head

    async def peek(self, name: str, count: int) -> tuple[int, bytes] | None:
        if not name.endswith(SUFFIX):
            return await self._inner.peek(name, count)
        try:
            _, size = await self._open(name)
        except NoSuchBlob:
            return None
        pieces = [piece async for piece in self.get(name, 0, min(count, size))]
        return size, b"".join(pieces)

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._heads.pop(name, None)
        await self._inner.delete(names)

    def list(self) -> AsyncGenerator[list[Entry]]:
        return self._inner.list()


def _damaged(name: str, error: Broken) -> BlobError:
    return BlobError(f"blob {name} is damaged, or is none of ours: {error}")
