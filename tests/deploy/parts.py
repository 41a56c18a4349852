"""What lies in `deploy/`, as tests read it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pithead.settings import options

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
CONTAINERFILES = sorted((DEPLOY / "containers").glob("*.Containerfile"))
UNITS = sorted((DEPLOY / "systemd").iterdir())
#: What the agent and the command line read of the environment; `docs/reference` has them where they matter.
OTHERS = {"PITHEAD_CONFIG_DIR", "PITHEAD_MODELS_DIR", "PITHEAD_URL"}


def variables() -> dict[str, str]:
    """The variables of all settings, with the settings' names."""
    return {option.variable: option.name for option in options()}


def texts() -> Iterator[tuple[Path, str]]:
    """All files, as text."""
    for file in sorted(DEPLOY.rglob("*")):
        if file.is_file():
            yield file, file.read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """The variables of ours that a text names."""
    return set(re.findall(r"\bPITHEAD_[A-Z0-9_]+", text))


def compose() -> dict[str, Any]:
    """The compose file, with its anchors followed."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return document


def manifests() -> Iterator[tuple[Path, dict[str, Any]]]:
    """What Kubernetes is given, document by document; not the kustomization, which is kubectl's."""
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        if file.name != "kustomization.yaml":
            for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
                yield file, document


def unit(name: str) -> dict[str, list[str]]:
    """A systemd unit: what each of its words is set to, in order."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines():
        word, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(word, []).append(value)
    return found
