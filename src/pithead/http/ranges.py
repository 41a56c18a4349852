"""A stored result as a response: ranges, validators and digests."""

import base64
import re
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from pithead.http.problems import HttpProblem

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d+-\d*|-\d+)([ \t]*,[ \t]*(\d+-\d*|-\d+))*[ \t]*", re.IGNORECASE)


class FileResult:
    """Serves a file whose digest is known: GET and HEAD, whole or by ranges (RFC 9110).

    `ETag` and `Repr-Digest` (RFC 9530) are of the whole file, also on a part of it. Starlette's FileResponse does the
    ranges; here are the validators, and problems instead of plain text.
    """

    def __init__(self, path: Path, *, digest_hex: str, size: int, filename: str) -> None:
        self._path = path
        self._size = size
        self._filename = filename
        digest = base64.b64encode(bytes.fromhex(digest_hex)).decode()
        self._headers = {
            "etag": f'"sha256-{digest_hex}"',
            "repr-digest": f"sha-256=:{digest}:",
            # The bytes under this address never change, but who may read them can.
            "cache-control": "private, no-cache",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if _names(headers.get("if-none-match", ""), self._headers["etag"]):
            await Response(status_code=304, headers=self._headers)(scope, receive, send)
            return
        wanted = headers.get("range")
        if wanted is not None and not _RANGE.fullmatch(wanted):
            # RFC 9110, 14.2: a Range that cannot be read is ignored.
            scope = dict(scope, headers=[h for h in scope["headers"] if h[0] != b"range"])
        response = FileResponse(
            self._path, headers=self._headers, media_type="application/octet-stream", filename=self._filename
        )

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                raise HttpProblem(
                    416,
                    "range-not-satisfiable",
                    "The range is not within the result",
                    f"the result has {self._size} bytes",
                    headers={"Content-Range": f"bytes */{self._size}"},
                )
            await send(message)

        await response(scope, receive, watch)


def _names(given: str, etag: str) -> bool:
    """Whether an If-None-Match lists this tag. The comparison is the weak one (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags
