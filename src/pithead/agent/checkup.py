"""The sandbox and each runner that the owner set up, for `pithead miner doctor`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from pithead.agent.containers import engine as engines
from pithead.agent.containers.run import Containers, NoImage
from pithead.agent.findings import Finding, Grade
from pithead.agent.owner.settings import Owner
from pithead.agent.runners import config as files
from pithead.agent.runners.base import Triable
from pithead.agent.runners.command import PREFIX
from pithead.agent.runners.config import Config
from pithead.agent.runners.container import PREFIX as CONTAINER
from pithead.agent.runners.openai import OpenAI, Unanswered
from pithead.agent.runners.transformers import PREFIX as PIPELINE
from pithead.agent.sandbox import Sandbox, Unavailable

#: What keeps a sandbox from being made, and what to do: a word of the reason, and the remedy.
_REMEDIES = {
    "not installed": "apt install bubblewrap util-linux",
    "": "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor profile for bwrap)",
}


async def checkup(
    models_dir: Path, runners_file: Path, owner: Owner, environment: Mapping[str, str]
) -> AsyncIterator[Finding]:
    """Look at the sandbox, and at all that `runners.toml` and the models folder name."""
    try:
        config, unusable = files.load(runners_file), None
    except files.Unusable as error:
        config, unusable = Config(), error
    if unusable is not None:
        yield Finding(name="runners", grade="fault", found=str(unusable), do=f"mend {runners_file}")
    taken = files.kinds(config) if owner.kinds is None else files.kinds(config) & set(owner.kinds)
    safe = True
    async for finding in _sandbox(needed="command" in taken):
        safe = finding.grade == "ok"
        yield finding
    there: set[str] = set()
    for finding in _llama(models_dir, there, alone=not taken - {"llama"}) if "llama" in taken else ():
        yield finding
    if "openai" in taken:
        for name, server in config.openai.items():
            yield await _openai(name, OpenAI(server, [], environment.get(server.key_env, "")), there)
    for name, command in config.command.items() if "command" in taken else ():
        there.add(PREFIX + name)
        yield Finding(
            name=f"runner command.{name}",
            grade="ok" if safe else "fault",
            found=command.command[0] if safe else "it is not offered, since there is no sandbox",
            do="" if safe else "see sandbox",
        )
    if "container" in taken:
        async for finding in _containers(config, owner, there):
            yield finding
    if "transformers" in taken:
        yield _transformers()
        there.update(PIPELINE + name for name in config.transformers)
    for name in config.plugin:
        if name in taken:
            yield _plugin(name, config, there)
    if owner.models is not None and (absent := sorted(set(owner.models) - there)):
        yield Finding(
            name="models as set",
            grade="note",
            found=f"not here: {', '.join(absent)}",
            do="put them there, or change the setting models",
        )
    if owner.kinds is not None and (absent := sorted(set(owner.kinds) - files.kinds(config))):
        yield Finding(
            name="kinds as set",
            grade="note",
            found=f"not here: {', '.join(absent)}",
            do=f"name what runs them in {runners_file}, or change the setting kinds",
        )


async def _sandbox(*, needed: bool) -> AsyncIterator[Finding]:
    """Made and entered, as for a job."""
    try:
        yield Finding(name="sandbox", grade="ok", found=await Sandbox().check())
    except (Unavailable, OSError) as error:
        said = str(error)
        yield Finding(
            name="sandbox",
            grade="fault" if needed else "note",
            found=f"there is none, and jobs that need one are refused: {said}",
            do=next(remedy for word, remedy in _REMEDIES.items() if word in said),
        )


def _llama(models_dir: Path, there: set[str], *, alone: bool) -> Iterator[Finding]:
    from pithead.agent.runners.llama import catalogue

    # Where other runners have work, that this one has none is no fault.
    grade: Grade = "fault" if alone else "note"
    if importlib.util.find_spec("xllamacpp") is None:
        yield Finding(
            name="runner llama", grade=grade, found="xllamacpp is not installed", do="pip install 'pithead[llama]'"
        )
    else:
        yield Finding(name="runner llama", grade="ok", found=f"xllamacpp {version('xllamacpp')}")
    found = catalogue(models_dir)
    there.update(found)
    if found:
        yield Finding(name="models", grade="ok", found=", ".join(sorted(found)))
    else:
        do = f"put a GGUF file into {models_dir}"
        yield Finding(name="models", grade=grade, found=f"none in {models_dir}", do=do)


async def _openai(name: str, runner: OpenAI, there: set[str]) -> Finding:
    try:
        found = await runner.named()
    except Unanswered as error:
        do = "start the server; check url, and key_env where it wants a key"
        return Finding(name=f"runner openai.{name}", grade="fault", found=f"it does not answer: {error}", do=do)
    there.update(found)
    if not found:
        return Finding(name=f"runner openai.{name}", grade="note", found="it has no model", do="load one there")
    return Finding(name=f"runner openai.{name}", grade="ok", found=", ".join(sorted(found)))


async def _containers(config: Config, owner: Owner, there: set[str]) -> AsyncIterator[Finding]:
    try:
        containers = Containers(engines.find(config.engine))
        yield Finding(name="engine", grade="ok", found=await containers.check())
    except engines.Unavailable as error:
        do = "install podman, or start the daemon and let this user use it"
        yield Finding(name="engine", grade="fault", found=str(error), do=do)
        return
    for name, image in config.container.items():
        title = f"runner container.{name}"
        if owner.images is not None and image.digest not in owner.images:
            do = "add its digest to the setting images, if it is meant to be"
            yield Finding(name=title, grade="note", found="its image is not among those that you allow", do=do)
            continue
        there.add(CONTAINER + name)
        try:
            await containers.volumes_of(image.image)
        except (NoImage, engines.Unavailable) as error:
            do = f"fetch it: {containers.engine.program.name} pull {image.image}"
            yield Finding(name=title, grade="fault", found=f"its image is not here: {error}", do=do)
        else:
            yield Finding(name=title, grade="ok", found=image.image)


def _transformers() -> Finding:
    # Found, not imported: that takes seconds.
    missing = [package for package in ("transformers", "torch") if importlib.util.find_spec(package) is None]
    if missing:
        found, do = f"{' and '.join(missing)} not installed", "pip install 'pithead[transformers]'"
        return Finding(name="runner transformers", grade="fault", found=found, do=do)
    found = ", ".join(f"{package} {version(package)}" for package in ("transformers", "torch"))
    return Finding(name="runner transformers", grade="ok", found=found)


def _plugin(name: str, config: Config, there: set[str]) -> Finding:
    try:
        runner = files.plugin(name, config.plugin[name])
        found = runner.models()
    except files.Unusable as error:
        return Finding(
            name=f"runner {name}", grade="fault", found=str(error), do="install its package, or mend its table"
        )
    except Exception as error:  # Of another's code anything may come.
        logging.getLogger(__name__).debug("%s", name, exc_info=True)
        said = f"{type(error).__name__}: {error}"
        return Finding(name=f"runner {name}", grade="fault", found=said, do="ask those who made it")
    there.update(found)
    tried = "" if isinstance(runner, Triable) else " (it knows no job to try it with)"
    return Finding(name=f"runner {name}", grade="ok", found=(", ".join(sorted(found)) or "it has no model") + tried)
