"""Results as they arrive: hashed, compared with the coordinator's `Repr-Digest` (RFC 9530), and only then handed on."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pithead.client.core import Reply
from pithead.client.errors import Corrupted, Misused

_SHA256 = re.compile(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):")


def _check(job_id: str, reply: Reply, actual: bytes) -> None:
    found = _SHA256.search(reply.headers.get("repr-digest", ""))
    # Without a digest nothing was checked: that must not pass for a check.
    if found is None:
        raise Corrupted(job_id=job_id, why="it came without its SHA-256 digest")
    try:
        expected = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise Corrupted(job_id=job_id, why="its digest cannot be read") from None
    if actual != expected:
        raise Corrupted(job_id=job_id, why="its bytes do not match its SHA-256 digest")


def verified(job_id: str) -> Callable[[Reply], bytes]:
    """Checks a result held in memory."""

    def finish(reply: Reply) -> bytes:
        _check(job_id, reply, hashlib.sha256(reply.body).digest())
        return reply.body

    return finish


def beside(path: Path) -> Path:
    """A temporary name for what becomes this file. Raises `Misused`: a device or a pipe would be replaced by the file."""
    if path.exists() and not path.is_file():
        raise Misused(what=f"{path} is there and is no file; give the name of one")
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


class Part:
    """A download on its way: written beside its place under a temporary name, which goes unless `finish` was reached."""

    def __init__(self, job_id: str, path: str | os.PathLike[str]) -> None:
        self.job_id = job_id
        self.path = Path(path)
        self._temporary = beside(self.path)
        self._file: BinaryIO = self._temporary.open("xb")
        self._hash = hashlib.sha256()

    def headers(self) -> Mapping[str, str]:
        """It is asked for as a whole."""
        return {}

    def begin(self, status: int) -> None:
        """Start anew: the attempt before may have left some bytes."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes, /) -> None:
        """Some more of the bytes."""
        self._file.write(chunk)
        self._hash.update(chunk)

    def finish(self, reply: Reply) -> Path:
        """Check, and give the file its name. Raises `Corrupted`."""
        _check(self.job_id, reply, self._hash.digest())
        self._file.close()
        self._temporary.replace(self.path)
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)
