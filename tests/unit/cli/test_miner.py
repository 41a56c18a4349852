"""`pithead miner register`, `status` and `models`, against a coordinator in a process of its own."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.http.server import OPERATOR_KEY

from pithead.agent.gpus import Inventory
from pithead.client import AdminClient, MinerClient

#: Nobody listens there.
NOWHERE = "http://127.0.0.1:9"
MACHINE = ("--name", "rig", "--gpu-type", "V100", "--gpu-count", "2", "--location", "cellar", "--price", "0.07")


@pytest.fixture(autouse=True)
def no_miner(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PITHEAD_MINER_ID", "PITHEAD_MINER_PROFILE", "PITHEAD_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)


def registered(run: Any, url: str, *more: str) -> dict[str, Any]:
    """What `register --json` prints."""
    outcome = run("miner", "register", "--url", url, *MACHINE, *more, "--json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    printed: dict[str, Any] = json.loads(outcome.stdout)
    return printed


def test_register_keeps_the_key_where_only_its_owner_can_read_it(run: Any, roomy_url: str, config: Path) -> None:
    printed = registered(run, roomy_url, "--max-concurrent", "3")
    assert set(printed) == {"miner_id", "api_key", "status", "url", "path"}
    assert (printed["status"], printed["url"]) == ("pending", roomy_url)
    file = config / "miners" / "default.toml"
    assert printed["path"] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    kept = tomllib.loads(file.read_text())
    assert kept == {
        "url": roomy_url,
        "miner_id": printed["miner_id"],
        "key": printed["api_key"],
        "max_concurrent": 3,
        "price_per_hour": "0.07",
    }
    with MinerClient(roomy_url, kept["miner_id"], kept["key"]) as client:
        view = client.get()
    assert (view.name, view.gpu_type, view.gpu_count, view.location) == ("rig", "v100", 2, "cellar")
    assert (view.price_per_hour, view.max_concurrent, view.models) == (Decimal("0.07"), 3, None)


def test_register_in_words_says_how_to_go_on_and_not_the_key(run: Any, roomy_url: str, config: Path) -> None:
    outcome = run("miner", "register", "--url", roomy_url, *MACHINE, "--profile", "second")
    assert outcome.exit_code == 0
    key = tomllib.loads((config / "miners" / "second.toml").read_text())["key"]
    assert key not in outcome.stdout
    assert "2 × V100 at 0.07 an hour (pending)" in outcome.stdout
    assert "pithead miner run --profile second" in outcome.stdout


def test_register_offers_what_is_found_where_nothing_is_said(
    run: Any, roomy_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> Inventory:
        return Inventory("a100", 8)

    monkeypatch.setattr("pithead.agent.gpus.look", look)

    def machine(*options: str) -> tuple[str, int]:
        outcome = run("miner", "register", "--url", roomy_url, "--force", "--json", *options)
        made = json.loads(outcome.stdout)
        with MinerClient(roomy_url, made["miner_id"], made["api_key"]) as client:
            view = client.get()
        return view.gpu_type, view.gpu_count

    assert machine() == ("a100", 8)
    assert machine("--gpu-count", "3") == ("a100", 3)
    assert machine("--gpu-type", "A100") == ("a100", 8)
    assert machine("--gpu-type", "cpu") == ("cpu", 1), "a number that was found belongs to what was found"


def test_a_registration_is_not_replaced_unasked(run: Any, refused: Any, roomy_url: str, config: Path) -> None:
    first = registered(run, roomy_url)
    line = refused(run("miner", "register", "--url", roomy_url, *MACHINE, "--json"))
    assert "has a registration already; use another --profile, or --force" in line
    assert tomllib.loads((config / "miners" / "default.toml").read_text())["miner_id"] == first["miner_id"]
    second = registered(run, roomy_url, "--force", "--model", "gpt2", "--model", "llama")
    assert second["miner_id"] != first["miner_id"]
    assert tomllib.loads((config / "miners" / "default.toml").read_text())["models"] == ["gpt2", "llama"]


def test_where_registering_comes_to_nothing_nothing_is_left(
    run: Any, refused: Any, roomy_url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.cli.miner.SOMEBODY_LOOKS_ON", 0.0)
    assert f"{NOWHERE} cannot be reached" in refused(run("miner", "register", "--url", NOWHERE, *MACHINE))
    for options, says in [
        (("--gpu-type", "any"), "gpu_type: "),
        (("--gpu-type", "a b"), "gpu_type: "),
        (("--price", "-1"), "price_per_hour: "),
        (("--price", "cheap"), "price per hour 'cheap' is not a number"),
        (("--location", "a\nb"), "location: "),
    ]:
        outcome = run("miner", "register", "--url", roomy_url, *MACHINE, *options)
        assert (outcome.exit_code, outcome.stdout, len(outcome.stderr.splitlines())) == (2, "", 1)
        assert says in outcome.stderr
    assert "is no name for a file" in refused(run("miner", "register", *MACHINE, "--profile", "../x"))
    assert "is not the URL of a coordinator" in refused(run("miner", "register", "--url", "ftp://x", *MACHINE))
    assert list((config / "miners").iterdir()) == []


def test_register_goes_to_the_coordinator_that_one_is_logged_in_at(run: Any, roomy_url: str) -> None:
    run("login", "--url", roomy_url, "--key", "key_1")
    assert json.loads(run("miner", "register", *MACHINE, "--json").stdout)["url"] == roomy_url
    assert json.loads(run("miner", "register", *MACHINE, "--json", "--force", PITHEAD_URL=roomy_url).stdout)


def test_status(run: Any, roomy_url: str) -> None:
    made = registered(run, roomy_url, "--model", "gpt2")
    printed = json.loads(run("miner", "status", "--json").stdout)
    assert printed["miner"]["miner_id"] == made["miner_id"]
    assert printed["stats"] == {
        "total_jobs": 0,
        "success_rate": 0,
        "average_completion_time": 0,
        "earnings": 0,
        "earnings_per_gpu_hour": 0,
    }
    shown = run("miner", "status").stdout
    for fact in (made["miner_id"], "rig", "pending", "2 × v100 at 0.07 an hour"):
        assert fact in shown
    assert made["api_key"] not in shown


def test_a_miner_may_be_named_without_a_registration_here(run: Any, refused: Any, roomy_url: str) -> None:
    made = registered(run, roomy_url)
    named = {"PITHEAD_MINER_ID": made["miner_id"], "PITHEAD_URL": roomy_url}
    args = ("miner", "status", "--json", "--profile", "none")
    assert json.loads(run(*args, PITHEAD_KEY=made["api_key"], **named).stdout)["miner"]["name"] == "rig"
    assert "there is no key for" in refused(run(*args, **named))


def test_a_key_that_is_not_known_any_more_is_said_in_one_line(run: Any, refused: Any, roomy_url: str) -> None:
    made = registered(run, roomy_url)
    with AdminClient(roomy_url, OPERATOR_KEY) as operator:
        new = operator.rotate_key(made["miner_id"], grace=0).api_key
    line = refused(run("miner", "status"))
    assert f"does not take {made['miner_id']} for one of its miners" in line
    assert "give --key, else register again with --force" in line
    assert run("miner", "status", "--key", new).exit_code == 0


def test_a_key_goes_nowhere_but_where_it_is_from(run: Any, refused: Any, roomy_url: str) -> None:
    registered(run, roomy_url)
    line = refused(run("miner", "status", PITHEAD_URL=NOWHERE))
    assert f"is registered at {roomy_url}, but PITHEAD_URL is {NOWHERE}" in line
    assert run("miner", "status", PITHEAD_URL=roomy_url).exit_code == 0
    assert run("miner", "status", "--url", roomy_url, PITHEAD_URL=NOWHERE).exit_code == 0
    # A client's key in the same shell is none of a miner's.
    assert run("miner", "status", PITHEAD_KEY="key_of-a-client").exit_code == 0


@pytest.mark.parametrize("command", ["status", "run"])
def test_without_a_registration_it_says_what_to_do(command: str, run: Any, refused: Any, config: Path) -> None:
    assert "run 'pithead miner register' first" in refused(run("miner", command))
    (config / "miners").mkdir(parents=True)
    (config / "miners" / "default.toml").write_text("url =")
    assert "mend it, or register again with --force" in refused(run("miner", command))


def test_models(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "mine.gguf").write_bytes(b"GGUF" + bytes(2_000_000 - 4))
    found = json.loads(run("miner", "models", "--models-dir", str(folder), "--json").stdout)
    assert [model["model"] for model in found] == ["mine", "smollm2-135m-instruct"]
    assert found[0] == {"model": "mine", "path": str(folder / "mine.gguf"), "bytes": 2_000_000}
    shown = run("miner", "models", PITHEAD_MODELS_DIR=str(folder)).stdout
    assert "mine" in shown
    assert f"Put further GGUF files into {folder}" in shown


def test_run_refuses_a_model_that_is_not_here(run: Any, refused: Any, roomy_url: str, tmp_path: Path) -> None:
    registered(run, roomy_url, "--model", "gpt2")
    assert "there is no model 'gpt2' here; see 'pithead miner models'" in refused(run("miner", "run"))
