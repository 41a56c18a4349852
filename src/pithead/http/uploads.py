"""Bytes on their way in: bounded, hashed as they arrive, and kept where they break off, to be gone on with."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from pithead.core.errors import Fault, Invalid
from pithead.exchange.blobs import BlobError, Blobs, Cut, Stored, TooLarge, take_in
from pithead.http.api import Call
from pithead.http.decode import header
from pithead.http.problems import HttpProblem


class Incoming:
    """An upload: the body of one request, or with an `Upload-Offset` the rest of what an earlier one began."""

    def __init__(self, call: Call, what: str, limit: int) -> None:
        """`what` may have `limit` bytes. Raises a problem where it announces more, before anything is read."""
        self._call, self._what, self._limit = call, what, limit
        self.offset = _offset(call)
        length = header(call.scope, b"content-length")
        #: How many bytes it will have in all, where that is announced.
        self.announced = self.offset + int(length) if length is not None and length.isdigit() else None
        if self.announced is not None and self.announced > limit:
            raise self._too_large()

    async def take_in(self, name: str, part_blob: str | None, part_size: int | None) -> Stored:
        """Store it under this name, behind the part that is there where it goes on from its end.

        Raises a problem: of status 409 where it goes on from another byte, 503 where so little came that it is not kept.
        """
        kept = part_size or 0
        if self.offset and self.offset != kept:
            raise HttpProblem(
                409,
                "upload-offset-mismatch",
                "The upload goes on from another byte",
                f"the coordinator has the first {kept} bytes: send the bytes from there on, or all of them",
                headers={"Upload-Offset": str(kept)},
            )
        part = (part_blob, self.offset) if self.offset and part_blob is not None else None
        try:
            return await take_in(self._call.services.blobs, name, self._chunks(), limit=self._limit, part=part)
        except TooLarge:
            raise self._too_large() from None
        except Cut:
            raise _cut_short(kept) from None

    async def settle(self, stored: Stored, replaced: Sequence[str]) -> None:
        """It is recorded: delete what it replaces. Raises a problem of status 503 where it is not whole."""
        await discard(self._call.services.blobs, replaced)
        if not stored.whole:
            raise _cut_short(stored.size)

    def _too_large(self) -> HttpProblem:
        return HttpProblem(400, "body-too-large", "The body is too large", f"{self._what} may have {self._limit} bytes")

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._call.services.upload_silence):
                    message = await self._call.receive()
            except TimeoutError:
                # Of a machine that has gone without a word nothing else is ever heard.
                raise Cut from None
            if message["type"] == "http.disconnect":
                raise Cut
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return


async def discard(blobs: Blobs, names: Sequence[str]) -> None:
    """Delete blobs that nothing names any more. What is not deleted now is an orphan, and collected as one."""
    with contextlib.suppress(BlobError):
        await blobs.delete(names)


def _offset(call: Call) -> int:
    text = header(call.scope, b"upload-offset")
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Invalid(Fault("Upload-Offset", "must be a number of bytes"))
    return int(text)


def _cut_short(kept: int) -> HttpProblem:
    # Asking again is safe and useful, which is what a 503 says. Whoever went away does not hear it.
    detail = f"the first {kept} bytes are kept: send the rest, with them as Upload-Offset" if kept else "send it again"
    headers = {"Upload-Offset": str(kept), "Retry-After": "1"}
    return HttpProblem(503, "cut-short", "The body ended early", detail, headers=headers)
