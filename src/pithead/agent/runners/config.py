"""What else this machine runs: `runners.toml` in the owner's configuration folder. A table for each server and program.

```toml
[openai.local]
url = "http://127.0.0.1:8000/v1"

[command.count-words]
command = ["/usr/bin/wc", "-w"]

[container.upscale]
image = "example.org/upscale@sha256:0123…"

[transformers.moods]
path = "/models/moods"
task = "text-classification"

[plugin.whisper]          # of a package that offers "whisper" as an entry point of the group pithead.runners
device = "cuda:0"         # whatever that runner takes
```
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from pithead.agent.containers import engine as engines
from pithead.agent.containers.run import Containers
from pithead.agent.runners.base import Runner
from pithead.agent.runners.command import SELF_TEST, Command, Commands, self_test
from pithead.agent.runners.container import PREFIX as CONTAINER
from pithead.agent.runners.container import Image, Images
from pithead.agent.runners.dispatch import Dispatcher
from pithead.agent.runners.openai import OpenAI, Server
from pithead.agent.runners.transformers import Pipeline, Transformers
from pithead.agent.sandbox import Sandbox, Unavailable

log = logging.getLogger(__name__)

#: The group of entry points that other packages offer their runners in.
GROUP: Final = "pithead.runners"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    openai: dict[str, Server] = {}
    command: dict[str, Command] = {}
    container: dict[str, Image] = {}
    transformers: dict[str, Pipeline] = {}
    #: The program that runs containers; empty: the first of podman and docker that is there.
    engine: str = ""
    plugin: dict[str, dict[str, Any]] = {}


class Unusable(Exception):
    """The file, or what it names, cannot be used. The message is one line: what is wrong, and what to do."""


def load(file: Path) -> Config:
    """What the file says; nothing where there is none. Raises `Unusable`."""
    try:
        config = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Config)
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Unusable(f"{file} cannot be used: {error}; mend it there") from None
    for name in (*config.openai, *config.command, *config.container, *config.transformers, *config.plugin):
        if not _NAME.fullmatch(name):
            raise Unusable(f"{file}: {name!r} is no name; use small letters, digits, '.', '_' and '-'")
    for name, command in config.command.items():
        for path in (command.command[0], *command.read, *command.devices):
            if not Path(path).is_absolute() or not Path(path).exists():
                raise Unusable(f"{file}: command.{name}: {path} is not there; name files from the root on")
    for name, pipeline in config.transformers.items():
        if not Path(pipeline.path).is_absolute() or not (Path(pipeline.path) / "config.json").is_file():
            said = f"{file}: transformers.{name}: {pipeline.path} is no folder with a model (a config.json)"
            raise Unusable(f"{said}; name it from the root on")
    return config


async def assemble(
    config: Config,
    own: Runner | None = None,
    *,
    sandbox: Sandbox | None = None,
    environment: Mapping[str, str] | None = None,
    for_trial: bool = False,
) -> Dispatcher:
    """All runners as one: the built-in one, then those of the file. Raises `Unusable`.

    Programs are left out where there is no sandbox, containers where there is no engine, and the log says why. `for_trial`: with a program of the system's
    beside those of the owner.
    """
    variables = os.environ if environment is None else environment
    runners: list[tuple[str, Runner]] = [] if own is None else [("llama", own)]
    runners += [("openai", await OpenAI.discover(server, variables)) for server in config.openai.values()]
    if config.command:
        sandbox = sandbox or Sandbox()
        try:
            log.info("programs run in %s", await sandbox.check())
            listed = {SELF_TEST: self_test()} | config.command if for_trial else config.command
            runners.append(("command", Commands(listed, sandbox)))
        except (Unavailable, OSError) as error:
            log.warning("no programs are offered, since there is no sandbox for them: %s", error)
    if config.container:
        try:
            containers = Containers(engines.find(config.engine))
            log.info("containers run with %s", await containers.check())
            runners.append(("container", Images(config.container, containers)))
        except engines.Unavailable as error:
            log.warning("no containers are offered: %s", error)
    if config.transformers:
        if find_spec("transformers") and find_spec("torch"):
            runners.append(("transformers", Transformers(config.transformers)))
        else:
            log.warning("no pipelines are offered: transformers is not installed; pip install 'pithead[transformers]'")
    runners += ((name, plugin(name, settings)) for name, settings in config.plugin.items())
    return Dispatcher(runners, {CONTAINER + name: image.digest for name, image in config.container.items()})


def kinds(config: Config) -> set[str]:
    """The kinds of jobs that this machine is set up for."""
    named: dict[str, Mapping[str, Any]]
    named = {
        "openai": config.openai,
        "command": config.command,
        "container": config.container,
        "transformers": config.transformers,
    }
    return {"llama", *(kind for kind, table in named.items() if table), *config.plugin}


def plugin(name: str, settings: dict[str, Any]) -> Runner:
    """A runner of another package. Only those that the owner names are loaded: being installed is not being wanted."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise Unusable(f"plugin.{name}: no installed package offers a runner of this name (there are: {there})")
    try:
        runner: Runner = found[name].load()(settings)
    except Exception as error:
        raise Unusable(f"plugin.{name}: {type(error).__name__}: {error}") from error
    return runner
