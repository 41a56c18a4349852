"""`pithead miner doctor`, `install-service`, `logs` and `dashboard`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from decimal import Decimal
from email.utils import formatdate
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import httpx
import pytest

from pithead.agent import gpus, hardware, registration
from pithead.agent.doctor import examine
from pithead.agent.hardware import Card, Hardware
from pithead.agent.record import JobLine, Record
from pithead.cli.screen import screen
from pithead.client import MinerClient


@pytest.fixture
def registered(config: Path) -> Path:
    folder = config / "miners"
    folder.mkdir(parents=True)
    (folder / "default.toml").write_text('url = "http://127.0.0.1:9"\nminer_id = "miner_1"\nkey = "key_1"\n')
    return folder / "default.toml"


def findings(outcome: Any) -> dict[str, Any]:
    return {finding["name"]: finding for finding in json.loads(outcome.stdout)["findings"]}


def machine(monkeypatch: pytest.MonkeyPatch, found: Hardware) -> None:
    monkeypatch.setattr("pithead.agent.doctor.examine.__kwdefaults__", EXAMINE | {"look": lambda types: found})


EXAMINE: dict[str, Any] = dict(examine.__kwdefaults__ or {})


def test_a_machine_that_is_well(
    run: Any, coordinator: Any, shapes: Any, registered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(
        monkeypatch,
        Hardware(
            vendor="nvidia",
            driver="550",
            cuda="12.4",
            cards=[Card(index=0, name="Tesla V100", gpu_type="v100", mig=["1g"])],
        ),
    )
    coordinator.answers["GET /v1/miners/miner_1"] = shapes["miner"]
    coordinator.answers["GET /"] = httpx.Response(200, headers={"Date": formatdate(time.time() + 400, usegmt=True)})
    outcome = run("miner", "doctor", "--json")
    found = findings(outcome)
    assert (outcome.exit_code, json.loads(outcome.stdout)["healthy"]) == (0, True)
    assert found["gpu"]["found"] == "0: Tesla V100 (v100)"
    assert found["cuda"]["found"] == "up to 12.4"
    assert found["mig of GPU 0"]["found"] == "1g"
    assert found["coordinator"]["found"] == "has this miner as active: 2 × v100"
    assert (found["clock"]["grade"], found["clock"]["found"][:3]) in (("note", "-39"), ("note", "-40"))
    assert found["models"]["found"] == "smollm2-135m-instruct"
    assert found["disk for results"]["grade"] == "ok"
    assert found["sandbox"]["grade"] == ("ok" if shutil.which("bwrap") else "note")
    words = run("miner", "doctor").stdout
    assert "No fault." in words
    assert "timedatectl" in words


def test_each_fault_comes_with_what_to_do(
    run: Any,
    coordinator: Any,
    shapes: Any,
    registered: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    cards = [Card(index=0, name="A", gpu_type="a100", mig=[]), Card(index=1, name="T", gpu_type="t4")]
    machine(monkeypatch, Hardware(vendor="nvidia", cards=cards))
    monkeypatch.setattr("pithead.agent.runners.llama.built_in", dict)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    (config / "miner.toml").write_text("models = ['gpt2']\npause = 'yes'\n")
    coordinator.answers["GET /v1/miners/miner_1"] = shapes["miner"] | {"status": "suspended"}
    outcome = run("miner", "doctor", "--json", "--models-dir", str(tmp_path / "none"))
    found = findings(outcome)
    assert outcome.exit_code == 1
    faults = {name for name, finding in found.items() if finding["grade"] == "fault"}
    assert faults == {"cuda", "mig of GPU 0", "gpu as registered", "disk for results", "disk for models", "models"}
    assert {name for name, finding in found.items() if finding["grade"] == "note"} == {
        "gpu types", "settings", "coordinator", "sandbox", "models as set", "disk for input files",
    }  # fmt: skip
    assert all(finding["do"] for finding in found.values() if finding["grade"] != "ok")


def runners(config: Path, text: str) -> None:
    config.mkdir(parents=True, exist_ok=True)
    (config / "runners.toml").write_text(text)


def test_each_runner_that_is_set_up_is_looked_at(
    run: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plug:
        def __init__(self, settings: dict[str, Any]) -> None:
            if "bad" in settings:
                raise ValueError("no such device")

        def models(self) -> list[str]:
            return ["plugged"]

    offered = EntryPoints(
        [EntryPoint("plug", "my:Plug", "pithead.runners"), EntryPoint("worse", "my:Plug", "pithead.runners")]
    )
    monkeypatch.setattr(EntryPoint, "load", lambda _: Plug)
    monkeypatch.setattr("pithead.agent.runners.config.entry_points", lambda group: offered)
    runners(
        config,
        """
        openai.away.url = "http://127.0.0.1:9/v1"
        command.count.command = ["/usr/bin/wc"]
        plugin.plug = {}
        plugin.worse = {bad = 1}
        plugin.gone = {}
        """,
    )
    run("miner", "set", "models", "plugged,command:count,nowhere")
    found = findings(run("miner", "doctor", "--json", "--models-dir", str(tmp_path / "none")))
    grades = {name: finding["grade"] for name, finding in found.items() if name.startswith(("runner", "sandbox"))}
    assert grades == {
        "sandbox": "ok",
        "runner llama": "ok",
        "runner openai.away": "fault",
        "runner command.count": "ok",
        "runner plug": "ok",
        "runner worse": "fault",
        "runner gone": "fault",
    }
    assert "bubblewrap" in found["sandbox"]["found"] or "bwrap" in found["sandbox"]["found"], "tried, not only found"
    assert found["runner plug"]["found"] == "plugged (it knows no job to try it with)"
    assert found["models as set"]["found"] == "not here: nowhere"
    run("miner", "set", "kinds", "plug,container")
    found = findings(run("miner", "doctor", "--json"))
    assert {name for name in found if name.startswith("runner")} == {"runner plug"}
    assert found["kinds as set"]["found"] == "not here: container"
    (config / "runners.toml").write_text("command = 5")
    assert findings(run("miner", "doctor", "--json"))["runners"]["grade"] == "fault"


def test_images_are_looked_for_and_compared_with_those_that_are_allowed(
    run: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, away, refused = (f"sha256:{digit * 64}" for digit in "123")
    program = tmp_path / "podman"
    program.write_text('#!/bin/sh\ncase "$*" in *222*) echo gone >&2; exit 1;; *inspect*) echo null;; esac\n')
    program.chmod(0o755)
    images = {"here": here, "away": away, "refused": refused}
    tables = [f'container.{name}.image = "{image}"' for name, image in images.items()]
    runners(config, "\n".join([f'engine = "{program}"', *tables]))
    run("miner", "set", "images", f"{here},{away}")
    found = findings(run("miner", "doctor", "--json"))
    grades = {name: found[name]["grade"] for name in ("engine", *(f"runner container.{image}" for image in images))}
    assert list(grades.values()) == ["ok", "ok", "fault", "note"]
    assert found["runner container.away"]["do"] == f"fetch it: podman pull {away}"
    program.unlink()
    assert findings(run("miner", "doctor", "--json"))["engine"]["grade"] == "fault"


def test_without_a_sandbox_programs_are_a_fault_and_it_says_what_is_missing(
    run: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners(config, 'command.count.command = ["/usr/bin/wc"]')
    monkeypatch.setenv("PATH", str(tmp_path))
    found = findings(run("miner", "doctor", "--json"))
    assert (found["sandbox"]["grade"], found["runner command.count"]["grade"]) == ("fault", "fault")
    assert "not installed" in found["sandbox"]["found"]
    assert "apt install" in found["sandbox"]["do"]


def test_a_coordinator_that_is_away_or_knows_nothing_of_it_is_a_fault(
    run: Any, coordinator: Any, registered: Path, shapes: Any
) -> None:
    coordinator.answers["GET /v1/miners/miner_1"] = httpx.ConnectError("refused")
    assert findings(run("miner", "doctor", "--json"))["network"]["grade"] == "fault"
    coordinator.answers["GET /v1/miners/miner_1"] = shapes["problem"](401, "no such key")
    assert findings(run("miner", "doctor", "--json"))["coordinator"]["found"] == "no such key"
    registered.unlink()
    assert findings(run("miner", "doctor", "--json"))["registration"]["do"] == "pithead miner register"
    (registered.parent.parent / "miner.toml").write_text("models = ")
    assert findings(run("miner", "doctor", "--json"))["settings"]["grade"] == "fault"


def test_without_a_gpu_it_says_what_was_looked_for(
    run: Any, registered: Path, coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "devices", lambda _: [])
    found = findings(run("miner", "doctor", "--json"))["gpu"]
    assert found["grade"] == "note"
    assert hardware.survey().missing[0] in found["found"]


def test_the_service_is_written_checked_and_not_started(
    run: Any, registered: Path, tmp_path: Path, config: Path
) -> None:
    made = json.loads(run("miner", "install-service", "--folder", str(tmp_path / "units"), "--json").stdout)
    text = Path(made["path"]).read_text()
    assert isinstance(made["checked"], bool)
    assert f"ReadWritePaths={config}" in text
    assert f"Environment=PITHEAD_CONFIG_DIR={config}" in text
    assert made["next"][:2] == ["systemctl --user daemon-reload", "systemctl --user enable --now pithead-miner.service"]
    printed = run("miner", "install-service", "--system", "--print").stdout
    assert "User=" in printed
    assert list((tmp_path / "units").iterdir()) == [Path(made["path"])]
    words = run("miner", "install-service", "--folder", str(tmp_path / "units")).stdout
    assert "loginctl enable-linger" in words


def test_a_service_of_nobody_is_refused(run: Any, refused: Any) -> None:
    for command in (("install-service",), ("logs",), ("dashboard", "--once")):
        assert "no miner is registered" in refused(run("miner", *command))


def test_the_last_lines_of_the_log_are_shown(run: Any, refused: Any, registered: Path) -> None:
    assert "there is no log" in refused(run("miner", "logs"))
    file = registration.log_file("miner_1")
    file.parent.mkdir(parents=True)
    file.write_text("one\ntwo\nth\x1b[31mree\n")
    assert run("miner", "logs", "-n", "2").stdout == "two\nth\N{REPLACEMENT CHARACTER}[31mree\n"


def test_the_log_is_followed_over_its_files(registered: Path) -> None:
    file = registration.log_file("miner_1")
    file.parent.mkdir(parents=True)
    file.write_text("before\n")
    command = [sys.executable, "-m", "pithead.cli.main", "miner", "logs", "--follow", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "before\n"
            with file.open("a") as log:
                log.write("more\n")
            assert process.stdout.readline() == "more\n"
            file.rename(file.with_name("agent.log.1"))
            file.write_text("another file\n")
            assert process.stdout.readline() == "another file\n"
        finally:
            process.kill()


def shown(file: Path | None) -> Record:
    record = Record(file, wall=time.time, miner_id="miner_1")
    record.taken(1, JobLine(job_id="job_1", model="gpt2", client_id="client_1"))
    record.moved(1, "running", 0.5, "12 tokens")
    record.completed(Decimal("0.05"))
    record.state.gpus = [{"index": 0, "name": "Tesla V100", "temperature_celsius": 55, "memory_used_bytes": 2**30,
                          "memory_total_bytes": 2**35}]  # fmt: skip
    record.state.miner_status = "active"
    record.state.alerts = ["a GPU has 90 °C"]
    record.write()
    return record


def test_the_dashboard_shows_what_the_agent_does(run: Any, registered: Path) -> None:
    assert "does not run" in run("miner", "dashboard", "--once").stdout
    record = shown(registration.state_file("miner_1"))
    text = run("miner", "dashboard", "--once").stdout
    for word in ("job_1 running", "Tesla V100", "1.0 of 32 GiB", "12 tokens", "client_1", "0.05", "a GPU has 90 °C"):
        assert word in text, word
    whole = json.loads(run("miner", "dashboard", "--json").stdout)
    assert (whole["running"], whole["state"]["jobs"][0]["job_id"]) == (True, "job_1")
    record.gone(1)
    record.state.may, record.state.why = False, "paused by the owner"
    record.write()
    assert "No job comes: paused by the owner." in run("miner", "dashboard", "--once").stdout
    record.close()
    assert "does not run" in run("miner", "dashboard", "--once").stdout


def test_what_others_wrote_does_not_steer_the_screen() -> None:
    from rich.console import Console

    record = shown(None)
    record.taken(2, JobLine(job_id="job_2", model="[red]m\x1b[2J"))
    record.write()
    console = Console(width=160)
    with console.capture() as capture:
        console.print(screen(record.state))
    text = capture.get()
    assert "[red]m" in text
    assert "\x1b" not in text


def test_status_says_whether_the_agent_runs_here_and_why_no_job_comes(
    run: Any, coordinator: Any, shapes: Any, registered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client_of(who: Any) -> MinerClient:
        return MinerClient(who.url, who.miner_id, who.key, transport=httpx.MockTransport(coordinator))

    monkeypatch.setattr("pithead.cli.identity.client_of", client_of)
    coordinator.answers["GET /v1/miners/miner_1"] = shapes["miner"]
    coordinator.answers["GET /v1/miners/miner_1/stats"] = shapes["miner"]["stats"]
    assert "does not run on this machine" in run("miner", "status").stdout
    record = shown(registration.state_file("miner_1"))
    record.gone(1)
    record.write()
    assert "nothing queued fits this machine" in run("miner", "status").stdout
    assert json.loads(run("miner", "status", "--json").stdout)["agent"]["completed"] == 1
