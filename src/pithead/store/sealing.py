"""Encrypted streams: AES-256-GCM in chunks, so that any part can be read and checked by itself.

A sealed stream is a header and chunks. The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015), as Tink's
AES-GCM-HKDF streaming has it:

    header   8 bytes  `PITHSEAL`
             1        version, 1
             16       id of the data key
             32       salt
             7        prefix of the nonces
    chunk    65,536 bytes of plaintext (the last one: 0 to 65,536), encrypted, and a tag of 16

Each stream has a key of its own, HKDF-SHA256 of the data key with the salt and, as info, the header and the name that the
stream is kept under. A chunk's nonce is the prefix, its number (4 bytes, big-endian), and 1 for the last chunk, else 0.
So a chunk that is changed, moved, left out, taken from another stream or from another name does not open; nor does a
stream that was cut at a chunk's end. Only an empty stream has an empty chunk.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Bytes of plaintext in a chunk.
CHUNK: Final = 1 << 16
TAG: Final = 16
#: Bytes of a sealed chunk.
SEALED: Final = CHUNK + TAG
HEADER: Final = 64
KEY_ID: Final = 16
_MAGIC: Final = b"PITHSEAL\x01"
_LABEL: Final = b"pithead sealed stream v1\0"
#: So much is encrypted or decrypted in one go, off the event loop.
_BATCH: Final = 16 * CHUNK
_SEALED_BATCH: Final = 16 * SEALED


class Broken(Exception):
    """What was sealed does not open: it was changed, cut or mixed up, or is under another key."""


class DataKey(msgspec.Struct, frozen=True):
    """A key that streams are sealed under."""

    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"DataKey({self.id.hex()})"


def new_data_key() -> DataKey:
    """A key of 256 random bits."""
    return DataKey(os.urandom(KEY_ID), os.urandom(32))


class Stream:
    """The chunks of one stream."""

    def __init__(self, key: DataKey, header: bytes, name: str) -> None:
        """`header` as `new_header` made it, or as it was read. Raises `Broken` where it is none of this key's."""
        if key_id(header) != key.id:
            raise Broken("it is under another key")
        salt, self._prefix = header[25:57], header[57:]
        info = _LABEL + header + name.encode()
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key.secret))

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + bytes([last])

    def seal(self, data: bytes | bytearray, first: int, *, ends: bool) -> bytes:
        """Consecutive chunks, of which the first has this number; whether `data` ends with the stream's end."""
        sealed = []
        for at in range(0, max(len(data), 1), CHUNK):
            last = ends and at + CHUNK >= len(data)
            sealed.append(self._cipher.encrypt(self._nonce(first + at // CHUNK, last), data[at : at + CHUNK], None))
        return b"".join(sealed)

    def open(self, data: bytes | bytearray, first: int, *, ends: bool) -> bytes:
        """The plaintext of consecutive sealed chunks. Raises `Broken`."""
        opened = []
        for at in range(0, max(len(data), 1), SEALED):  # Nothing is no chunk, and does not open either.
            last = ends and at + SEALED >= len(data)
            number = first + at // SEALED
            try:
                opened.append(self._cipher.decrypt(self._nonce(number, last), data[at : at + SEALED], None))
            except InvalidTag:
                raise Broken(f"chunk {number} does not open") from None
        return b"".join(opened)


def new_header(key: DataKey) -> bytes:
    """A header with fresh salt and nonce prefix."""
    return _MAGIC + key.id + os.urandom(32) + os.urandom(7)


def key_id(header: bytes) -> bytes:
    """Which data key a stream is under. Raises `Broken` where it is no header."""
    if len(header) != HEADER or not header.startswith(_MAGIC):
        raise Broken("it does not begin as a sealed stream")
    return header[len(_MAGIC) : len(_MAGIC) + KEY_ID]


def plain_size(sealed: int) -> int:
    """How many bytes of plaintext a sealed stream of this size has. Raises `Broken` where none has this size."""
    body = sealed - HEADER
    chunks = max(1, -(-body // SEALED))
    plain = body - chunks * TAG
    if plain < 0 or (plain == 0 and chunks > 1) or -(-plain // CHUNK) != (chunks if plain else 0):
        raise Broken(f"no sealed stream has {sealed} bytes")
    return plain


async def seal(key: DataKey, name: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The stream of `chunks`, sealed under this key and name."""
    header = new_header(key)
    stream, number, buffer = Stream(key, header, name), 0, bytearray()
    yield header
    async for chunk in chunks:
        buffer += chunk
        # More than is sealed must be there: the last chunk is not empty.
        while len(buffer) > _BATCH:
            batch = bytes(buffer[:_BATCH])
            del buffer[:_BATCH]
            yield await asyncio.to_thread(stream.seal, batch, number, ends=False)
            number += _BATCH // CHUNK
    yield await asyncio.to_thread(stream.seal, bytes(buffer), number, ends=True)


async def unseal(keys: Callable[[bytes], DataKey], name: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The plaintext of a whole sealed stream, in order; `keys` finds the data key of an id.

    Raises `Broken`, at the latest at its end: what was yielded before is genuine, and not all of it.
    """
    stream: Stream | None = None
    number, buffer = 0, bytearray()
    async for chunk in chunks:
        buffer += chunk
        if stream is None:
            if len(buffer) < HEADER:
                continue
            header = bytes(buffer[:HEADER])
            stream = Stream(keys(key_id(header)), header, name)
            del buffer[:HEADER]
        while len(buffer) > _SEALED_BATCH:
            batch = bytes(buffer[:_SEALED_BATCH])
            del buffer[:_SEALED_BATCH]
            yield await asyncio.to_thread(stream.open, batch, number, ends=False)
            number += _BATCH // CHUNK
    if stream is None or not buffer:
        raise Broken("it is cut short")
    yield await asyncio.to_thread(stream.open, bytes(buffer), number, ends=True)


def seal_bytes(key: DataKey, name: str, data: bytes) -> bytes:
    """All of `data` as one sealed stream."""
    header = new_header(key)
    return header + Stream(key, header, name).seal(data, 0, ends=True)


def unseal_bytes(keys: Callable[[bytes], DataKey], name: str, sealed: bytes) -> bytes:
    """The plaintext of a whole sealed stream. Raises `Broken`."""
    header = sealed[:HEADER]
    return Stream(keys(key_id(header)), header, name).open(sealed[HEADER:], 0, ends=True)
