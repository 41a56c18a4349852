"""Podman or Docker, whichever is there, and the command lines that they are given.

Both take the same words for what is asked of them here; where they differ, this module knows.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pithead.agent.sandbox import INPUT, WORK, Limits

#: Where engines are looked for, the one without a daemon first.
_PROGRAMS: Final = ("podman", "docker")
#: Says whose a container is; the value is the machine's name, since several may share a daemon.
LABEL: Final = "pithead.host"
#: Users for jobs: systemd's range for users that come and go. Without user namespaces this is who a job is outside, too.
_USERS: Final = range(61184, 65520)
_OPEN_FILES: Final = 1024
#: Seconds after a run's time is over in which Podman ends it by itself, should the agent be no more.
_LATE: Final = 10
#: Both programs hand the owner's proxies, passwords in them included, into containers.
_PROXIES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


class Unavailable(Exception):
    """There is no engine here that works. The message says why and what to do; it is for the owner, not for clients."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to run, and with what in sight."""

    #: By digest: `sha256:…`, or `name@sha256:…`.
    image: str
    #: After the image's own entry point; empty: the image's own.
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whether it has a network.
    network: bool = False
    #: Arguments that hand in GPUs, of `devices`.
    devices: Sequence[str] = ()
    #: What the image would have as volumes, which would lie on the disk without a limit.
    volumes: Sequence[str] = ()
    #: Files on this machine, seen in the folder /input by these names, and only read.
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """A program that runs containers."""

    program: Path

    @property
    def name(self) -> str:
        """`podman` or `docker`: whose words it takes."""
        # Docker's own is sometimes a link to Podman's, and takes Docker's words then.
        return "podman" if "podman" in self.program.name else "docker"

    def create(self, name: str, spec: Spec, limits: Limits) -> list[str]:
        """Makes a container, which does not run yet."""
        user = secrets.choice(_USERS)
        memory = str(limits.memory)
        line = ["create", "--name", name, "--label", f"{LABEL}={socket.gethostname()}", "--interactive"]
        line += ["--pull=never", "--network", _network(spec), "--hostname", "job", "--log-driver=none"]
        line += ["--no-healthcheck", "--ipc=private", "--workdir", WORK]
        # It may change nothing but the scratch folders, which are memory and counted as such.
        line += ["--read-only", f"--shm-size={limits.scratch}"]
        for folder in (WORK, "/tmp", *spec.volumes):  # noqa: S108 (the container's own)
            line += ["--tmpfs", f"{folder}:rw,nosuid,nodev,mode=1777,size={limits.scratch}"]
        line += ["--user", f"{user}:{user}", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        # Swap counts too: the same number means none of it.
        line += ["--memory", memory, "--memory-swap", memory, f"--cpus={limits.cpus:g}"]
        line += [f"--pids-limit={limits.processes}", "--ulimit=core=0:0"]
        line += [f"--ulimit=nofile={_at_most(resource.RLIMIT_NOFILE, _OPEN_FILES)}"]
        line += [f"--ulimit=nproc={_at_most(resource.RLIMIT_NPROC, max(_OPEN_FILES, limits.processes))}"]
        if self.name == "podman":
            line += ["--read-only-tmpfs=false", "--image-volume=ignore", "--systemd=false", "--http-proxy=false"]
            line += [f"--timeout={int(limits.seconds) + _LATE}"]
        else:
            line += [f"--env={word}=" for proxy in _PROXIES for word in (proxy, proxy.upper())]
        for variable, value in ({"HOME": WORK} | dict(spec.environment)).items():
            line.append(f"--env={variable}={value}")
        for there, file in spec.files.items():
            line += ["--mount", f"type=bind,source={file},target={INPUT}/{there},readonly"]
        return [*line, *spec.devices, "--", spec.image, *spec.command]

    def start(self, name: str) -> list[str]:
        """Runs it, with its input and output those of this command."""
        return ["start", "--attach", "--interactive", name]

    def remove(self, name: str) -> list[str]:
        """Ends it at once, and removes it with all that it wrote."""
        return ["rm", "--force", "--volumes", *(["--time=0", "--ignore"] if self.name == "podman" else []), name]

    def kill(self, name: str) -> list[str]:
        """Ends it at once."""
        return ["kill", "--signal=KILL", name]

    def state(self, name: str) -> list[str]:
        """How it ended, as JSON."""
        return ["container", "inspect", "--format", "{{json .State}}", name]

    def ours(self) -> list[str]:
        """The names of all containers of this machine's agents."""
        return ["ps", "--all", "--filter", f"label={LABEL}={socket.gethostname()}", "--format", "{{.Names}}"]

    def volumes_of(self, image: str) -> list[str]:
        """What an image has for volumes, as JSON; fails where the image is not here."""
        return ["image", "inspect", "--format", "{{json .Config.Volumes}}", image]

    def devices(self, maker: Literal["none", "nvidia", "amd"], cards: Sequence[str]) -> list[str]:
        """The arguments that hand in these GPUs, by index or UUID, and no others."""
        if maker == "nvidia" and self.name == "podman":
            # By the names of the Container Device Interface, which NVIDIA's toolkit writes down (nvidia-ctk cdi generate).
            return [f"--device=nvidia.com/gpu={card}" for card in cards]
        if maker == "nvidia":
            # Commas are also what it takes lists of options apart by.
            return [f'--gpus="device={",".join(cards)}"']
        if maker == "amd":
            paths = [Path("/dev/kfd"), *(Path(f"/dev/dri/renderD{128 + int(card)}") for card in cards)]
            groups = sorted({path.stat().st_gid for path in paths if path.exists()})
            return [*(f"--device={path}" for path in paths), *(f"--group-add={group}" for group in groups)]
        return []


def find(named: str = "") -> Engine:
    """The engine that the owner names, or the first that is there. Raises `Unavailable`."""
    for program in [named] if named else _PROGRAMS:
        if found := shutil.which(program):
            return Engine(Path(found))
    if named:
        raise Unavailable(f"there is no program {named}; give engine in runners.toml another")
    raise Unavailable("neither podman nor docker is installed; on Debian: apt install podman")


def environment() -> dict[str, str]:
    """What the engine itself is started with: the agent's variables, less its own."""
    return dict(_foreign(os.environ))


def _foreign(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in variables.items():
        if not name.startswith("PITHEAD_"):
            yield name, value


def _network(spec: Spec) -> str:
    return "bridge" if spec.network else "none"


def _at_most(what: int, wanted: int) -> str:
    """A limit for a process, both soft and hard. More than its own hard limit an engine without rights cannot give."""
    hard = resource.getrlimit(what)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return f"{limit}:{limit}"
