"""Blobs as files in a folder."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from pithead.exchange.blobs import BATCH, BlobError, Entry, NoSuchBlob
from pithead.store.files import sync_folder

T = TypeVar("T")

#: Bytes are gathered to this size before they go to the disk, and read in pieces of it, off the event loop.
_CHUNK: Final = 1 << 20


class LocalBlobs:
    """Implements `exchange.blobs.Blobs`: streamed to a temporary name, fsynced, renamed, and the folder fsynced."""

    suffix = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        try:
            self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BlobError(f"cannot make {self._incoming}: {error.strerror}") from error

    def describe(self) -> str:
        return str(self._folder)

    async def check(self) -> None:
        if not os.access(self._incoming, os.W_OK | os.X_OK):
            raise BlobError(f"{self._incoming} cannot be written to")

    async def put(self, name: str, chunks: AsyncGenerator[bytes]) -> None:
        final = self._path(name)
        temporary = self._incoming / f"{final.name}.{secrets.token_hex(4)}"
        async with contextlib.aclosing(chunks):
            # One descriptor over many awaits; each write is done in a thread.
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                raise _said(error) from error
            try:
                try:
                    async for data in gathered(chunks, _CHUNK):
                        await _in_thread(_write_all, descriptor, data)
                    await _in_thread(_finish, descriptor, temporary, final)
                finally:
                    os.close(descriptor)
            except BaseException as error:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
                if isinstance(error, OSError):
                    raise _said(error) from error
                raise

    async def get(self, name: str, start: int, end: int) -> AsyncGenerator[bytes]:
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY)
        except FileNotFoundError:
            raise NoSuchBlob(f"there is no blob {name}") from None
        except OSError as error:
            raise _said(error) from error
        try:
            while start < end:
                data = await _in_thread(os.pread, descriptor, min(_CHUNK, end - start), start)
                if not data:
                    raise BlobError(f"blob {name} ends at byte {start}, before {end}")
                start += len(data)
                yield data
        except OSError as error:
            raise _said(error) from error
        finally:
            os.close(descriptor)

    async def peek(self, name: str, count: int) -> tuple[int, bytes] | None:
        try:
            with self._path(name).open("rb") as file:
                return os.fstat(file.fileno()).st_size, file.read(count)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _said(error) from error

    async def delete(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _said(error) from error

    async def list(self) -> AsyncGenerator[list[Entry]]:
        entries = self._walk()
        try:
            while batch := await asyncio.to_thread(lambda: list(islice(entries, BATCH))):
                yield batch
        except OSError as error:
            raise _said(error) from error

    def _walk(self) -> Iterator[Entry]:
        with os.scandir(self._folder) as folders:
            # One level deep, as `name_of` names them.
            found = sorted(entry.name for entry in folders if entry.is_dir(follow_symlinks=False))
        for folder in found:
            with os.scandir(self._folder / folder) as files:
                for file in files:
                    # It may go away while it is looked at: then it is of no concern.
                    with contextlib.suppress(FileNotFoundError):
                        if file.is_file(follow_symlinks=False):
                            status = file.stat(follow_symlinks=False)
                            yield Entry(f"{folder}/{file.name}", status.st_size, status.st_mtime)

    def _path(self, name: str) -> Path:
        return self._folder / name


async def gathered(chunks: AsyncGenerator[bytes], size: int) -> AsyncGenerator[bytes]:
    """The same bytes in pieces of at least `size`, but for the last: empty where there are none."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        if len(buffer) >= size:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


async def _in_thread(work: Callable[..., T], *args: Any) -> T:
    """Run it in a thread, and see it through also where the caller is cancelled.

    Else its descriptor would be closed under it, and the number soon be another file's, which it would go on writing to.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # Looked at: the cancellation is what counts now.
        raise


def _said(error: OSError) -> BlobError:
    return BlobError(error.strerror or str(error))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _finish(descriptor: int, temporary: Path, final: Path) -> None:
    os.fsync(descriptor)
    made = not final.parent.exists()
    final.parent.mkdir(exist_ok=True, mode=0o700)
    temporary.rename(final)
    sync_folder(final.parent)
    if made:
        sync_folder(final.parent.parent)
