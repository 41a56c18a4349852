"""Temporary folders of the agent, named by its process: what a life that was cut short left is removed by the next."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)


def prefix() -> str:
    """How the names of this process's temporary folders begin."""
    return f"pithead-{os.getpid()}-"


def clear(folder: Path | None = None) -> int:
    """Remove the temporary folders of agents of ours that are no more; how many."""
    removed = 0
    for left in (folder or Path(tempfile.gettempdir())).glob("pithead-*"):
        found = re.fullmatch(r"pithead-(\d{1,9})-\w+", left.name)
        with contextlib.suppress(OSError):
            # Not followed: a link of that name is somebody's trick.
            owned = left.lstat().st_uid == os.getuid() and left.is_dir() and not left.is_symlink()
            if found and owned and not _runs(int(found[1])):
                shutil.rmtree(left)
                removed += 1
    if removed:
        log.info("removed %d temporary folders of an earlier run", removed)
    return removed


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
