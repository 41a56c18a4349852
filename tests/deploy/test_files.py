"""The files in `deploy/` against what they are about: settings, commands, files, and the schemas of their own tools."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from tests.deploy import parts
from tests.deploy.parts import DEPLOY, ROOT

from pithead.cli.main import cli
from pithead.settings import load

BIN = Path(sys.executable).parent


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = parts.variables().keys() | parts.OTHERS
    unknown = {(file.name, name) for file, text in parts.texts() for name in parts.named(text) if name not in known}
    assert unknown == set()


def values(environment: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in environment.items() if name.startswith("PITHEAD_")}


def test_the_settings_that_are_given_are_ones_that_a_coordinator_takes(tmp_path: Path) -> None:
    """With what the owner fills in, in its place; the whole of each coordinator's environment at once."""
    env = dict(line.split("=", 1) for line in (DEPLOY / "compose" / "example.env").read_text().splitlines() if "=" in line
               and not line.startswith("#"))  # fmt: skip
    service = parts.compose()["services"]["coordinator-1"]["environment"]
    filled = {name: re.sub(r"\$\{(\w+)[^}]*\}", lambda m: env[m[1]] or "key_1", str(v)) for name, v in service.items()}
    of_kubernetes: dict[str, Any] = {}
    for _, document in parts.manifests():
        of_kubernetes |= document.get("data") or document.get("stringData") or {}
    unit = dict(word.split("=", 1) for word in shlex.split(parts.unit("pithead-coordinator.service")["Environment"][0]))
    for environment in (filled, of_kubernetes, unit):
        given = values(environment)
        assert len(given) >= 3
        loaded = load(environment=given | {"PITHEAD_DATA": str(tmp_path)})
        assert loaded.warnings == []
        for name, value in given.items():
            if name != "PITHEAD_DATA":
                found: Any = loaded.settings
                for part in parts.variables()[name].split("."):
                    found = getattr(found, part)
                assert str(found) in (value, f"{value}.0"), name


