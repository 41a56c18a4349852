"""Settings: where each comes from, which source counts, and what is said about one that cannot be used."""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pithead.settings import NOT_IN_FILES, NOT_SETTINGS, SECRETS, Settings, SettingsError, load, options, value_of

OPTIONS = {option.name: option for option in options()}


def write(folder: Path, text: str) -> Path:
    file = folder / "pithead.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(
    file: Path | None = None, given: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(given, environment or {}, file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- sources


def test_nothing_has_to_be_set() -> None:
    loaded = load({}, {})
    assert loaded.settings == Settings()
    assert (loaded.sources, loaded.warnings) == ({}, [])


def test_the_command_line_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, 'port = 1\nhost = "file"\nlog_level = "error"\n[leases]\nttl = 1\n')
    environment = {"PITHEAD_PORT": "2", "PITHEAD_HOST": "environment"}
    loaded = load({"port": 3, "host": None}, environment, file)
    settings = loaded.settings
    assert (settings.port, settings.host, settings.log_level, settings.leases.ttl) == (3, "environment", "error", 1)
    assert settings.leases.retry_base == 5, "what is beside it in a table keeps its default"
    assert loaded.sources == {
        "port": "command line", "host": "PITHEAD_HOST", "log_level": str(file), "leases.ttl": str(file),
    }  # fmt: skip


ANYWHERE = [option for option in OPTIONS.values() if option.name not in NOT_IN_FILES]


@pytest.mark.parametrize("option", ANYWHERE, ids=lambda option: option.name)
def test_every_setting_can_come_from_anywhere(option: Any, tmp_path: Path) -> None:
    """Its own default, written out: the same settings, with another source."""
    default = option.default
    # JSON of a plain value is TOML too.
    file = write(tmp_path, f"{option.name} = {json.dumps(default)}")
    for loaded, source in (
        (load({}, {}, file), str(file)),
        (load({}, {option.variable: str(default)}), option.variable),
        (load({option.name: default}, {}), "command line"),
    ):
        assert loaded.sources == {option.name: source}
        assert loaded.settings == Settings()
        assert value_of(loaded.settings, option.name) == default


def test_every_setting_says_what_it_means() -> None:
    for option in OPTIONS.values():
        assert option.meaning.endswith("."), option.name
        assert option.variable == "PITHEAD_" + option.name.upper().replace(".", "__")
        assert option.variable.removeprefix("PITHEAD_") not in NOT_SETTINGS


def test_which_file_is_read(tmp_path: Path) -> None:
    beside = write(tmp_path, "port = 1")
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text("port = 2")
    given.write_text("port = 3")
    data, variable = {"PITHEAD_DATA": str(tmp_path)}, {"PITHEAD_CONFIG": str(named)}
    assert load({}, data).settings.port == load({"data": str(tmp_path)}, {}).settings.port == 1
    assert load({}, data | variable).settings.port == 2
    assert load({}, data | variable, given).settings.port == 3
    assert load({}, {"PITHEAD_CONFIG": ""}).settings.port == Settings().port
    beside.unlink()
    assert load({}, data).settings.port == Settings().port, "there need be none"


def test_the_data_folder() -> None:
    assert Settings(data="/srv/pithead").folder == Path("/srv/pithead")
    assert Settings().folder.name == "coordinator"


