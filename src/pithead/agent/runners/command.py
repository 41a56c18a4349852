"""Programs that the owner lists, in the sandbox. A job picks one by its name and gives it an input; the line is the owner's.

A job of the model `command:NAME` has that program run. Its standard input is the job's input, as JSON; what it writes to
standard output is the result. The job's input files are found in the folder `/input`, and so are `files` of the input,
names with base64. The program says by its end what came of it: 0 is done, 65 (`EX_DATAERR` of sysexits.h) means that the input is no good and
that no other miner need try; anything else is a failure that another may retry.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pithead.agent.runners.base import Report, RunFailed, RunResult, Task
from pithead.agent.runners.limits import MIB, Bounds, bounded
from pithead.agent.sandbox import Limits, Outcome, Sandbox, Unavailable, View
from pithead.wire.miners import Metrics

#: What the models of this kind begin with.
PREFIX: Final = "command:"
_BAD_INPUT: Final = 65
#: A program of the system's, by which the kind as such is tried out: it gives back what it is given.
SELF_TEST: Final = "self-test"
#: A shell's word for a program that cannot be started, or is not there.
_NOT_STARTED: Final = (126, 127)
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Command(Bounds, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A program, as its owner has it in `runners.toml`."""

    #: The program, from the root on, and its arguments.
    command: Annotated[list[str], Meta(min_length=1)]
    #: Files and folders that it needs beside the system's, from the root on.
    read: list[str] = msgspec.field(default_factory=list)
    #: Devices that it needs, such as /dev/nvidia0.
    devices: list[str] = msgspec.field(default_factory=list)


def self_test() -> Command:
    """What runs under that name."""
    return Command(command=["/bin/cat"], trial="it works", memory=64, scratch=1, processes=8, seconds=30)


class Commands:
    """Runs what the owner lists."""

    def __init__(self, commands: Mapping[str, Command], sandbox: Sandbox) -> None:
        self._commands, self._sandbox = dict(commands), sandbox

    def models(self) -> list[str]:
        """Their names, as jobs have them."""
        return sorted(PREFIX + name for name in self._commands)

    def trial(self, model: str) -> Any | None:
        """The owner's, where there is one."""
        command = self._commands.get(model.removeprefix(PREFIX))
        return command and command.trial

    def prepare(self, at_once: int) -> None:
        """Each run is on its own."""

    def takes_files(self, model: str) -> bool:
        """Every program may read them."""
        return True

    async def run(self, task: Task, report: Report) -> RunResult:
        """Run the program. Raises `RunFailed`; of kind `sandbox` where it would have to run bare."""
        command = self._commands.get(task.model.removeprefix(PREFIX))
        if command is None or not task.model.startswith(PREFIX):
            raise RunFailed("model_missing", f"this miner has no program {task.model!r}")
        limits = bounded(command.limits(), task.limits)
        given, files = taken_apart(bytes(task.input))
        if twice := sorted(files.keys() & task.files.keys()):
            raise RunFailed("bad_input", f"files: {twice[0]} is an input file too; give one of them another name")
        files |= task.files
        view = View(
            read=tuple(map(Path, command.read)),
            devices=tuple(map(Path, command.devices)),
            environment=command.environment,
        )
        report(None, "running")
        try:
            outcome = await self._sandbox.run(command.command, limits, view=view, stdin=given, files=files)
        except Unavailable:
            raise RunFailed("sandbox", "this miner cannot run programs safely") from None
        except OSError:
            raise RunFailed("error", "this miner could not start the program") from None
        if failure := failure_of(outcome, limits):
            raise failure
        seconds = outcome.seconds
        metrics = Metrics(execution_time_seconds=seconds, gpu_time_seconds=seconds * task.gpu_count)
        return RunResult(outcome.output, metrics)

    async def close(self) -> None:
        """Nothing is kept between runs."""


def failure_of(outcome: Outcome, limits: Limits) -> RunFailed | None:
    """What the program's end means; `None` where it is done."""
    match outcome.stopped:
        case "timeout":
            return RunFailed("timeout", f"the program took longer than the {limits.seconds:g} s that it may here")
        case "out_of_memory":
            return RunFailed("out_of_memory", f"it took more than the {limits.memory // MIB} MB that it may here")
        case "output":
            return RunFailed("error", f"it answered with more than the {limits.output} bytes that it may here")
        case None:
            pass
    if outcome.status == 0:
        return None
    lines = outcome.complaint.strip().splitlines()
    said = f": {lines[-1][:500]}" if lines else ""
    if outcome.status == _BAD_INPUT:
        return RunFailed("bad_input", f"the program does not take this input{said}")
    if outcome.status in _NOT_STARTED:
        return RunFailed("runner_missing", "the program is not where its owner says")
    return RunFailed("error", f"the program ended with {outcome.status}{said}")


def taken_apart(given: bytes) -> tuple[bytes, dict[str, bytes | Path]]:
    """The input without its files, and these. Raises `RunFailed`."""
    try:
        document: Any = msgspec.json.decode(given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RunFailed("bad_input", "the input is not JSON that can be read") from None
    if not isinstance(document, dict) or "files" not in document:
        return given, {}
    named = document.pop("files")
    if not isinstance(named, dict) or not all(isinstance(data, str) for data in named.values()):
        raise RunFailed("bad_input", "files: must be an object of names and base64")
    files: dict[str, bytes | Path] = {}
    for name, data in named.items():
        if not _FILE_NAME.fullmatch(name):
            raise RunFailed("bad_input", f"files: {name[:100]!r} is no name; it has letters, digits, '.', '_' and '-'")
        try:
            files[name] = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise RunFailed("bad_input", f"files: {name} is not base64") from None
    return msgspec.json.encode(document), files
