"""Files on the disk that a job is shown without being copied into memory: bound into its folder `/input`, read-only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from pithead.agent import leftovers

_PIECE: Final = 1 << 20


@contextlib.asynccontextmanager
async def shown(files: Mapping[str, Path], user: int | None) -> AsyncIterator[dict[str, Path]]:
    """Where bubblewrap finds these files, by the same names, until the block is left. Raises `OSError`.

    Where the agent is root its jobs are other users (`user`), who cannot go through its folders: they find a hard link,
    or where there can be none a copy, in a folder that only this user and root go through.
    """
    for path in files.values():
        _check(path)
    if user is None or not files:
        yield dict(files)
        return
    folder = Path(tempfile.mkdtemp(prefix=leftovers.prefix()))
    placing = asyncio.ensure_future(asyncio.to_thread(_place, files, folder, user))
    try:
        yield await asyncio.shield(placing)
    finally:
        # A thread is not cancelled with the one who waits for it: it must have ended before its folder goes.
        while not placing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([placing])
        if not placing.cancelled():
            placing.exception()
        shutil.rmtree(folder, ignore_errors=True)


def _check(path: Path) -> None:
    """A regular file and no link. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no file")
    finally:
        os.close(descriptor)


def _place(files: Mapping[str, Path], folder: Path, user: int) -> dict[str, Path]:
    placed = {}
    for name, path in files.items():
        target = placed[name] = folder / name
        if path.stat().st_mode & stat.S_IROTH:
            with contextlib.suppress(OSError):
                target.hardlink_to(path)
                continue
        _copy(path, target)
    # Its group may go through; nobody may list or change what is in there.
    os.chown(folder, os.geteuid(), user)
    folder.chmod(0o710)
    return placed


def _copy(path: Path, target: Path) -> None:
    with (
        os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as out,
    ):
        shutil.copyfileobj(source, out, _PIECE)
        os.fchmod(out.fileno(), 0o444)
