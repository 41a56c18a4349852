"""`pithead miner doctor`, `install-service` and `logs`: the machine, the service, and what it said."""

from __future__ import annotations

import getpass
import logging
import logging.handlers
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import click

from pithead.agent import registration, service
from pithead.cli.identity import profile_option
from pithead.cli.output import clean, emit, fail, json_option, table
from pithead.cli.owning import loaded
from pithead.saved import registrations

#: Bytes of a log file, and how many older ones are kept.
_LOG_SIZE: Final = 5 << 20
_OLDER_LOGS: Final = 4
_MARKS: Final = {"ok": "ok", "note": "note", "fault": "FAULT"}


@click.command()
@click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PITHEAD_MODELS_DIR",
    help="A folder of GGUF files; default: pithead/models in your data folder.",
)
@profile_option
@json_option
@click.pass_context
def doctor(context: click.Context, models_dir: Path | None, profile: str) -> None:
    """Look at this machine: what was found, what was not and why, and what to do about it.

    Ends with 1 where something is at fault.
    """
    from pithead.agent.doctor import examine

    found = examine(profile, models_dir or registration.models_folder(), transport=context.obj)

    def show() -> None:
        table(("WHAT", "", "FOUND"), ((f.name, _MARKS[f.grade], f.found) for f in found.findings))
        for finding in found.findings:
            if finding.do:
                click.echo(f"{finding.name}: {clean(finding.do)}")
        click.echo("No fault." if found.healthy else "There are faults; see above.")

    emit({"healthy": found.healthy, "hardware": found.hardware, "findings": found.findings}, show)
    if not found.healthy:
        sys.exit(1)


@click.command("install-service")
@click.option("--system", is_flag=True, help="For the system's manager, as this user; default: for your own manager.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Write it there instead.")
@click.option("--print", "print_", is_flag=True, help="Print it, and write nothing.")
@profile_option
@json_option
def install_service(system: bool, folder: Path | None, print_: bool, profile: str) -> None:
    """Write a systemd unit that keeps this miner running, and check it.

    The unit is hardened, and watched: an agent that hangs is started anew. Nothing is started by this command; it says
    what to run.
    """
    registrations.load(profile)
    folders = sorted({registration.settings_file().parent, *registration.writable()})
    for each in folders:
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = ("PITHEAD_CONFIG_DIR", "PITHEAD_MODELS_DIR", "CUDA_VISIBLE_DEVICES")
    unit = service.Unit(
        profile=profile,
        drain_seconds=loaded(profile).drain_seconds,
        folders=folders,
        environment=[(name, os.environ[name]) for name in kept if os.environ.get(name)],
        user=getpass.getuser() if system else None,
    )
    if print_:
        click.echo(unit.text(), nl=False)
        return
    default = Path("/etc/systemd/system") if system else Path.home() / ".config" / "systemd" / "user"
    file = (folder or default) / unit.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(unit.text(), encoding="utf-8")
    wrong = service.check(file, user=not system)
    if wrong:
        fail(f"{file} is written, but systemd-analyze finds fault with it: {wrong}; mend it before you start it", 1)
    control = "systemctl" if system else "systemctl --user"
    steps = [f"{control} daemon-reload", f"{control} enable --now {unit.name}"]
    if not system:
        # Else it ends when its user logs out.
        steps.append(f"loginctl enable-linger {getpass.getuser()}")

    def show() -> None:
        checked = "not checked: systemd-analyze cannot be asked here" if wrong is None else "checked by systemd-analyze"
        click.echo(f"Wrote {file} ({checked}). Start it with:")
        for step in steps:
            click.echo(f"  {step}")

    emit({"path": str(file), "checked": wrong is not None, "next": steps}, show)


@click.command()
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until interrupted.")
@profile_option
def logs(lines: int, follow: bool, profile: str) -> None:
    """What the agent said. The log is kept in files of 5 MB, five of them at the most."""
    file = log_file(profile)
    if not file.exists():
        fail(f"there is no log in {file}; start the agent with 'pithead miner run'")
    with file.open(encoding="utf-8", errors="replace") as log:
        for line in deque(log, lines):
            click.echo(_printable(line))
        reached = log.tell()
        number = os.fstat(log.fileno()).st_ino
    while follow:
        time.sleep(0.2)
        try:
            found = file.stat()
        except FileNotFoundError:
            continue
        if found.st_ino != number or found.st_size < reached:
            number, reached = found.st_ino, 0
        if found.st_size > reached:
            with file.open(encoding="utf-8", errors="replace") as log:
                log.seek(reached)
                for line in log:
                    click.echo(_printable(line))
                reached = log.tell()


def _printable(line: str) -> str:
    return clean(line.rstrip("\n"))


def log_file(profile: str) -> Path:
    """Where the agent of that name writes its log. Ends the command where none is registered."""
    return registration.log_file(registrations.load(profile).miner_id)


def rotating(file: Path) -> logging.Handler:
    """A handler that writes there, to files that only their owner can read."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    class Private(logging.handlers.RotatingFileHandler):
        def _open(self) -> Any:
            return os.fdopen(
                os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
            )

    handler = Private(file, maxBytes=_LOG_SIZE, backupCount=_OLDER_LOGS)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler
