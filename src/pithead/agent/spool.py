"""Finished results on disk, until the coordinator has them: work is not lost by a broken line or a restart.

A result is two files of one name: the bytes, then – written last, and moved into place – what is to be said of them. A
name is made from the job's id and the lease token, which come from elsewhere and are never part of a path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from pithead.wire.miners import Metrics

log = logging.getLogger(__name__)

#: The names of the files that are made here.
_OURS: Final = re.compile(r"[0-9a-f]{32}\.(result|json)(\.part)?")


class InUse(Exception):
    """Another agent works with this spool, and so for the same miner."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A result to deliver."""

    job_id: str
    lease_token: str
    #: `sha256:` and the digest of the bytes.
    result_hash: str
    size: int
    metrics: Metrics
    #: The bytes, where they could not be put on disk.
    data: bytes | None = None


class Spool:
    """A folder of finished results. The calls block: they are made in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other agents off it, for as long as this process lives. Raises `InUse`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse from None
            yield

    def add(self, job_id: str, lease_token: str, data: bytes, metrics: Metrics) -> Finished:
        """Put a result on disk. Where that fails, it is kept in memory: to deliver it comes first."""
        finished = Finished(
            job_id=job_id,
            lease_token=lease_token,
            result_hash="sha256:" + hashlib.sha256(data).hexdigest(),
            size=len(data),
            metrics=metrics,
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self.bytes_of(finished), data)
            _write(self._words_of(finished), msgspec.json.encode(finished))
        except OSError as error:
            log.warning("the result of %s cannot be put on disk (%s): kept in memory", job_id, error)
            # The words may be there, and not for sure; half of it would only take room.
            with contextlib.suppress(OSError):
                self._words_of(finished).unlink(missing_ok=True)
                self.bytes_of(finished).unlink(missing_ok=True)
            return msgspec.structs.replace(finished, data=data)
        return finished

    def payload(self, finished: Finished) -> bytes | Path:
        """What to upload."""
        return self.bytes_of(finished) if finished.data is None else finished.data

    def remove(self, finished: Finished) -> None:
        """It was delivered, or nobody wants it any more. What cannot be removed is delivered again later, which is harmless."""
        # The words first: bytes alone are nothing to deliver.
        for file in (self._words_of(finished), self.bytes_of(finished)) if finished.data is None else ():
            _unlink(file)

    def pending(self) -> list[Finished]:
        """What an earlier life of the agent left to deliver. What it left half written is removed; nothing else is."""
        found, known = [], set()
        for words in sorted(self._folder.glob("*.json")):
            try:
                finished = msgspec.json.decode(words.read_bytes(), type=Finished)
                size = self.bytes_of(finished).stat().st_size
                if size != finished.size:
                    raise ValueError(f"{size} bytes of {finished.size}")
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                log.warning("%s in the spool cannot be used: %s", words.name, error)
                continue
            found.append(finished)
            known |= {words.name, self.bytes_of(finished).name}
        for file in self._folder.glob("*") if self._folder.is_dir() else ():
            if _OURS.fullmatch(file.name) and file.name not in known:
                _unlink(file)
        return found

    def bytes_of(self, finished: Finished) -> Path:
        """Where the bytes are."""
        name = hashlib.sha256(f"{finished.job_id}\0{finished.lease_token}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.result"

    def _words_of(self, finished: Finished) -> Path:
        return self.bytes_of(finished).with_suffix(".json")


def _unlink(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed from the spool: %s", file.name, error)


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears whole, and is on the disk when this returns."""
    temporary = path.with_name(path.name + ".part")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # The name is the folder's, and on the disk only with it.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
