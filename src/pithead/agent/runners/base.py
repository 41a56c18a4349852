"""What a runner is: something that has models and turns an assignment into the bytes of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from pithead.wire.miners import Assignment, FailureKind, Metrics


class Report(Protocol):
    """Told how a run gets on. Never waits."""

    def __call__(self, fraction: float | None, message: str, output: str = "", /) -> None:
        """How far it is, 0 to 1 or `None`; a few words; and what it brought forth since the last time, for those who watch."""
        ...


class Task(Assignment, kw_only=True):
    """A job as a runner gets it: the assignment, and where what it needs lies on this machine."""

    #: Its input files by the names that the job gives them, fetched and checked against their hashes. They are to be read
    #: only, and for as long as the run lasts: other jobs may be reading them too.
    files: Mapping[str, Path] = {}


def task_of(assignment: Assignment, files: Mapping[str, Path] | None = None) -> Task:
    """The assignment, with its files."""
    return Task(**{name: getattr(assignment, name) for name in Assignment.__struct_fields__}, files=files or {})


class About(msgspec.Struct, frozen=True):
    """What a model is, for the rules of its owner."""

    #: Of which kind its runner is: the word before the dot in `runners.toml`, a plug-in's own name, or `llama`.
    kind: str
    #: The digest of the image that it runs, where it is one.
    image: str = ""


class RunResult(msgspec.Struct, frozen=True):
    """The bytes to deliver, and what was measured."""

    data: bytes
    metrics: Metrics


class RunFailed(Exception):
    """A run that came to nothing. The reason goes to the client: it must not tell of the machine's files or secrets."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind
        self.reason = reason


class Runner(Protocol):
    """Runs jobs, several at a time; never blocks the event loop."""

    def models(self) -> list[str]:
        """The models that it can run, by the names that jobs use."""
        ...

    def prepare(self, at_once: int) -> None:
        """Told before the first run how many there may be at a time, and again where that changes while there are runs."""
        ...

    async def run(self, task: Task, report: Report) -> RunResult:
        """Run the job. Raises `RunFailed`. When cancelled it stops the work before it raises, and leaves nothing running."""
        ...

    async def close(self) -> None:
        """End whatever is kept for later runs."""
        ...


def takes_files(runner: Runner, model: str) -> bool:
    """Whether the runner makes use of input files for jobs of this model.

    One that does has a method `takes_files(model)` that says so; where there is none, a job with files is refused before
    they are fetched.
    """
    says: Callable[[str], bool] | None = getattr(runner, "takes_files", None)
    return says is not None and says(model)


@runtime_checkable
class Triable(Protocol):
    """A runner that knows a job by which it can be tried out. It need not be one."""

    def trial(self, model: str) -> Any | None:
        """The input of a short job for this model, as JSON has it; `None` where there is none."""
        ...
