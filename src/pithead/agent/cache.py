"""Input files of jobs on this machine: fetched once, checked by their hashes, and kept for later jobs up to a size.

Guarantees, each with a test:

- A file is known by its hash alone. No name that comes from elsewhere is part of a path, and no link is followed.
- What a runner gets has the hash that the job names: a file that was changed on the disk meanwhile is fetched anew.
- Jobs that need the same file at the same time wait for one fetch; if its job ends meanwhile, the next one goes on with it.
- What a running job reads stays; of the rest, what was used the longest ago goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pithead.agent.line import Line
from pithead.agent.runners.base import Report, RunFailed
from pithead.client import ApiError, AsyncMinerClient, FileCorrupted, Rest, Unauthorized
from pithead.client.files import is_name
from pithead.wire.miners import JobFile

log = logging.getLogger(__name__)

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
#: The names of the files that are made here.
_OURS: Final = re.compile(r"[0-9a-f]{64}(\.part)?")
_PART: Final = ".part"
#: What a disk says on which there is no room.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
#: Times that a file may arrive with another hash before that is taken for what is stored.
_TRIES: Final = 2

#: What tells one state of a file from the next, without reading it.
_Stamp = tuple[int, int, int]


class Cache:
    """A folder of input files. For one event loop, and one agent at a time."""

    def __init__(
        self,
        folder: Path,
        limit: Callable[[], int],
        moved: Callable[[int], object] = lambda size: None,
    ) -> None:
        """`limit`: how many bytes it may have now. `moved` is told of bytes that came over the line."""
        self._folder, self._limit, self._moved = folder, limit, moved
        #: How many running jobs need each file, and its size.
        self._pins: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._unpinned = asyncio.Condition()
        #: One fetch at a time of each file.
        self._fetching: dict[str, asyncio.Lock] = {}
        #: The files as they were when their hashes were last found right.
        self._checked: dict[str, _Stamp] = {}
        self._trimming = asyncio.Lock()
        self._trimmed_to: int | None = None

    @asynccontextmanager
    async def holding(
        self, client: AsyncMinerClient, line: Line, job_id: str, token: str, files: Sequence[JobFile], report: Report
    ) -> AsyncIterator[Mapping[str, Path]]:
        """The job's files by their names, until the block is left. Raises `RunFailed`."""
        wanted = {file.sha256: file for file in files}
        if not all(_SHA256.fullmatch(file.sha256) and is_name(file.name) for file in files):
            raise RunFailed("error", "the job's input files have names or hashes that are none")
        await self._pin({sha256: file.size for sha256, file in wanted.items()})
        try:
            try:
                await self._make_room()
            except OSError as error:
                raise _unwritable(job_id, error) from None
            done, total = 0, sum(file.size for file in wanted.values())
            for file in wanted.values():

                def told(position: int, before: int = done, name: str = file.name) -> None:
                    report(min(1.0, (before + position) / total) if total else None, f"fetching {name}")

                told(0)
                lock = self._fetching.setdefault(file.sha256, asyncio.Lock())
                async with lock:
                    await self._provide(client, line, job_id, token, file, told)
                done += file.size
            yield {file.name: self._folder / file.sha256 for file in files}
        finally:
            await asyncio.shield(self._unpin(wanted))

    async def trim(self) -> None:
        """Remove what is beyond the limit, if that has changed."""
        if self._limit() != self._trimmed_to:
            with _at_most_said():
                await self._make_room()

    # -- room

    async def _pin(self, sizes: Mapping[str, int]) -> None:
        """Wait until there is room for these beside what running jobs read, and keep it. All at once: who has some waits
        for no more, so nobody waits for ever.
        """
        need = sum(sizes.values())
        if need > self._limit():
            raise RunFailed(
                "over_limit", f"the job's files have {need} bytes; this miner keeps {self._limit()} at the most"
            )
        async with self._unpinned:
            await self._unpinned.wait_for(
                lambda: not self._pins or sum({**self._sizes, **sizes}.values()) <= self._limit()
            )
            self._pins.update(sizes.keys())
            self._sizes |= sizes

    async def _unpin(self, wanted: Mapping[str, object]) -> None:
        async with self._unpinned:
            self._pins.subtract(wanted.keys())
            for sha256 in [one for one in wanted if self._pins[one] <= 0]:
                del self._pins[sha256]
                del self._sizes[sha256]
                if (lock := self._fetching.get(sha256)) is not None and not lock.locked():
                    del self._fetching[sha256]
            self._unpinned.notify_all()
        with _at_most_said():
            await self._make_room()

    async def _make_room(self, limit: int | None = None) -> None:
        async with self._trimming:
            if limit is None:
                limit = self._trimmed_to = self._limit()
            pinned = dict(self._sizes)
            for name in await asyncio.to_thread(self._evict, limit, pinned):
                self._checked.pop(name, None)

    def _evict(self, limit: int, pinned: Mapping[str, int]) -> list[str]:
        """Remove files until there is room for the pinned ones; which."""
        self._make_folder()
        total, others = sum(pinned.values()), []
        for name, status in self._ours():
            if name.removesuffix(_PART) not in pinned:
                others.append((status.st_mtime, name, status.st_size))
                total += status.st_size
        removed = []
        for _, name, size in sorted(others):
            if total <= limit:
                break
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
                total -= size
                removed.append(name)
        if removed:
            log.info("removed %d input files, used the longest ago", len(removed))
        return removed

    def _ours(self) -> list[tuple[str, os.stat_result]]:
        found = []
        for entry in os.scandir(self._folder):
            if _OURS.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
        return found

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(errno.ENOTDIR, "is no folder of this user's", str(self._folder))
        # Also where somebody made it first: nobody else goes through.
        if stat.S_IMODE(status.st_mode) != 0o700:
            self._folder.chmod(0o700)

    # -- one file

    async def _provide(
        self, client: AsyncMinerClient, line: Line, job_id: str, token: str, file: JobFile, told: Callable[[int], None]
    ) -> None:
        """See that the file is there, whole and unchanged."""
        try:
            if await self._is_good(file):
                return
            try:
                await self._fetch(client, line, job_id, token, file, told)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                # There is less room than the owner allows: what nobody reads goes, and the rest comes once more.
                await self._make_room(0)
                await self._fetch(client, line, job_id, token, file, told)
        except OSError as error:
            raise _unwritable(job_id, error) from None

    async def _is_good(self, file: JobFile) -> bool:
        stamp = await asyncio.to_thread(self._look, file, self._checked.get(file.sha256))
        if stamp is None:
            self._checked.pop(file.sha256, None)
            return False
        self._checked[file.sha256] = stamp
        return True

    def _look(self, file: JobFile, checked: _Stamp | None) -> _Stamp | None:
        """The stamp of the file, if it is what it should be; what is not goes."""
        path = self._folder / file.sha256
        try:
            with os.fdopen(_opened(path, os.O_RDONLY), "rb") as content:
                status = os.fstat(content.fileno())
                good = status.st_size == file.size and (
                    _stamp(status) == checked or hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
                )
                if good:
                    # When it was last used, for whoever makes room.
                    os.utime(content.fileno())
                    return _stamp(os.fstat(content.fileno()))
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s in the cache is no file: %s", path.name, error)
        else:
            log.warning("%s in the cache is not what it was: fetched anew", path.name)
        path.unlink(missing_ok=True)
        return None

    async def _fetch(
        self, client: AsyncMinerClient, line: Line, job_id: str, token: str, file: JobFile, told: Callable[[int], None]
    ) -> None:
        part = self._folder / f"{file.sha256}{_PART}"
        # Opened and closed here, and not in a thread that may outlive a cancelled job.
        with _begun(part) as content:
            rest = await asyncio.to_thread(Rest, file.sha256, content, size=file.size, told=told)
            for _ in range(_TRIES):
                before = rest.position
                try:
                    if not (rest.position == file.size and rest.whole):
                        if rest.position >= file.size:
                            rest.clear()
                        await line.insist(lambda: client.fetch_input(job_id, rest, token))
                except FileCorrupted as error:
                    log.warning("%s: input file %s: %s", job_id, file.name, error)
                    rest.clear()
                    continue
                except Unauthorized:
                    raise
                except ApiError as error:
                    raise RunFailed("error", f"input file {file.name} cannot be fetched: {error.detail}") from None
                finally:
                    self._moved(max(0, rest.position - before))
                break
            else:
                raise RunFailed("error", f"input file {file.name} arrives with another hash than the job names")
            self._checked[file.sha256] = self._settle(content, part, file.sha256)

    def _settle(self, content: BinaryIO, part: Path, sha256: str) -> _Stamp:
        """Give the file its name. From here on nobody writes to it, and a job of another user can read it where it is shown."""
        content.flush()
        os.fchmod(content.fileno(), 0o444)
        part.replace(self._folder / sha256)
        return _stamp(os.fstat(content.fileno()))


def _unwritable(job_id: str, error: OSError) -> RunFailed:
    log.warning("the input files of %s: %s", job_id, error)
    why = "has no room on its disk" if error.errno in _FULL else "cannot write to its disk"
    return RunFailed("error", f"this miner {why} for the job's input files")


@contextlib.contextmanager
def _at_most_said() -> Iterator[None]:
    """What cannot be removed now is tried again with the next job."""
    try:
        yield
    except OSError as error:
        log.warning("the cache of input files cannot be looked after: %s", error)


def _stamp(status: os.stat_result) -> _Stamp:
    # Without the time of the last change of any kind: that a job is shown the file by another name is one.
    return status.st_ino, status.st_size, status.st_mtime_ns


def _begun(part: Path) -> BinaryIO:
    """What there is of a file, to go on with. What is no file of ours goes first."""
    flags = os.O_RDWR | os.O_CREAT
    try:
        descriptor = _opened(part, flags)
    except OSError:
        part.unlink(missing_ok=True)
        descriptor = _opened(part, flags)
    return os.fdopen(descriptor, "r+b")


def _opened(path: Path, flags: int) -> int:
    """The descriptor of a regular file of this user's; no link is followed. Raises `OSError`."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no file of this user's", str(path))
    return descriptor
