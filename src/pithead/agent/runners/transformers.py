"""Models of Hugging Face's `transformers`, from folders of the owner's: pipelines by their task.

A job of the model `transformers:NAME` has that pipeline run. Nothing is fetched: the folder is all there is, weights are
read from safetensors alone, and no code that lies beside them is run. Only tasks that take texts are offered: a pipeline
for pictures or sound opens whatever path or address stands in its input.

Inputs are `{"inputs": text or texts, "parameters": {…}}`, as servers of such pipelines have them; the result is what the
pipeline gives, as JSON. Each pipeline runs in a process of its own (`transformers_child`), which stays warm.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pithead.agent.gpus import cores
from pithead.agent.runners.answers import presentable
from pithead.agent.runners.base import Report, RunFailed, RunResult, Task
from pithead.agent.runners.child import Child, Warm
from pithead.wire.miners import Metrics

#: What the models of this kind begin with.
PREFIX: Final = "transformers:"
_CHILD: Final = "pithead.agent.runners.transformers_child"
#: Nothing is asked of a hub, and nothing told to anybody.
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_Text = Annotated[str, Meta(min_length=1)]
_Texts = Annotated[list[_Text], Meta(min_length=1, max_length=256)]

Job = Literal[
    "text-generation",
    "text-classification",
    "token-classification",
    "fill-mask",
    "feature-extraction",
    "zero-shot-classification",
]


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pipeline, as its owner has it in `runners.toml`."""

    #: The folder with the model and its tokenizer, from the root on.
    path: str
    task: Job
    #: As PyTorch has it: `cpu`, `cuda:0`, `mps`.
    device: Annotated[str, Meta(pattern=r"^[a-z]+(:\d{1,2})?$(?!\n)")] = "cpu"


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a job may ask of a task that has nothing to choose."""


class Generation(Parameters, frozen=True, kw_only=True):
    """Of text generation."""

    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    #: 0: the same answer every time.
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0


class Ranking(Parameters, frozen=True, kw_only=True):
    """Of text classification and masks: how many, the best first."""

    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5


class Entities(Parameters, frozen=True, kw_only=True):
    """Of token classification: how pieces of words are put together."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"


class Labels(Parameters, frozen=True, kw_only=True):
    """Of zero-shot classification."""

    candidate_labels: Annotated[list[_Text], Meta(min_length=1, max_length=256)]
    multi_label: bool = False


_PARAMETERS: Final[dict[str, type[Parameters]]] = {
    "text-generation": Generation,
    "text-classification": Ranking,
    "token-classification": Entities,
    "fill-mask": Ranking,
    "feature-extraction": Parameters,
    "zero-shot-classification": Labels,
}
#: Known jobs. What stands for a mask differs from model to model: the child knows.
_TRIALS: Final[dict[str, dict[str, Any]]] = {
    "text-generation": {"inputs": "Count from one to one hundred: one, two,", "parameters": {"max_new_tokens": 64}},
    "zero-shot-classification": {"inputs": "It rains.", "parameters": {"candidate_labels": ["weather", "money"]}},
    "fill-mask": {"inputs": "It <mask> today."},
}
_TRIAL: Final = {"inputs": "It rains in London today."}


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inputs: _Text | _Texts
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


def parse(task: str, raw: bytes | msgspec.Raw) -> tuple[list[str], bool, dict[str, Any]]:
    """A job's texts, whether they came as a list, and the parameters. Raises `RunFailed` of kind `bad_input`."""
    try:
        request = msgspec.json.decode(raw, type=_Request)
        parameters = msgspec.json.decode(request.parameters, type=_PARAMETERS[task])
    except RecursionError:
        raise RunFailed("bad_input", "the input is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunFailed("bad_input", f"the input of a pipeline for {task}: {error}") from None
    several = isinstance(request.inputs, list)
    texts = request.inputs if isinstance(request.inputs, list) else [request.inputs]
    return texts, several, msgspec.to_builtins(parameters)


class Transformers:
    """Runs pipelines."""

    def __init__(self, pipelines: Mapping[str, Pipeline], environment: Mapping[str, str] | None = None) -> None:
        """`environment`: what their processes are given beside the agent's variables."""
        self._pipelines, self._environment = dict(pipelines), dict(environment or {})
        self._warm: Warm[_Loaded] = Warm()

    def models(self) -> list[str]:
        """Their names, as jobs have them."""
        return sorted(PREFIX + name for name in self._pipelines)

    def trial(self, model: str) -> Any | None:
        """A short job of the pipeline's task."""
        pipeline = self._pipelines.get(model.removeprefix(PREFIX))
        return None if pipeline is None else _TRIALS.get(pipeline.task, _TRIAL)

    def prepare(self, at_once: int) -> None:
        """How many runs there may be at a time, and so how many processes."""
        self._warm.most = at_once

    async def run(self, task: Task, report: Report) -> RunResult:
        """Run the pipeline. Raises `RunFailed`."""
        pipeline = self._pipelines.get(task.model.removeprefix(PREFIX))
        if pipeline is None or not task.model.startswith(PREFIX):
            raise RunFailed("model_missing", f"this miner has no pipeline {task.model!r}")
        texts, several, parameters = parse(pipeline.task, task.input)
        threads = max(1, cores() // self._warm.most)
        began = time.monotonic()
        async with self._warm.borrowed(
            lambda one: (one.pipeline, one.threads) == (pipeline, threads),
            lambda: _Loaded.start(pipeline, threads, self._environment),
        ) as child:
            report(None, "running")
            answer = await child.ask(texts, parameters)
        seconds = time.monotonic() - began
        metrics = Metrics(
            execution_time_seconds=seconds,
            gpu_time_seconds=seconds * task.gpu_count,
            prompt_tokens=answer["prompt_tokens"],
            completion_tokens=answer["completion_tokens"],
        )
        given = answer["outputs"] if several else answer["outputs"][0]
        return RunResult(msgspec.json.encode(given, order="deterministic"), metrics)

    async def close(self) -> None:
        """End the warm processes."""
        await self._warm.close()


class _Loaded(Child):
    """A process that has a pipeline."""

    def __init__(self, pipeline: Pipeline, threads: int, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.pipeline, self.threads = pipeline, threads

    @classmethod
    async def start(cls, pipeline: Pipeline, threads: int, environment: Mapping[str, str]) -> _Loaded:
        """Start one, and have it load the model. Raises `RunFailed`."""
        process = await cls.spawn(_CHILD, Path("/"), _OFFLINE | dict(environment))
        child = cls(pipeline, threads, process)
        try:
            settings = {"path": os.fspath(pipeline.path), "task": pipeline.task, "device": pipeline.device}
            await child._say(settings | {"threads": threads})
            child._answered(await child._hear())
        except BaseException:
            await asyncio.shield(child.end())
            raise
        return child

    async def ask(self, texts: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
        """Have it run. Raises `RunFailed`."""
        await self._say({"texts": texts, "parameters": parameters})
        return self._answered(await self._hear())

    @staticmethod
    def _answered(frame: dict[str, Any]) -> dict[str, Any]:
        if "error" in frame:
            raise RunFailed(frame["kind"], presentable(frame["error"]))
        return frame
