"""The owner's file."""

import stat
from pathlib import Path
from typing import Any

import pytest

from pithead.agent.owner import settings
from pithead.agent.owner.settings import Alert, Limits, Owner, Unreadable, duration, load, options, put


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "miner.toml"


def test_without_a_file_nothing_is_decided(file: Path) -> None:
    assert load(file) == Owner()


def test_what_is_set_is_read_again_and_the_rest_of_the_file_stays(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("# mine\nmodels = ['gpt2'] # only this\n\n[limits]\npower = 200\n")
    assert put(file, "limits.temperature", "80").limits == Limits(temperature=80, power=200)
    assert put(file, "price_per_hour", "0.25").price_per_hour == 0.25
    owner = put(file, "hours", "22:00-07:00, 12:00-13:00")
    assert owner == load(file)
    assert (owner.hours, owner.models) == (["22:00-07:00", "12:00-13:00"], ["gpt2"])
    text = file.read_text()
    assert "# mine" in text
    assert "# only this" in text
    assert put(file, "models", None).models is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [other.name for other in file.parent.iterdir()] == ["miner.toml"]


def test_a_profile_has_its_own_word_in_place_of_that_for_all(file: Path) -> None:
    put(file, "max_concurrent", "4")
    put(file, "limits.power", "100")
    put(file, "limits.temperature", "70", "second")
    put(file, "gpus", "0,GPU-5", "second")
    assert load(file) == Owner(max_concurrent=4, limits=Limits(power=100))
    second = load(file, "second")
    assert (second.max_concurrent, second.gpus) == (4, ["0", "GPU-5"])
    assert second.limits == Limits(power=100, temperature=70)


VALUES: dict[str, tuple[str, Any]] = {
    "pause": ("2026-01-31T18:00:00", "2026-01-31T18:00:00"),
    "models": ("gpt2,llama", ["gpt2", "llama"]),
    "minimum_price": ("0.01", 0.01),
    "max_concurrent": ("3", 3),
    "days": ("sat,sun", ["sat", "sun"]),
    "limits.others": ("0", 0.0),
    "alerts.temperature.at": ("85", 85.0),
    "alerts.temperature.action": ("throttle", "throttle"),
    "alerts.command": ("notify-send Pithead", "notify-send Pithead"),
}


@pytest.mark.parametrize("key", VALUES)
def test_every_kind_of_value_can_be_set(key: str, file: Path) -> None:
    text, value = VALUES[key]
    assert settings.value_of(put(file, key, text), key) == value
    assert settings.value_of(load(file), key) == value


def test_a_date_of_toml_is_an_instant_too(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("pause = 2026-01-31T18:00:00\n[profiles.x]\npause = 2026-02-01 10:00:00\n")
    assert load(file).pause == "2026-01-31T18:00:00"
    assert load(file, "x").pause == "2026-02-01T10:00:00"


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("limits.temprature", "80", "did you mean limits.temperature"),
        ("nonsense", "1", "'pithead miner settings' lists"),
        ("max_concurrent", "many", "Expected `int"),
        ("max_concurrent", "0", ">= 1"),
        ("hours", "7-9", "not in the form that is wanted; its meaning: When to work, in local time: `22:00-07:00`"),
        ("days", "monday", "Invalid enum value"),
        ("pause", "tomorrow", "Invalid isoformat"),
        ("alerts.memory.action", "shout", "Invalid enum value"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(key: str, text: str, says: str, file: Path) -> None:
    put(file, "price_per_hour", "1")
    before = file.read_text()
    with pytest.raises(Unreadable, match=r"[\s\S]*; ") as refused:
        put(file, key, text)
    assert says in str(refused.value)
    assert file.read_text() == before


@pytest.mark.parametrize(
    "text", ["models = ", "models = 'gpt2'", "modles = []", "profiles = 3", "[profiles]\nx = 1", "\xff"]
)
def test_a_file_that_cannot_be_used_is_said_to_be_so_and_kept(text: str, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(Unreadable, match=str(file)):
        load(file, "x")
    with pytest.raises(Unreadable):
        put(file, "max_concurrent", "1", "x")
    assert file.read_bytes() == text.encode("latin-1")


def test_every_setting_has_a_meaning() -> None:
    assert all(option.meaning for option in options())
    assert {"limits.temperature", "alerts.failures.at"} <= {option.name for option in options()}
    assert Owner().alerts.failures == Alert()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1 d", 86400)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert duration(text) == seconds


def test_what_is_no_length_of_time_is_refused() -> None:
    with pytest.raises(ValueError, match="write 90s"):
        duration("soon")
