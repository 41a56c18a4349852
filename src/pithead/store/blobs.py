"""The bytes of results, as files beside the database."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

#: Bytes are gathered to this size before they go to the disk, off the event loop.
_CHUNK: Final = 1 << 20


class TooLarge(Exception):
    """More bytes came than are allowed."""


class Stored(msgspec.Struct, frozen=True):
    """A blob that is whole and on the disk."""

    name: str
    digest: str  #: SHA-256, in hex.
    size: int


class Blobs:
    """A folder of blobs. A blob appears under its name whole and durable, or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What was on its way when the last coordinator stopped will be sent again, from its start.
        for left in self._incoming.iterdir():
            left.unlink()

    def path(self, name: str) -> Path:
        """Where the blob lies."""
        return self._folder / name

    async def write(self, prefix: str, chunks: AsyncIterator[bytes], limit: int) -> Stored:
        """Store what `chunks` yields under a new name that begins with `prefix`.

        Hashed as it arrives, written to a temporary name, fsynced, renamed, and the folder fsynced.
        Raises `TooLarge`, `OSError`, and whatever `chunks` raises; then nothing is left.
        """
        # A name of its own for every upload: one that is repeated cannot tear the bytes of one that was completed.
        unique = f"{prefix}-{secrets.token_hex(6)}"
        name = f"{sha256(unique.encode()).hexdigest()[:2]}/{unique}"
        temporary = self._incoming / unique
        final = self._folder / name
        digest, size, buffer = sha256(), 0, bytearray()
        # One descriptor over many awaits; each write is done in a thread.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge
                    buffer += chunk
                    if len(buffer) >= _CHUNK:
                        full, buffer = bytes(buffer), bytearray()
                        digest.update(full)
                        await asyncio.to_thread(_write_all, descriptor, full)
                digest.update(buffer)
                await asyncio.to_thread(_finish, descriptor, bytes(buffer), temporary, final)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            raise
        return Stored(name, digest.hexdigest(), size)

    def delete(self, name: str) -> None:
        """Delete a blob; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.path(name).unlink()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _finish(descriptor: int, rest: bytes, temporary: Path, final: Path) -> None:
    _write_all(descriptor, rest)
    os.fsync(descriptor)
    made = not final.parent.exists()
    final.parent.mkdir(exist_ok=True, mode=0o700)
    temporary.rename(final)
    _sync_folder(final.parent)
    if made:
        _sync_folder(final.parent.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