# -- what cannot be used


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('port = "8080"', "port ('8080'): Expected `int`, got `str`; its meaning: The port to listen on"),
        ("port = 8080.5", "port (8080.5): Expected `int`, got `float`"),
        ("port = true", "port (True): Expected `int`, got `bool`"),
        ("host = 5", "host (5): Expected `str`, got `int`"),
        ('[leases]\nttl = "120"', "leases.ttl ('120'): Expected `float`, got `str`"),
        ("[leases]\nttl = 0", "leases.ttl (0): Expected `float` > 0.0"),
        ("[leases]\nretry_base = -1", "leases.retry_base (-1): Expected `float` >= 0.0"),
        ("fee_basis_points = 10001", "fee_basis_points (10001): Expected `int` <= 10000"),
        ("[jobs]\nmax_attempts = 0", "jobs.max_attempts (0): Expected `int` >= 1"),
        ('enrollment = "closed"', "enrollment ('closed'): Invalid enum value 'closed'"),
        ("prot = 1", "there is no setting prot; did you mean port?"),
        ("[lease]\nttl = 1", "there is no setting lease.ttl; did you mean leases.ttl?"),
        ("leases = 5", "there is no setting leases"),
        ("[leases.ttl]\nseconds = 5", "there is no setting leases.ttl.seconds; did you mean leases.ttl?"),
        ("xyzzy = 1", "there is no setting xyzzy; 'pithead settings' lists those that there are"),
        ("[nothing]", "there is no setting nothing"),
        ("port = = 1", "is not valid TOML: "),
        ("port = 1\nport = 2", "is not valid TOML: "),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    """In the file a number is a number: a type is not guessed, and a misspelt name is not ignored."""
    file = write(tmp_path, text)
    said = refused(file)
    assert said.startswith(str(file))
    assert says in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.toml") == (
        f"cannot read {tmp_path}/none.toml: No such file or directory; check the path and your rights to it"
    )
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in refused(tmp_path / "binary.toml")
    # One that is named must be there, also by its variable.
    assert "cannot read" in refused(environment={"PITHEAD_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("PITHEAD_PORT", "many", "PITHEAD_PORT ('many'): Expected `int`, got `str`; its meaning: The port"),
        ("PITHEAD_PORT", "", "PITHEAD_PORT (''): Expected `int`"),
        ("PITHEAD_PORT", "65536", "PITHEAD_PORT ('65536'): Expected `int` <= 65535"),
        ("PITHEAD_LEASES__TTL", "nan", "PITHEAD_LEASES__TTL ('nan'): "),
        ("PITHEAD_LEASES__TTL", "inf", "PITHEAD_LEASES__TTL ('inf'): "),
        ("PITHEAD_RATE_LIMITS__REQUESTS_PER_MINUTE", "-1", "Expected `int` >= 0"),
        ("PITHEAD_LOG_LEVEL", "loud", "Invalid enum value 'loud'"),
    ],
)
def test_a_variable_that_cannot_be_used(variable: str, text: str, says: str) -> None:
    assert says in refused(environment={variable: text})


def test_a_variable_is_read_leniently() -> None:
    loaded = load(
        {}, {"PITHEAD_PORT": "8080", "PITHEAD_LEASES__TTL": "90", "PITHEAD_HTTP__TRUSTED_PROXIES": "10.0.0.1"}
    )
    assert (loaded.settings.port, loaded.settings.leases.ttl) == (8080, 90.0)
    assert loaded.settings.http.trusted_proxies == "10.0.0.1"


def test_a_variable_that_is_no_setting_is_warned_of() -> None:
    """It may be another program's: no reason not to start."""
    given = {"PITHEAD_PROT": "1", "PITHEAD_LEASE_TTL": "1", "PITHEAD_XYZZY": "2", "PATHEAD_PORT": "3"}
    loaded = load({}, given | {f"PITHEAD_{name}": "" for name in NOT_SETTINGS})
    assert loaded.settings == Settings()
    assert loaded.warnings == [
        "PITHEAD_PROT is no setting and is ignored; did you mean PITHEAD_PORT?",
        "PITHEAD_LEASE_TTL is no setting and is ignored; did you mean PITHEAD_LEASES__TTL?",
        "PITHEAD_XYZZY is no setting and is ignored",
    ]


def test_a_value_from_the_command_line_is_checked_too() -> None:
    assert refused(given={"port": 99_999}).startswith("--port (99999): Expected `int` <= 65535")


# -- secrets

SECRET = "key_that nobody may read"


def test_a_secret_that_cannot_be_used_is_not_shown(tmp_path: Path) -> None:
    """One with a blank in it could be sent in no header: better said now than met as a 401."""
    said = [
        refused(write(tmp_path, f'operator_key = "{SECRET}"')),
        refused(environment={"PITHEAD_OPERATOR_KEY": SECRET}),
        refused(environment={"PITHEAD_OPERATOR_KEY": SECRET + "\n"}),
        refused(given={"operator_key": SECRET}),
    ]
    for line in said:
        assert "operator_key" in line.lower()
        assert "nobody" not in line
        assert ": a key has no blanks, no line ends and no letters beyond ASCII; make one with: echo" in line
    assert load({}, {"PITHEAD_OPERATOR_KEY": "key_abc-DEF_123"}).settings.operator_key == "key_abc-DEF_123"


def test_secrets_are_settings() -> None:
    assert OPTIONS.keys() >= SECRETS
    assert "operator_key" in SECRETS


@given(st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=40))
def test_a_printable_key_is_taken_as_it_is(key: str) -> None:
    assert load({}, {"PITHEAD_OPERATOR_KEY": key}).settings.operator_key == key