def test_every_file_that_is_named_is_there() -> None:
    for containerfile in parts.CONTAINERFILES:
        for line in containerfile.read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists(), source
                    allowed = (ROOT / ".dockerignore").read_text().splitlines()
                    assert f"!{source}" in allowed, f"{source} is not sent to the build"
    services = parts.compose()["services"]
    for service in services.values():
        if build := service.get("build"):
            assert (parts.COMPOSE.parent / build["context"] / build["dockerfile"]).is_file()
        for volume in service.get("volumes", ()):
            if volume.startswith("."):
                assert (parts.COMPOSE.parent / volume.partition(":")[0]).exists(), volume
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    there = {file.name for file in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert there - set(kustomization["resources"]) == {"kustomization.yaml", "secrets.example.yaml"}
    assert set(kustomization["resources"]) <= there


def test_every_command_of_ours_exists() -> None:
    said = [
        words
        for _, text in parts.texts()
        for words in re.findall(r"(?:/bin/|(?<!--namespace)\s)pithead ((?:[a-z-]+ ?)+)", text)
    ]
    said += [" ".join(words) for file in parts.CONTAINERFILES for words in _lists(file.read_text(), "CMD")]
    assert {"serve", "miner run"} <= {words.strip() for words in said}
    for words in said:
        command: Any = cli
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            command = command.get_command(click.Context(command), word)
            assert command is not None, words


def _lists(text: str, instruction: str) -> list[list[str]]:
    found = [
        yaml.safe_load(line.removeprefix(instruction)) for line in text.splitlines() if line.startswith(instruction)
    ]
    return [words for words in found if words[0] != "python"]


# ---- each by the schema or the linter of its own


def test_the_compose_file_is_one() -> None:
    """By the schema of the Compose specification, which comes with check-jsonschema; there is no engine here to ask."""
    line: list[str | Path] = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", parts.COMPOSE]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field_of_the_manifests(version: str) -> None:
    checked = [kubernetes_validate.validate(document, version, strict=True) for _, document in parts.manifests()]
    assert len(checked) >= 15


# ---- what they promise


@pytest.mark.parametrize("file", parts.CONTAINERFILES, ids=lambda file: file.stem)
def test_images_are_of_hashed_files_and_run_as_nobody_in_particular(file: Path) -> None:
    text = file.read_text()
    installs = re.findall(r"pip install (.*)", text.replace("\\\n", " "))
    assert installs
    for words in installs:
        hashed = "--require-hashes" in words or words.strip(" .;&|").endswith("--no-deps")
        assert "--no-deps" in words
        assert hashed or "XLLAMACPP_INDEX" in words or words.split("&&")[0].strip().endswith(" .")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


def test_of_the_compose_file_only_the_proxy_can_be_reached_and_nobody_has_rights_to_spare() -> None:
    document = parts.compose()
    assert document["networks"]["inside"]["internal"] is True
    for name, service in document["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ("ports" in service) == (name == "proxy")
        assert name in ("proxy", "results") or service["networks"] == ["inside"]
        assert "healthcheck" in service or service["image"] in ("pithead-coordinator", "caddy:2.10-alpine")
    coordinators = [service for name, service in document["services"].items() if name.startswith("coordinator")]
    data = [service["volumes"][0] for service in coordinators]
    assert len(set(data)) == len(data) == 2, "each signs with a key of its own"
    proxy = document["services"]["proxy"]["networks"]["inside"]["ipv4_address"]
    assert all(service["environment"]["PITHEAD_HTTP__TRUSTED_PROXIES"] == proxy for service in coordinators)


def test_pods_are_what_the_restricted_standard_takes() -> None:
    pods = [d["spec"]["template"]["spec"] for _, d in parts.manifests() if "template" in d.get("spec", {})]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # A service called pithead would put PITHEAD_… into every pod.
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_what_is_told_to_stop_has_the_time_for_it() -> None:
    service = parts.compose()["services"]["coordinator-1"]
    assert int(service["stop_grace_period"].rstrip("s")) > 30 + int(service["environment"]["PITHEAD_HTTP__DRAIN"])
    pods = {
        d["metadata"]["name"]: d["spec"]["template"]["spec"] for _, d in parts.manifests() if d["kind"] == "StatefulSet"
    }
    [drain] = [d["data"]["PITHEAD_HTTP__DRAIN"] for _, d in parts.manifests() if d["kind"] == "ConfigMap"]
    assert pods["coordinator"]["terminationGracePeriodSeconds"] > 30 + int(drain)
    assert pods["agent"]["terminationGracePeriodSeconds"] > 600


def test_what_images_are_made_of_is_what_is_tested() -> None:
    """Each lock of an image is a part of the one that tests run with, pins and hashes alike."""
    whole = _locked("all.txt")
    for name in ("coordinator.txt", "agent.txt"):
        part = _locked(name)
        assert len(part) > 10
        assert {pin: whole.get(pin) for pin in part} == part, name
        pinned = {pin.partition("==")[0] for pin in part}
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        missing = {word for line in wanted if (word := re.split(r"[^a-z0-9-]", line.lower())[0]) not in pinned}
        assert missing == set(), f"{name}: make lock-images"


def test_what_pipelines_are_tested_with_changes_nothing_else() -> None:
    """It is installed into the same place."""
    whole = {pin.partition("==")[0]: pin for pin in _locked("all.txt")}
    part = _locked("transformers.txt")
    assert not {pin for pin in part if whole.get(pin.partition("==")[0], pin) != pin}, "make lock"
    assert "torch" not in whole, "which build is right depends on the machine"
    assert len(_locked("torch.txt")) == 1


def _locked(name: str) -> dict[str, frozenset[str]]:
    """The hashes of each pin; what it depends on, such as the system, aside."""
    text = (ROOT / "requirements" / name).read_text()
    entries = re.findall(r"^(\S+==\S+)(.*(?:\n    .*)*)", text, re.MULTILINE)
    return {pin: frozenset(re.findall(r"sha256:\w+", rest)) for pin, rest in entries}
