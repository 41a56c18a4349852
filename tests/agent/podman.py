"""A real engine for tests: Podman where this user may run containers with it, and an image of busybox made here."""

import functools
import io
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@functools.cache
def works() -> bool:
    """Whether containers can be run here with what `make test` installs."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("podman", "runc", "busybox"))):
        return False
    with image() as made:
        line = [
            "podman",
            "run",
            "--rm",
            "--network=none",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            made,
        ]
        return subprocess.run([*line, "true"], capture_output=True, timeout=60, check=False).returncode == 0


@contextmanager
def image(volume: str = "") -> Iterator[str]:
    """An image with busybox and its applets, by its id; `volume`: a folder that it would have on the disk."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in subprocess.check_output([busybox, "--list"], text=True).split():
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    tag = f"localhost/pithead-test:{secrets.token_hex(6)}"
    line = ["podman", "import", "--quiet", *(["--change", f"VOLUME {volume}"] if volume else []), "-", tag]
    made = subprocess.run(line, input=content.getvalue(), capture_output=True, timeout=60, check=True)
    try:
        yield made.stdout.decode().split()[-1]
    finally:
        subprocess.run(["podman", "rmi", "--force", tag], capture_output=True, timeout=60, check=True)


def containers() -> list[str]:
    """All that there are of agents, running or not."""
    line = ["podman", "ps", "--all", "--filter", "label=pithead.host", "--format", "{{.Names}}"]
    return subprocess.check_output(line, text=True, timeout=60).split()
