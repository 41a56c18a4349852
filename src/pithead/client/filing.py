"""The part of the SDK that is about input files: blocking for `Client`, awaited for `AsyncClient`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pithead.client import calls
from pithead.client.drivers import AsyncDriver, SyncDriver
from pithead.client.files import Place, Rest, Uploading, digest_of, there
from pithead.wire.jobs import FilePage, FileState, FileView


class FileCalls(SyncDriver):
    """An account's files."""

    def _upload(self, name: str, data: bytes | Path, told: Uploading | None) -> FileView:
        sha256 = digest_of(data)
        return self._run(calls.upload_file(sha256, data, name, told))

    def upload_file(self, data: bytes | str | os.PathLike[str], *, on_upload: Uploading | None = None) -> FileView:
        """Upload a file, given as bytes or by its path, for jobs to name by its hash. What is there is not sent again."""
        given = data if isinstance(data, bytes) else there(data)
        return self._upload("" if isinstance(given, bytes) else given.name, given, on_upload)

    def file_state(self, sha256: str) -> FileState:
        """Whether the account has the file, or how much of it."""
        return self._run(calls.file_state(sha256))

    def files(self, *, limit: int | None = None, cursor: str | None = None) -> FilePage:
        """A page of the account's files, the newest first."""
        return self._run(calls.list_files(limit, cursor))

    def iter_files(self, *, page_size: int = 200) -> Iterator[FileView]:
        """All of the account's files, the newest first, fetched as they are asked for."""
        cursor: str | None = None
        while True:
            page = self.files(limit=page_size, cursor=cursor)
            yield from page.files
            if (cursor := page.next_cursor) is None:
                return

    def download_file(self, sha256: str, path: str | os.PathLike[str]) -> Path:
        """The account's file to a path, where it appears only once it is whole and checked. Raises `FileCorrupted`."""
        with Place(path) as place:
            self._run(calls.download_file(Rest(sha256, place.file)))
            return place.settle()

    def delete_file(self, sha256: str) -> FileView:
        """Delete the account's file. Raises `Conflict` while an unfinished job needs it."""
        return self._run(calls.delete_file(sha256))


class AsyncFileCalls(AsyncDriver):
    """An account's files."""

    async def _upload(self, name: str, data: bytes | Path, told: Uploading | None) -> FileView:
        sha256 = await asyncio.to_thread(digest_of, data)
        return await self._run(calls.upload_file(sha256, data, name, told))

    async def upload_file(
        self, data: bytes | str | os.PathLike[str], *, on_upload: Uploading | None = None
    ) -> FileView:
        """Upload a file, given as bytes or by its path, for jobs to name by its hash. What is there is not sent again."""
        given = data if isinstance(data, bytes) else there(data)
        return await self._upload("" if isinstance(given, bytes) else given.name, given, on_upload)

    async def file_state(self, sha256: str) -> FileState:
        """Whether the account has the file, or how much of it."""
        return await self._run(calls.file_state(sha256))

    async def files(self, *, limit: int | None = None, cursor: str | None = None) -> FilePage:
        """A page of the account's files, the newest first."""
        return await self._run(calls.list_files(limit, cursor))

    async def iter_files(self, *, page_size: int = 200) -> AsyncIterator[FileView]:
        """All of the account's files, the newest first, fetched as they are asked for."""
        cursor: str | None = None
        while True:
            page = await self.files(limit=page_size, cursor=cursor)
            for file in page.files:
                yield file
            if (cursor := page.next_cursor) is None:
                return

    async def download_file(self, sha256: str, path: str | os.PathLike[str]) -> Path:
        """The account's file to a path, where it appears only once it is whole and checked. Raises `FileCorrupted`."""
        with Place(path) as place:
            await self._run(calls.download_file(Rest(sha256, place.file)))
            return place.settle()

    async def delete_file(self, sha256: str) -> FileView:
        """Delete the account's file. Raises `Conflict` while an unfinished job needs it."""
        return await self._run(calls.delete_file(sha256))
