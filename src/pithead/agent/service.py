"""The agent as a systemd service: the unit, and what it says to the manager (`sd_notify`, one datagram a word)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Seconds without a word after which the manager restarts the agent.
WATCHDOG: Final = 120
#: Seconds beyond the owner's limit that an end may take.
_FAREWELL: Final = 30


def notify(*words: str) -> None:
    """Say something to the manager (`READY=1`, `WATCHDOG=1`, `STATUS=…`); nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # A name that begins with @ is one of the abstract kind, which begins with a zero byte.
    name = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.sendto("\n".join(words).encode(), name)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What the service is made of. `folders` are those that it may write to; they exist."""

    profile: str
    drain_seconds: float
    folders: Sequence[Path]
    environment: Sequence[tuple[str, str]] = ()
    #: The user to run as, for a service of the system; `None` for one of the user's own manager.
    user: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return "pithead-miner.service" if self.profile == "default" else f"pithead-miner-{self.profile}.service"

    def text(self) -> str:
        """The unit. What jobs need of the kernel – namespaces for the sandbox, the GPU's devices – is left to them."""
        command = f"{_quoted(sys.executable)} -m pithead.cli.main miner run --profile {self.profile}"
        lines = [
            "[Unit]",
            f"Description=Pithead miner ({self.profile})",
            *(("Wants=network-online.target", "After=network-online.target") if self.user else ()),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={command}",
            *(f"Environment={_quoted(f'{name}={value}')}" for name, value in self.environment),
            *([f"User={self.user}"] if self.user else []),
            f"WatchdogSec={WATCHDOG}",
            "Restart=always",
            "RestartSec=10",
            # 2: it cannot run as it is set up, and starting it again would change nothing.
            "RestartPreventExitStatus=2",
            "KillSignal=SIGTERM",
            # Its runners' processes are the agent's to end; what is left after the time is killed all the same.
            "KillMode=mixed",
            f"TimeoutStopSec={self.drain_seconds + _FAREWELL:.0f}",
            "OOMPolicy=continue",
            "UMask=0077",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=read-only",
            *(f"ReadWritePaths={_quoted(str(folder))}" for folder in self.folders),
            "PrivateTmp=yes",
            "ProtectKernelTunables=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "LockPersonality=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
            "SystemCallArchitectures=native",
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if self.user else 'default.target'}",
            "",
        ]
        return "\n".join(lines)


def _quoted(text: str) -> str:
    """A word of a unit: `%` and `$` mean nothing in it, and blanks do not end it."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if any(c.isspace() or c in "\"'\\" for c in text) else text


def check(file: Path, *, user: bool) -> str | None:
    """What `systemd-analyze verify` finds wrong with the unit; empty: nothing; `None`: it cannot be asked here."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return None
    done = subprocess.run(  # noqa: S603 (a program of the system's, with a path of ours)
        [program, *(["--user"] if user else []), "--man=no", "verify", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode and not any(file.name in line for line in done.stderr.splitlines()):
        return None
    # Other units of the system may be wrong too: only what is said of this one counts.
    return "\n".join(line for line in done.stderr.splitlines() if file.name in line)
