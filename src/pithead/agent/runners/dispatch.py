"""Several runners as one: each job goes to the one that has its model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pithead.agent.runners.base import About, Report, RunFailed, Runner, RunResult, Task, Triable, takes_files

log = logging.getLogger(__name__)


class Dispatcher:
    """Implements `Runner` with others. Where two have a model of the same name, the first one runs it."""

    def __init__(self, runners: Iterable[tuple[str, Runner]], images: Mapping[str, str] | None = None) -> None:
        """`runners`: each with its kind. `images`: digests, by the models that run them."""
        self._runners: list[Runner] = []
        self._by_model: dict[str, Runner] = {}
        self._about: dict[str, About] = {}
        for kind, runner in runners:
            self._runners.append(runner)
            for model in runner.models():
                if self._by_model.setdefault(model, runner) is not runner:
                    log.warning("%s is here twice: the first one is taken", model)
                self._about.setdefault(model, About(kind, (images or {}).get(model, "")))

    def models(self) -> list[str]:
        """All of them, sorted."""
        return sorted(self._by_model)

    def about(self) -> dict[str, About]:
        """What each of them is."""
        return dict(self._about)

    def trial(self, model: str) -> Any | None:
        """The job by which its runner would have it tried; `None` where that knows none."""
        runner: object = self._by_model.get(model)
        return runner.trial(model) if isinstance(runner, Triable) else None

    def prepare(self, at_once: int) -> None:
        """Told to all: any of them may get all the runs."""
        for runner in self._runners:
            runner.prepare(at_once)

    def takes_files(self, model: str) -> bool:
        """Whether the one that has the model does."""
        runner = self._by_model.get(model)
        return runner is not None and takes_files(runner, model)

    async def run(self, task: Task, report: Report) -> RunResult:
        """By the one that has the model."""
        runner = self._by_model.get(task.model)
        if runner is None:
            raise RunFailed("model_missing", f"this miner has no model {task.model!r}")
        return await runner.run(task, report)

    async def close(self) -> None:
        """All of them, whatever one of them raises."""
        ended = await asyncio.gather(*(runner.close() for runner in self._runners), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
