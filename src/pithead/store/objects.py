"""Blobs as objects in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure, through `obstore`."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Final

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from pithead.exchange.blobs import BATCH, BlobError, Entry, NoSuchBlob
from pithead.store.blobs import gathered

#: The size of a part of a multipart upload; S3 takes none below 5 MiB, and at most 10,000 of them.
_PART: Final = 8 << 20
#: Bytes are fetched in pieces of this size, a request each. One request for all would be held open by a slow reader,
#: and could not be tried again in its middle.
_PIECE: Final = 4 << 20
#: What a call may take with all its retries.
_PATIENCE: Final = timedelta(seconds=30)
_FAILURES: Final = (BaseError, OSError)
_REFUSALS: Final = (PermissionDeniedError, UnauthenticatedError, FileNotFoundError)

_log = logging.getLogger("pithead.blobs")


def open_bucket(url: str, options: Mapping[str, str], *, allow_http: bool = False) -> ObjectStore:
    """The store that a URL names. Credentials come from the environment, as `obstore` reads it. Raises `BlobError`."""
    try:
        store: ObjectStore = from_url(
            url,
            config=dict(options) or None,  # type: ignore[call-overload]
            client_options={"allow_http": allow_http},
            retry_config={"max_retries": 4, "retry_timeout": _PATIENCE},
        )
    except (BaseError, ValueError, OSError) as error:
        raise BlobError(_line(error)) from error
    return store


class _Abort(Exception):
    """Ends an upload."""


class ObjectBlobs:
    """Implements `exchange.blobs.Blobs`. An object appears when its upload is completed, and not before."""

    suffix = ""

    def __init__(self, store: ObjectStore, url: str) -> None:
        self._store = store
        self._url = url

    def describe(self) -> str:
        return self._url

    async def check(self) -> None:
        try:
            async for _ in obstore.list(self._store, chunk_size=1):
                break
        except _FAILURES as error:
            # What the service refuses stays refused. What it does not answer may be answered soon, and an exchange
            # whose results wait is better than none.
            if isinstance(error, _REFUSALS) or re.search(r"status code: 4\d\d", str(error)):
                raise BlobError(_line(error)) from error
            _log.warning("the blob store %s cannot be reached now: %s", self._url, _line(error))

    async def put(self, name: str, chunks: AsyncGenerator[bytes]) -> None:
        async with contextlib.aclosing(chunks), contextlib.aclosing(gathered(chunks, _PART)) as parts:
            first = await anext(parts)
            try:
                if len(first) < _PART:
                    await obstore.put_async(self._store, name, first, use_multipart=False)
                else:
                    await self._put_parts(name, first, parts)
            except _FAILURES as error:
                raise BlobError(_line(error)) from error

    async def _put_parts(self, name: str, first: bytes, parts: AsyncGenerator[bytes]) -> None:
        """A multipart upload, which is aborted where `parts` fails or the caller is cancelled.

        The library aborts an upload when the iterator that it was given raises, and must not be left in the middle of
        one. So it gets an iterator over a queue, which we end in an error where there is one.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        failed = False

        async def queued() -> AsyncGenerator[bytes]:
            while (part := await queue.get()) is not None:
                yield part
            if failed:
                raise _Abort

        async def upload() -> None:
            await obstore.put_async(self._store, name, queued(), chunk_size=_PART, max_concurrency=2)

        async def hand_over(part: bytes | None) -> None:
            handing = asyncio.ensure_future(queue.put(part))
            try:
                await asyncio.wait({handing, task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                handing.cancel()
            if task.done():
                await task  # Where it ended before its time, this raises why.

        task = asyncio.create_task(upload())
        try:
            await hand_over(first)
            async for part in parts:
                await hand_over(part)
            await hand_over(None)
            await asyncio.shield(task)
        except BaseException:
            if not task.done():
                failed = True
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
                with contextlib.suppress(_Abort, *_FAILURES):
                    await task
            raise

    async def get(self, name: str, start: int, end: int) -> AsyncGenerator[bytes]:
        while start < end:
            try:
                piece = await obstore.get_range_async(self._store, name, start=start, end=min(start + _PIECE, end))
            except FileNotFoundError:
                raise NoSuchBlob(f"there is no blob {name}") from None
            except _FAILURES as error:
                raise BlobError(_line(error)) from error
            data = bytes(piece)
            if not data:
                raise BlobError(f"blob {name} ends at byte {start}, before {end}")
            start += len(data)
            yield data

    async def peek(self, name: str, count: int) -> tuple[int, bytes] | None:
        try:
            size = int((await obstore.head_async(self._store, name))["size"])
            if not size or not count:
                return size, b""
            return size, bytes(await obstore.get_range_async(self._store, name, start=0, end=min(count, size)))
        except FileNotFoundError:
            return None
        except _FAILURES as error:
            raise BlobError(_line(error)) from error

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                await obstore.delete_async(self._store, name)
            except FileNotFoundError:
                pass
            except _FAILURES as error:
                raise BlobError(_line(error)) from error

    async def list(self) -> AsyncGenerator[list[Entry]]:
        try:
            async for batch in obstore.list(self._store, chunk_size=BATCH):
                yield [Entry(one["path"], one["size"], one["last_modified"].timestamp()) for one in batch]
        except _FAILURES as error:
            raise BlobError(_line(error)) from error


def _line(error: BaseException) -> str:
    """The first line of an error's text, as what follows is for obstore's own developers.

    Without the queries of URLs: Azure's may hold a signature that opens the container.
    """
    lines = str(error).strip().splitlines()
    return re.sub(r"\?\S+", "", lines[0].strip()) if lines else type(error).__name__
