"""`pithead miner set`, `settings`, `pause` and `resume`."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest


def test_what_is_set_is_kept_and_shown(run: Any, config: Path) -> None:
    assert run("miner", "set", "limits.temperature", "80").stdout == "limits.temperature is 80.0 now.\n"
    run("miner", "set", "clients_refused", "client_1, client_2", "--profile", "second")
    kept = tomllib.loads((config / "miner.toml").read_text())
    assert kept == {
        "limits": {"temperature": 80.0},
        "profiles": {"second": {"clients_refused": ["client_1", "client_2"]}},
    }
    shown = json.loads(run("miner", "settings", "--profile", "second", "--json").stdout)
    values = {row["key"]: row["value"] for row in shown["settings"]}
    assert (values["limits.temperature"], values["clients_refused"]) == (80, ["client_1", "client_2"])
    assert values["settle"] == 60
    assert all(row["meaning"] for row in shown["settings"])
    words = run("miner", "settings").stdout
    assert "limits.temperature" in words
    assert str(config / "miner.toml") in words
    assert run("miner", "set", "limits.temperature", "--unset").stdout == "limits.temperature is – now.\n"


def test_set_without_a_value_or_with_one_that_makes_no_sense_is_one_line(run: Any, refused: Any, config: Path) -> None:
    assert "there is no value for settle" in refused(run("miner", "set", "settle"))
    assert "give a value" in refused(run("miner", "set", "settle", "1", "--unset"))
    assert "did you mean settle" in refused(run("miner", "set", "setle", "1"))
    assert "its meaning" in refused(run("miner", "set", "settle", "-1"))
    config.mkdir(exist_ok=True)
    (config / "miner.toml").write_text("settle = ")
    for command in (("settings",), ("set", "settle", "1"), ("pause",)):
        assert "miner.toml" in refused(run("miner", *command))


def test_pause_and_resume(run: Any, config: Path) -> None:
    def kept() -> Any:
        return tomllib.loads((config / "miner.toml").read_text()).get("pause")

    assert "until 'pithead miner resume'" in run("miner", "pause").stdout
    assert kept() == "yes"
    run("miner", "pause", "--for", "2h")
    left = datetime.fromisoformat(kept()).astimezone() - datetime.now().astimezone()
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)
    run("miner", "pause", "--until", "2030-01-31T18:00")
    assert kept() == "2030-01-31T18:00:00"
    assert json.loads(run("miner", "resume", "--json").stdout) == {"pause": None}
    assert kept() is None


def test_one_miner_resumes_while_the_others_are_paused(run: Any, config: Path) -> None:
    run("miner", "pause")
    assert json.loads(run("miner", "resume", "--profile", "second", "--json").stdout) == {"pause": "no"}
    values = json.loads(run("miner", "settings", "--json").stdout)["settings"]
    assert values[0] == {"key": "pause", "value": "yes", "default": None, "meaning": values[0]["meaning"]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--for", "soon"), "no length of time"),
        (("--for", "1h", "--until", "2030-01-31T18:00"), "not both"),
        (("--for", "999999999d"), "for ever"),
    ],
)
def test_a_pause_of_no_sensible_length_is_refused(
    options: tuple[str, ...], says: str, run: Any, refused: Any, config: Path
) -> None:
    assert says in refused(run("miner", "pause", *options))
    assert not (config / "miner.toml").exists()
