"""A form with a file in it, read as it comes: the file to the disk and under its hash, the fields beside it.

A form has its file's bytes before anybody can know their hash, and the API takes a file by its hash. So they lie on the disk in
between, in a file without a name, under a key that nobody has but this request: what is encrypted at rest stays so.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from pithead.exchange.blobs import BlobError
from pithead.http.problems import HttpProblem

#: Bytes of all fields that are no file, and how many there may be.
_FIELDS: Final = 65_536
_MOST_FIELDS: Final = 50
#: Bytes that are gathered before they are worked on, and read back at a time.
PIECE: Final = 1 << 20


def unreadable(detail: str) -> HttpProblem:
    """What is said of a form that is none."""
    return HttpProblem(400, "unreadable", "The form cannot be read", detail)


class Spool:
    """Bytes that are written once and then read once."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        cipher = Cipher(algorithms.AES(secrets.token_bytes(32)), modes.CTR(secrets.token_bytes(16)))
        self._seal, self._unseal = cipher.encryptor(), cipher.decryptor()
        self._hash = sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Some more. Raises `BlobError`."""
        self._hash.update(data)
        self.size += len(data)
        try:
            self._file.write(self._seal.update(data))
        except OSError as error:
            raise BlobError(f"a file on its way from a form could not be put down: {error.strerror}") from error

    def rewind(self) -> None:
        """All is written. Raises `BlobError`."""
        try:
            self._file.seek(0)
        except OSError as error:
            raise BlobError(f"a file on its way from a form could not be put down: {error.strerror}") from error

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        return self._unseal.update(self._file.read(PIECE))

    def close(self) -> None:
        """Let it go."""
        self._file.close()


class FileForm:
    """The fields of a form, and its one file, if one was chosen."""

    def __init__(self, boundary: bytes, folder: Path, limit: int, check: Callable[[Mapping[str, str]], object]) -> None:
        """`check` is handed the fields that came before the file, and raises where that is not to be taken in."""
        self.fields: dict[str, str] = {}
        #: What the file is called where it comes from.
        self.filename = ""
        self.spool: Spool | None = None
        self._folder, self._limit, self._check = folder, limit, check
        self._bytes = 0
        self._parts = 0
        self._name = self._header = ""
        self._headers: dict[str, bytes] = {}
        self._value = bytearray()
        self._into_file = self._over = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_begin": self._header_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._all,
            },
        )

    def feed(self, data: bytes) -> None:
        """Some more of the body. Raises `HttpProblem`, `BlobError`."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise unreadable("it is not what a browser sends") from None

    def finish(self) -> None:
        """It has ended. Raises `HttpProblem`, `BlobError`."""
        if not self._over:
            raise unreadable("it ended early; send it again")
        if self.spool is not None:
            self.spool.rewind()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.spool is not None:
            self.spool.close()

    # -- what the parser tells

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_FIELDS:
            raise unreadable(f"it has more than {_MOST_FIELDS} fields")
        self._headers, self._value, self._into_file = {}, bytearray(), False

    def _header_begin(self) -> None:
        self._header = ""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].decode("latin-1").lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._header] = self._headers.get(self._header, b"") + data[start:end]

    def _headers_finished(self) -> None:
        _, said = parse_options_header(self._headers.get("content-disposition"))
        self._name = said.get(b"name", b"").decode("utf-8", "replace")
        # Where no file was chosen, browsers send one without a name and without a byte.
        if said.get(b"filename"):
            self._check(self.fields)
            if self.spool is not None:
                raise unreadable("it has more than one file")
            self.filename = said[b"filename"].decode("utf-8", "replace")
            self.spool, self._into_file = Spool(self._folder), True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._into_file:
            assert self.spool is not None
            if self.spool.size + end - start > self._limit:
                raise too_large(self._limit)
            self.spool.write(data[start:end])
            return
        self._bytes += end - start
        if self._bytes > _FIELDS:
            raise unreadable("its fields are too long")
        self._value += data[start:end]

    def _end(self) -> None:
        if not self._into_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _all(self) -> None:
        self._over = True


def too_large(limit: int) -> HttpProblem:
    """What is said of a file with too many bytes, as the API says it."""
    return HttpProblem(400, "body-too-large", "The file is too large", f"an input file may have {limit} bytes")


async def read_form(request: Request, form: FileForm, silence: float) -> None:
    """Read the whole of a request into the form. `silence`: seconds without a byte after which it counts as broken off."""
    async for piece in _pieces(request, silence):
        # Parsed, hashed, encrypted and written, by nobody that others wait for.
        await asyncio.to_thread(form.feed, piece)
    await asyncio.to_thread(form.finish)


async def _pieces(request: Request, silence: float) -> AsyncIterator[bytes]:
    gathered, stream = bytearray(), aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(silence):
                chunk = await anext(stream, None)
        except (TimeoutError, ClientDisconnect):
            raise unreadable("it ended early; send it again") from None
        if chunk is None:
            break
        gathered += chunk
        if len(gathered) >= PIECE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def boundary_of(request: Request) -> bytes:
    """What stands between the parts. Raises `HttpProblem` where it is no form with a file."""
    kind, said = parse_options_header(request.headers.get("content-type"))
    boundary: Any = said.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 256:
        raise unreadable("it is no form with a file")
    return bytes(boundary)


def job_name(filename: str) -> str:
    """What a job may call a file that is called so where it comes from."""
    last = re.split(r"[/\\]", filename)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-")[:100] or "file"
