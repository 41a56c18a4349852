"""Input files: their names and hashes before they go up, and their bytes as they come down."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from pithead.client.core import Reply
from pithead.client.errors import FileCorrupted, Misused
from pithead.client.results import beside

#: Files of a job: paths, each under its own name, or paths by the names that the job is to give them.
Files = Iterable[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]
#: Told of an upload: the file's name, the bytes that are there, and how many there will be.
Uploading = Callable[[str, int, int], object]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PIECE: Final = 1 << 20


def is_name(name: str) -> bool:
    """Whether a job can call a file so: no path leads anywhere with such a name."""
    return _NAME.fullmatch(name) is not None


def named(files: Files | None) -> dict[str, Path]:
    """The files by the names that the job gives them. Raises `Misused`."""
    if files is None:
        return {}
    given = files.items() if isinstance(files, Mapping) else [(Path(path).name, path) for path in files]
    found: dict[str, Path] = {}
    for name, path in given:
        if not is_name(name):
            raise Misused(
                what=f"a job cannot call a file {name!r}: letters, digits, '.', '_' and '-' are names; give it another"
            )
        if name in found:
            raise Misused(what=f"two files of the job are called {name!r}; give one of them another name")
        found[name] = there(path)
    return found


def there(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is there. Raises `Misused`."""
    if not Path(path).is_file():
        raise Misused(what=f"{os.fspath(path)!r} is no file that is there; check the path")
    return Path(path)


def digest_of(data: bytes | Path) -> str:
    """SHA-256 in hex, of a file without holding it in memory. Raises `Misused` where it cannot be read."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    try:
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Misused(what=f"{os.fspath(data)!r} cannot be read ({error.strerror}); check the path") from None


class Rest:
    """A file on its way down, into an open file: what that has already is its beginning, and is not asked for again."""

    def __init__(
        self,
        sha256: str,
        file: BinaryIO,
        *,
        size: int | None = None,
        told: Callable[[int], object] = lambda position: None,
    ) -> None:
        """`size`: how many bytes there must be, where that is known. `told` hears how many are there. Reads what is there."""
        self.sha256, self._file, self._size, self._told = sha256, file, size, told
        self._hash = hashlib.sha256()
        self.position = 0
        file.seek(0)
        while piece := file.read(_PIECE):
            self._hash.update(piece)
            self.position += len(piece)

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return self._hash.hexdigest() == self.sha256

    def headers(self) -> Mapping[str, str]:
        """What to ask for."""
        return {"Range": f"bytes={self.position}-"} if self.position else {}

    def begin(self, status: int) -> None:
        """An answer begins: with the rest, or else with all of it."""
        if status != 206:
            self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._file.seek(0)
        self._file.truncate()
        self._hash, self.position = hashlib.sha256(), 0

    def write(self, chunk: bytes, /) -> None:
        """Some more of the bytes."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.position += len(chunk)
        self._told(self.position)
        if self._size is not None and self.position > self._size:
            raise FileCorrupted(sha256=self.sha256, why=f"it has more than {self._size} bytes")

    def finish(self, reply: Reply) -> int:
        """Check it; how many bytes it has. Raises `FileCorrupted`."""
        self._file.flush()
        if not self.whole:
            raise FileCorrupted(sha256=self.sha256, why="its bytes have another hash")
        return self.position


class Place:
    """A download to a path: written beside it under a temporary name, which goes unless `settle` was reached."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._temporary = beside(self._path)
        self.file: BinaryIO = self._temporary.open("x+b")

    def settle(self) -> Path:
        """It is whole: give it its name."""
        self.file.close()
        self._temporary.replace(self._path)
        return self._path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()
        self._temporary.unlink(missing_ok=True)
