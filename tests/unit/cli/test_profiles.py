"""Which coordinator, with which key: option, environment, profile; and how profiles are kept."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.cli.conftest import problem

URL = "http://127.0.0.1:8080"


@pytest.fixture
def asked(run: Any, coordinator: Any) -> Any:
    """The URL and the key with which a command asks."""

    def ask(*args: str, **env: str) -> tuple[str, str]:
        coordinator.answers["GET /v1/jobs"] = {"jobs": [], "next_cursor": None}
        outcome = run(*args, **env)
        assert outcome.exit_code == 0, outcome.stderr
        request = coordinator.requests[-1]
        url = f"{request.url.scheme}://{request.url.netloc.decode()}"
        return url, request.headers["Authorization"].removeprefix("Bearer ")

    return ask


LIST = ("job", "list")


def test_the_nearer_wins(asked: Any, run: Any) -> None:
    assert asked(*LIST, "--key", "k") == (URL, "k")
    assert asked("job", "--key", "k", "--url", "http://group", "list") == ("http://group", "k")
    assert asked("job", "--key", "k", "--url", "http://group", "list", "--url", "http://leaf") == ("http://leaf", "k")
    run("login", "--url", "http://saved", "--key", "saved")
    assert asked(*LIST) == ("http://saved", "saved")
    assert asked(*LIST, PITHEAD_KEY="env") == ("http://saved", "env")
    assert asked(*LIST, PITHEAD_KEY="env", PITHEAD_URL="http://env") == ("http://env", "env")
    assert asked(*LIST, "--key", "k", PITHEAD_KEY="env", PITHEAD_URL="http://env") == ("http://env", "k")


def test_profiles_by_name(asked: Any, run: Any, refused: Any) -> None:
    run("login", "--url", "http://one", "--key", "key_1")
    run("login", "--url", "http://two", "--key", "key_2", "--profile", 'two "2"')
    assert asked(*LIST) == ("http://one", "key_1")
    assert asked(*LIST, "--profile", 'two "2"') == ("http://two", "key_2")
    assert asked("job", "--profile", 'two "2"', "list") == ("http://two", "key_2")
    assert asked(*LIST, PITHEAD_PROFILE='two "2"') == ("http://two", "key_2")
    assert asked(*LIST, "--profile", 'two "2"', PITHEAD_URL="http://env") == ("http://two", "key_2")
    assert "known: default, two" in refused(run(*LIST, "--profile", "three"))


def test_a_saved_key_goes_only_where_it_was_saved_for(asked: Any, run: Any, refused: Any, coordinator: Any) -> None:
    run("login", "--url", "http://saved", "--key", "saved")
    assert asked(*LIST, "--url", "http://saved/") == ("http://saved", "saved")
    before = len(coordinator.requests)
    assert "there is no key for http://other" in refused(run(*LIST, "--url", "http://other"))
    assert "there is no key for http://other" in refused(run(*LIST, PITHEAD_URL="http://other"))
    assert len(coordinator.requests) == before


def test_login_reads_the_key_from_standard_input(asked: Any, run: Any, config: Path) -> None:
    outcome = run("login", "--url", "http://saved/", input="key_piped\n")
    assert outcome.exit_code == 0
    assert "key_piped" not in outcome.output
    assert asked(*LIST) == ("http://saved", "key_piped")
    assert stat.S_IMODE((config / "profiles.toml").stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert list(config.iterdir()) == [config / "profiles.toml"]


def test_login_again_keeps_the_mode_and_the_others(run: Any, config: Path) -> None:
    run("login", "--key", "key_1")
    run("login", "--key", "key_2", "--profile", "b")
    (config / "profiles.toml").chmod(0o644)
    run("login", "--key", "key_3")
    text = (config / "profiles.toml").read_text()
    assert "key_1" not in text
    assert '["b"]\nurl = "http://127.0.0.1:8080"\nkey = "key_2"' in text
    assert stat.S_IMODE((config / "profiles.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--url", "nowhere"], "'nowhere' is not the URL"),
        (["--url", "http://me:secret@host"], "'host' is not the URL"),
        (["--key", "a b"], "characters that no key has"),
        ([], "no key came on standard input"),
        (["--profile", "a\nb", "--key", "k"], "a profile's name is printable text"),
    ],
)
def test_login_refuses_what_cannot_be_right(run: Any, refused: Any, config: Path, args: list[str], says: str) -> None:
    assert says in refused(run("login", *args, input=""))
    assert not config.exists()


def test_a_key_that_is_refused_is_not_saved_and_the_one_before_stays(
    asked: Any, run: Any, refused: Any, coordinator: Any
) -> None:
    run("login", "--url", "http://saved", "--key", "good")
    coordinator.answers["GET /v1/clients/me"] = problem(401, "the key is unknown, or has been revoked")
    said = refused(run("login", "--url", "http://saved", "--key", "mistyped"))
    assert "http://saved does not take this key (the key is unknown, or has been revoked); nothing was saved" in said
    assert asked(*LIST) == ("http://saved", "good")


def test_a_key_that_cannot_be_tried_is_saved_and_it_is_said(asked: Any, run: Any, coordinator: Any) -> None:
    coordinator.answers["GET /v1/clients/me"] = httpx.ConnectError("nobody there")
    outcome = run("login", "--url", "http://away", "--key", "key_1")
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith("pithead: the key could not be tried: ") and outcome.stderr.count("\n") == 1
    assert asked(*LIST) == ("http://away", "key_1")


@pytest.mark.parametrize("text", ["[", "default = 1", "[default]\nkey = 5", "\udcff"])
def test_a_spoilt_profile_file(run: Any, refused: Any, config: Path, text: str) -> None:
    config.mkdir()
    (config / "profiles.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert "profiles.toml" in refused(run(*LIST))


def test_a_profile_file_that_cannot_be_made(run: Any, refused: Any, config: Path) -> None:
    config.write_text("a file where the folder should be")
    assert str(config) in refused(run("login", "--key", "k"))
