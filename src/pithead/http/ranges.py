"""A stored result or file as a response: ranges, validators and digests (RFC 9110), from whichever blob store holds it."""

import asyncio
import base64
import contextlib
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pithead.exchange.blobs import Blobs, NoSuchBlob
from pithead.http.problems import HttpProblem

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d+-\d*|-\d+)([ \t]*,[ \t]*(\d+-\d*|-\d+))*[ \t]*", re.IGNORECASE)
#: A request for more ranges than this gets the whole: many small ones cost more than they save (RFC 9110, 14.2).
_MOST_RANGES: Final = 32

_Span = tuple[int, int]


def spans(wanted: str, size: int) -> list[_Span] | None:
    """The parts that a `Range` asks for, from a byte up to but without another, in order; those that touch are one.

    `None`: the header is to be ignored. Empty: none of what it asks for is there.
    """
    if not _RANGE.fullmatch(wanted):
        return None
    asked = wanted.partition("=")[2].split(",")
    if len(asked) > _MOST_RANGES:
        return None
    found: list[_Span] = []
    for one in asked:
        first, _, last = one.strip(" \t").partition("-")
        if first:
            start, end = int(first), min(int(last) + 1, size) if last else size
            if last and int(last) < int(first):
                return None
        else:
            start, end = max(0, size - int(last)), size
        if start < end:
            found.append((start, end))
    merged: list[_Span] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class StoredResult:
    """Serves a blob whose digest is known: GET and HEAD, whole or by ranges.

    `ETag` and `Repr-Digest` (RFC 9530) are of the whole, also on a part of it.
    """

    def __init__(
        self, blobs: Blobs, name: str, *, digest_hex: str, size: int, filename: str, what: str = "result"
    ) -> None:
        self._blobs = blobs
        self._name = name
        self._size = size
        self._what = what
        digest = base64.b64encode(bytes.fromhex(digest_hex)).decode()
        self._headers = {
            "etag": f'"sha256-{digest_hex}"',
            "repr-digest": f"sha-256=:{digest}:",
            # The bytes under this address never change, but who may read them can.
            "cache-control": "private, no-cache",
            "accept-ranges": "bytes",
            "content-disposition": f'attachment; filename="{filename}"',
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope)
        etag = self._headers["etag"]
        if _names(given.get("if-none-match", ""), etag):
            await Response(status_code=304, headers=self._headers)(scope, receive, send)
            return
        wanted = given.get("range")
        # A range of what it was then: the whole, where it is another now (RFC 9110, 13.1.5).
        asked = spans(wanted, self._size) if wanted is not None and given.get("if-range", etag) == etag else None
        if asked == []:
            raise HttpProblem(
                416,
                "range-not-satisfiable",
                f"The range is not within the {self._what}",
                f"the {self._what} has {self._size} bytes",
                headers={"Content-Range": f"bytes */{self._size}"},
            )
        status, headers, pieces = self._answer(asked)
        headers = self._headers | headers
        async with contextlib.aclosing(pieces):
            head = scope["method"] == "HEAD"
            # The first bytes before the status: what cannot be read must not begin as a 200.
            first = b"" if head else await self._first(pieces)
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": raw})
            if head:
                await send({"type": "http.response.body", "body": b""})
            else:
                await _stream(first, pieces, receive, send)

    def _answer(self, asked: Sequence[_Span] | None) -> tuple[int, dict[str, str], AsyncGenerator[bytes]]:
        """The status, further headers, and the body."""
        kind = "application/octet-stream"
        if asked is None:
            headers = {"content-type": kind, "content-length": str(self._size)}
            return 200, headers, self._blobs.get(self._name, 0, self._size)
        if len(asked) == 1:
            [(start, end)] = asked
            headers = {"content-type": kind, "content-range": f"bytes {start}-{end - 1}/{self._size}"}
            return 206, headers | {"content-length": str(end - start)}, self._blobs.get(self._name, start, end)
        boundary = secrets.token_hex(12)
        titles = [
            f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{end - 1}/{self._size}\r\n\r\n".encode()
            for start, end in asked
        ]
        close = f"--{boundary}--\r\n".encode()
        length = sum(len(title) + end - start + 2 for title, (start, end) in zip(titles, asked, strict=True))
        headers = {"content-type": f"multipart/byteranges; boundary={boundary}"}
        headers["content-length"] = str(length + len(close))
        return 206, headers, self._parts(titles, asked, close)

    async def _parts(self, titles: list[bytes], asked: Sequence[_Span], close: bytes) -> AsyncGenerator[bytes]:
        for title, (start, end) in zip(titles, asked, strict=True):
            async with contextlib.aclosing(self._blobs.get(self._name, start, end)) as pieces:
                # Not before the first bytes: see `__call__`.
                yield title + await anext(pieces)
                async for piece in pieces:
                    yield piece
                yield b"\r\n"
        yield close

    async def _first(self, pieces: AsyncGenerator[bytes]) -> bytes:
        try:
            return await anext(pieces, b"")
        except NoSuchBlob:
            raise HttpProblem(
                404,
                f"{self._what}-gone",
                f"The bytes of the {self._what} are gone",
                "they are no longer in the blob store",
            ) from None


async def _stream(first: bytes, pieces: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    """Send the body, for as long as somebody is there to take it."""
    gone = asyncio.create_task(_gone(receive))
    try:
        piece = first
        while piece and not gone.done():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await anext(pieces, b"")
        if not gone.done():
            await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _names(given: str, etag: str) -> bool:
    """Whether an If-None-Match lists this tag. The comparison is the weak one (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags
