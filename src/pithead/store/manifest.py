"""The format of a backup: a folder that other programs can read too. docs/reference/backup.md describes it.

- `manifest.json`: what it is a backup of, and what it holds.
- `SHA256SUMS`: the SHA-256 of every other file, as `sha256sum --check` reads it.
- `pithead.db`, an SQLite file, or `tables/NAME.copy`, each the text form of PostgreSQL's COPY.
- `results/…`: the bytes of results under their names, as they were stored.
- `signing.pem`, or `signing.sealed`: the key that receipts are signed with.
"""

import os
from collections.abc import Callable, Iterator
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import msgspec

from pithead.store.errors import StoreError

#: The format that this program writes, and the newest that it reads.
FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
DATABASE: Final = "pithead.db"
TABLES: Final = "tables"
RESULTS: Final = "results"
#: Files of the data folder that a backup has too, where they are there.
KEYS: Final = ("signing.pem", "signing.sealed")

#: Told of so many files, and so many bytes.
Tell = Callable[[int, int], None]


class Table(msgspec.Struct, frozen=True):
    """A table of the backup."""

    rows: int
    #: In the order of the file; empty where the database is one file.
    columns: list[str] = []


class Sequence(msgspec.Struct, frozen=True):
    """Where the numbers of something stand."""

    last_value: int
    is_called: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of, and what it holds."""

    format: int
    #: The program that made it.
    version: str
    #: When the database's snapshot was taken, in seconds since the epoch, by this machine's clock.
    taken_at: float
    database: Literal["sqlite", "postgresql"]
    #: The newest migration that had run.
    schema: int
    tables: dict[str, Table]
    sequences: dict[str, Sequence] = {}
    #: Results, and parts of results, that it holds.
    results: int
    #: Names of results that the database knows and the store did not have: lost before the backup was made.
    missing: list[str] = []
    #: All files but this one and `SHA256SUMS`, and their bytes.
    files: int
    bytes: int
    #: The SHA-256 of `SHA256SUMS`.
    sums: str


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, durably."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    write_file(folder / MANIFEST, content)


def write_file(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, and put it on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def write_sums(folder: Path, sums: dict[str, str]) -> str:
    """Write the sums of these files, durably; the sum of that file."""
    content = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    write_file(folder / SUMS, content)
    return sha256(content).hexdigest()


def sum_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> Manifest:
    """The manifest of a backup. Raises `StoreError`."""
    if not folder.is_dir():
        raise StoreError(f"there is no backup {folder}; name the folder that 'pithead admin backup' made")
    try:
        content = (folder / MANIFEST).read_bytes()
        said = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        number = msgspec.json.decode(said.get("format", b"0"), type=int)
        if number > FORMAT:
            raise StoreError(
                f"{folder} is a backup of format {number} and this program reads up to {FORMAT}: "
                "restore it with the newer program that made it"
            )
        return msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        raise StoreError(f"{folder} has no {MANIFEST}: it is no backup, or one that was not finished") from None
    except OSError as error:
        raise StoreError(f"cannot read {folder / MANIFEST}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read ({error})") from None


def verify(folder: Path, manifest: Manifest, tell: Tell = lambda files, size: None) -> list[str]:
    """Compare every file with its sum, and what is there with what should be; the names. Raises `StoreError`."""
    try:
        if sum_of(folder / SUMS) != manifest.sums:
            raise _damaged(folder, f"{SUMS} is not what {MANIFEST} says")
        names, size = [], 0
        for digest, name in _sums(folder):
            path = folder / name
            if not path.is_file():
                raise _damaged(folder, f"{name} is missing")
            if sum_of(path) != digest:
                raise _damaged(folder, f"{name} has other bytes than were written")
            names.append(name)
            size += path.stat().st_size
            tell(len(names), size)
    except OSError as error:
        raise _damaged(folder, f"{error.filename} cannot be read ({error.strerror})") from error
    if (len(names), size) != (manifest.files, manifest.bytes):
        raise _damaged(folder, f"it has {len(names)} files and {size} bytes, and not as many as {MANIFEST} says")
    return names


def _sums(folder: Path) -> Iterator[tuple[str, str]]:
    with (folder / SUMS).open(encoding="utf-8") as lines:
        for line in lines:
            digest, _, name = line.rstrip("\n").partition("  ")
            path = PurePosixPath(name)
            # Nothing that leads out of the folder, whoever wrote it.
            if not name or path.is_absolute() or ".." in path.parts:
                raise _damaged(folder, f"{SUMS} names {name!r}")
            yield digest, name


def _damaged(folder: Path, why: str) -> StoreError:
    return StoreError(f"the backup {folder} is damaged: {why}; nothing was changed: restore another one")
