"""What the exchange asks of the place where the bytes of results and input files are kept, and their way in."""

import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from hashlib import sha256
from typing import Final, Protocol

import msgspec

#: What arrived of an upload that broke off is kept where it is at least this long; less is sooner sent again.
WORTH_KEEPING: Final = 1 << 20
#: How the ids of those begin whose bytes are kept.
JOB: Final = "job_"
FILE: Final = "file_"
#: How many names are looked at together when orphans are collected.
BATCH: Final = 500


class BlobError(Exception):
    """The blob store cannot do it now. The message is one line; asking again is safe."""


class NoSuchBlob(BlobError):
    """There is no blob of this name."""


class TooLarge(Exception):
    """More bytes came than are allowed."""


class Cut(Exception):
    """The bytes ended before their time: the sender went away, or is not heard of any more."""


class Entry(msgspec.Struct, frozen=True):
    """A blob, as a listing shows it."""

    name: str
    #: Bytes as they are stored.
    size: int
    #: When they were last written, by the store's clock, in seconds since the epoch.
    modified_at: float


class Blobs(Protocol):
    """A store of blobs: names, and bytes that never change. Every store passes one suite (tests/store).

    All methods raise `BlobError` for what may go better another time.
    """

    @property
    def suffix(self) -> str:
        """What the names of new blobs end in."""

    def describe(self) -> str:
        """Which one it is, for messages; without secrets."""

    async def check(self) -> None:
        """Whether it can be used at all: reaches it, and changes nothing."""

    async def put(self, name: str, chunks: AsyncGenerator[bytes]) -> None:
        """Store what `chunks` yields. The blob appears whole and durable, or not at all.

        Raises whatever `chunks` raises; then nothing is left. The generator is closed in any case.
        """

    def get(self, name: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """The bytes from `start` up to, but without, `end`. Raises `NoSuchBlob`."""

    async def peek(self, name: str, count: int) -> tuple[int, bytes] | None:
        """How many bytes the blob has, and the first `count` of them; `None` where there is no such blob."""

    async def delete(self, names: Sequence[str]) -> None:
        """Delete blobs; one that is not there is no error."""

    def list(self) -> AsyncGenerator[list[Entry]]:
        """All that lies in the store, in batches of at most `BATCH`: what is on its way in, too, where that shows."""


class Stored(msgspec.Struct, frozen=True):
    """Bytes that arrived, and are durable."""

    blob: str
    #: SHA-256, in hex.
    digest: str
    size: int
    #: Whether that is all, or what arrived before the sender went away.
    whole: bool


def name_of(owner: str, attempt: int = 0, suffix: str = "") -> str:
    """A fresh name for the bytes of this attempt at a job, or of a file.

    Every upload gets one of its own: one that is repeated cannot tear the bytes of another. A name is two hex digits,
    so that no folder grows without bounds, then the job or file, the attempt, chance, and what the store adds.
    """
    unique = f"{owner}-{attempt}-{secrets.token_hex(6)}{suffix}"
    return f"{sha256(unique.encode()).hexdigest()[:2]}/{unique}"


def owner_of(name: str) -> str | None:
    """The id of the job or file whose bytes the blob holds; `None` where the name is none of ours."""
    parts = name.rpartition("/")[2].rsplit("-", 2)
    return parts[0] if len(parts) == 3 and parts[0].startswith((JOB, FILE)) and parts[1].isdigit() else None


async def take_in(
    blobs: Blobs, name: str, chunks: AsyncIterator[bytes], *, limit: int, part: tuple[str, int] | None = None
) -> Stored:
    """Store what `chunks` yields, hashed as it arrives; with `part` (a blob and its size) after those bytes.

    Where `chunks` raises `Cut`, what arrived is stored all the same if it is worth keeping, as not `whole`. The bytes
    of a part are hashed and written anew, so that in the end a result is one blob under one hash, whichever
    coordinators took its parts. Raises `TooLarge`, `Cut`, `BlobError`.
    """
    digest, size, whole = sha256(), 0, True

    async def measured() -> AsyncGenerator[bytes]:
        nonlocal size, whole
        if part is not None:
            async with contextlib.aclosing(blobs.get(part[0], 0, part[1])) as kept:
                async for chunk in kept:
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk
        before = size
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise TooLarge
                digest.update(chunk)
                yield chunk
        except Cut:
            if size - before < WORTH_KEEPING:
                raise
            whole = False

    await blobs.put(name, measured())
    return Stored(name, digest.hexdigest(), size, whole)
