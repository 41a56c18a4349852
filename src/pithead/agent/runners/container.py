"""Images that the owner lists, run by Podman or Docker. A job picks one by its name and gives it an input.

A job of the model `container:NAME` has that image run, with the arguments that its owner wrote. Input, input files, result
and the meaning of its end are those of programs (`command`). A job that needs a network says so with `"network": true` in
its input; it gets one where the owner allows this image to have one, and is for another miner where not.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pithead.agent import gpus
from pithead.agent.containers.engine import Spec, Unavailable
from pithead.agent.containers.run import Containers, NoImage
from pithead.agent.runners.base import Report, RunFailed, RunResult, Task
from pithead.agent.runners.command import failure_of, taken_apart
from pithead.agent.runners.limits import Bounds, bounded
from pithead.wire.miners import Metrics

#: What the models of this kind begin with.
PREFIX: Final = "container:"
#: A name may be moved to another image by anybody who may push it; a digest is the image.
_IMAGE: Final = r"^([a-z0-9][A-Za-z0-9._:/-]{0,200}@)?sha256:[0-9a-f]{64}$(?!\n)"


class Image(Bounds, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An image, as its owner has it in `runners.toml`."""

    #: By digest: `name@sha256:…` as it was pulled, or `sha256:…`, its id.
    image: Annotated[str, Meta(pattern=_IMAGE)]
    #: Arguments; empty: what the image itself does.
    command: list[str] = msgspec.field(default_factory=list)
    #: Whose GPUs it is given, as many as the job asks for.
    gpus: Literal["none", "nvidia", "amd"] = "none"
    #: Whether a job may have a network that asks for one: all that this machine reaches.
    network: bool = False

    @property
    def digest(self) -> str:
        """What the owner's setting `images` names it by."""
        return self.image.rpartition("@")[2]


class Images:
    """Runs what the owner lists."""

    def __init__(self, images: Mapping[str, Image], containers: Containers) -> None:
        self._images, self._containers = dict(images), containers
        #: How many jobs have each GPU.
        self._lent: Counter[str] = Counter()

    def models(self) -> list[str]:
        """Their names, as jobs have them."""
        return sorted(PREFIX + name for name in self._images)

    def trial(self, model: str) -> Any | None:
        """The owner's, where there is one."""
        image = self._images.get(model.removeprefix(PREFIX))
        return image and image.trial

    def takes_files(self, model: str) -> bool:
        """Every image may read them."""
        return True

    def prepare(self, at_once: int) -> None:
        """Each run is on its own."""

    async def run(self, task: Task, report: Report) -> RunResult:
        """Run the image. Raises `RunFailed`; of kind `sandbox` where the engine does not do as it is told."""
        image = self._images.get(task.model.removeprefix(PREFIX))
        if image is None or not task.model.startswith(PREFIX):
            raise RunFailed("model_missing", f"this miner has no image {task.model!r}")
        limits = bounded(image.limits(), task.limits)
        network, rest = _network(bytes(task.input))
        if network and not image.network:
            raise RunFailed("runner_missing", "this miner gives this image no network")
        given, files = taken_apart(rest)
        if twice := sorted(files.keys() & task.files.keys()):
            raise RunFailed("bad_input", f"files: {twice[0]} is an input file too; give one of them another name")
        contents = {name: content for name, content in files.items() if isinstance(content, bytes)}
        report(None, "running")
        with self._cards(image, task.gpu_count, await _offered(image)) as cards:
            spec = Spec(
                image=image.image,
                command=image.command,
                environment=image.environment,
                network=network,
                devices=self._containers.engine.devices(image.gpus, cards),
                files={name: Path(file) for name, file in task.files.items()},
            )
            try:
                outcome = await self._containers.run(spec, limits, stdin=given, contents=contents)
            except NoImage:
                raise RunFailed("model_missing", "the image is not on this miner") from None
            except Unavailable:
                raise RunFailed("sandbox", "this miner cannot run containers") from None
        if failure := failure_of(outcome, limits):
            raise failure
        seconds = outcome.seconds
        metrics = Metrics(execution_time_seconds=seconds, gpu_time_seconds=seconds * task.gpu_count)
        return RunResult(outcome.output, metrics)

    async def close(self) -> None:
        """Nothing is kept between runs."""

    @contextlib.contextmanager
    def _cards(self, image: Image, count: int, offered: list[str]) -> Iterator[list[str]]:
        """The GPUs of one job, for as long as it runs: those that the fewest others have."""
        if image.gpus == "none":
            yield []
            return
        if len(offered) < count:
            raise RunFailed("runner_missing", f"the job wants {count} GPUs, and this miner has {len(offered)}")
        chosen = sorted(offered, key=lambda card: self._lent[card])[:count]
        self._lent.update(chosen)
        try:
            yield chosen
        finally:
            self._lent.subtract(chosen)


async def _offered(image: Image) -> list[str]:
    """The GPUs that the owner offers, by index or UUID."""
    if image.gpus == "none":
        return []
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        return [word.strip() for word in visible.split(",") if word.strip()]
    found = (await gpus.Sampler().take(10)).get("gpus", ())
    return [str(index if gpu["index"] is None else gpu["index"]) for index, gpu in enumerate(found)]


def _network(given: bytes) -> tuple[bool, bytes]:
    """Whether the job asks for a network, and the input without that. Raises `RunFailed`."""
    try:
        document: Any = msgspec.json.decode(given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RunFailed("bad_input", "the input is not JSON that can be read") from None
    if not isinstance(document, dict) or "network" not in document:
        return False, given
    asked = document.pop("network")
    if not isinstance(asked, bool):
        raise RunFailed("bad_input", "network: must be true or false")
    return asked, msgspec.json.encode(document)
