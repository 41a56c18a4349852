"""Where a key is kept: readable by its owner only, whole, and never replaced unasked."""

import os
import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pithead.agent import registration
from pithead.saved import registrations
from pithead.saved.place import Unusable
from pithead.saved.registrations import Registration

MINE = Registration(url="http://127.0.0.1:8080", miner_id="miner_1", key="key_1", models=["gpt2", 'a "quoted\\ one'])
OTHER = Registration(url="https://elsewhere/x", miner_id="miner_2", key="key_2")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITHEAD_CONFIG_DIR", str(tmp_path / "pithead"))
    return tmp_path / "pithead"


def create(what: Registration, profile: str = "default", *, replace: bool = False) -> Path:
    answer, file = registration.create(profile, lambda: what, lambda answer: answer, replace=replace)
    assert answer == what
    return file


def test_it_comes_back_as_it_was(home: Path) -> None:
    assert create(MINE) == home / "miners" / "default.toml"
    assert create(OTHER, "second") == home / "miners" / "second.toml"
    assert registrations.load("default") == MINE
    assert registrations.load("second") == OTHER


def test_only_its_owner_can_read_it_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        modes: list[int] = []

        def register() -> Registration:
            # While the key is on its way, too.
            modes.extend(file.stat().st_mode & 0o777 for file in (home / "miners").iterdir())
            return MINE

        _, file = registration.create("default", register, lambda answer: answer, replace=False)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    assert modes == [0o600]
    assert (home / "miners").stat().st_mode & 0o777 == 0o700
    assert [file.name for file in (home / "miners").iterdir()] == ["default.toml"]


def test_it_is_not_replaced_and_nobody_is_asked(home: Path) -> None:
    create(MINE)

    def register() -> NoReturn:
        raise AssertionError("a second miner was registered")

    with pytest.raises(Unusable, match=r"has a registration already; use another --profile, or --force"):
        registration.create("default", register, lambda answer: answer, replace=False)
    assert registrations.load("default") == MINE


def test_with_force_it_is_replaced_whole() -> None:
    create(MINE)
    create(OTHER, replace=True)
    assert registrations.load("default") == OTHER


def test_of_two_at_once_one_wins_and_the_other_is_told_where_its_key_is(home: Path) -> None:
    both_asked = threading.Barrier(2)
    outcomes: dict[str, Any] = {}

    def register(what: Registration) -> Registration:
        both_asked.wait(10)
        return what

    def run(what: Registration) -> None:
        try:
            registration.create("default", lambda: register(what), lambda answer: answer, replace=False)
            outcomes[what.key] = "kept"
        except Unusable as unusable:
            outcomes[what.key] = str(unusable)

    threads = [threading.Thread(target=run, args=(what,)) for what in (MINE, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [key for key, outcome in outcomes.items() if outcome == "kept"]
    [(loser, told)] = [(key, outcome) for key, outcome in outcomes.items() if outcome != "kept"]
    assert registrations.load("default").key == winner
    assert loser in Path(told.rpartition("the new key is in ")[2]).read_text()


def test_a_file_system_without_links_will_do(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def no_links(*_: object) -> NoReturn:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    create(MINE)
    assert registrations.load("default") == MINE
    assert [file.name for file in (home / "miners").iterdir()] == ["default.toml"]

    # Somebody is faster, after the look.
    def register() -> Registration:
        registrations.file_of("second").write_text("taken")
        return OTHER

    with pytest.raises(Unusable, match="the new key is in") as refused:
        registration.create("second", register, lambda answer: answer, replace=False)
    assert "key_2" in Path(str(refused.value).rpartition("the new key is in ")[2]).read_text()
    assert registrations.file_of("second").read_text() == "taken"


def test_where_registering_fails_nothing_is_left(home: Path) -> None:
    def register() -> NoReturn:
        raise RuntimeError("no coordinator")

    with pytest.raises(RuntimeError):
        registration.create("default", register, lambda answer: answer, replace=False)
    assert list((home / "miners").iterdir()) == []


def test_where_it_cannot_be_kept_nobody_is_asked(home: Path) -> None:
    home.write_text("a file where the folder should be")

    def register() -> NoReturn:
        raise AssertionError("a miner was registered whose key has no place")

    with pytest.raises(OSError, match=r"pithead|Not a directory"):
        registration.create("default", register, lambda answer: answer, replace=False)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "ä", "x" * 65, "a\0"])
def test_what_is_no_name_for_a_file(name: str) -> None:
    with pytest.raises(Unusable, match="is no name for a file"):
        registrations.load(name)


def test_where_there_is_none_it_says_what_to_do() -> None:
    with pytest.raises(Unusable, match=r"run 'pithead miner register' first"):
        registrations.load("default")
    with pytest.raises(Unusable, match=r"run 'pithead miner register --profile second' first"):
        registrations.load("second")


@pytest.mark.parametrize(
    "content",
    [
        b"url = ",
        b"\xff\xfe",
        b'url = "http://x"\nminer_id = "m"',
        b'url = 5\nminer_id = "m"\nkey = "k"',
        b"",
    ],
)
def test_one_that_cannot_be_read_says_so(content: bytes) -> None:
    file = create(MINE)
    file.write_bytes(content)
    with pytest.raises(Unusable, match=r"default.toml cannot be read .*; mend it, or register again with --force"):
        registrations.load("default")


def test_everything_is_in_the_chosen_folder_or_in_the_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registrations.file_of("default").is_relative_to(home)
    assert registration.spool_of("miner_1") == home / "spool" / "miner_1"
    for odd in ("../../etc", "a/b", "", "x" * 200, "ä"):
        assert registration.spool_of(odd).parent == home / "spool"
    monkeypatch.delenv("PITHEAD_CONFIG_DIR")
    monkeypatch.setenv("HOME", str(home))
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for path in (registrations.file_of("x"), registration.spool_of("x"), registration.models_folder()):
        assert path.is_relative_to(home)
