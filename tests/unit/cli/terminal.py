"""A command on a terminal of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys


def drawn_by(*arguments: str, **environment: str) -> bytes:
    """All that Python with these arguments draws there, until it ends, and that with 0."""
    ours, theirs = pty.openpty()
    command, env = [sys.executable, *arguments], os.environ | {"TERM": "xterm", **environment}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        drawn = b""
        try:
            while chunk := os.read(ours, 65536):
                drawn += chunk
        except OSError:
            pass  # Linux says EIO where the other end is closed.
        assert process.wait(30) == 0
    os.close(ours)
    return drawn
