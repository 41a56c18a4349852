"""Where the database key comes from, what is refused, and what nobody is told."""

import os
import sys
from pathlib import Path

import pytest

from pithead.store import keys
from pithead.store.errors import StoreError
from pithead.store.keys import DatabaseKey, find_key, new_key, parse_key

HEX = "0123456789abcdef" * 4
NAMES = {"path": "key_path", "command": "key_command", "value": "KEY"}


def find(path: str = "", command: str = "", value: str = "") -> DatabaseKey:
    return find_key(path, command, value, names=NAMES)


def refused(path: str = "", command: str = "", value: str = "") -> str:
    with pytest.raises(StoreError) as refusal:
        find(path, command, value)
    said = str(refusal.value)
    assert "\n" not in said
    assert HEX[:8] not in said
    return said


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "key"
    made.write_text(HEX + "\n")
    made.chmod(0o600)
    return made


def script(tmp_path: Path, text: str) -> str:
    made = tmp_path / "a script.py"
    made.write_text(text)
    return f"{sys.executable} '{made}'"


def test_a_key_is_found_in_each_place(file: Path, tmp_path: Path) -> None:
    wanted = f"x'{HEX}'"
    assert find(path=str(file)).raw() == wanted
    assert find(value=HEX.upper()).raw() == wanted
    assert find(command=script(tmp_path, f"print('  {HEX}')")).raw() == wanted


def test_it_comes_from_one_place(file: Path) -> None:
    assert "there is no key" in refused()
    assert "key_path and KEY are set" in refused(path=str(file), value=HEX)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_file_that_others_may_read_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert "chmod 600" in refused(path=str(file))


@pytest.mark.parametrize(
    "text", ["", "\n", HEX[:-1], HEX + "0", HEX[:-1] + "g", f"0x{HEX[2:]}", HEX * 100, "a passphrase"]
)
def test_what_is_no_key_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    assert "holds no key" in refused(path=str(file))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(path=str(tmp_path / "nowhere"))
    assert refused(path=str(tmp_path))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    writing = os.open(fifo, os.O_RDWR)
    assert "is no file" in refused(path=str(fifo))
    os.close(writing)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"import sys; print('{HEX}'); sys.exit(3)", "ended with 3"),
        (f"import os, signal; print('{HEX}', flush=True); os.kill(os.getpid(), signal.SIGTERM)", "signal 15"),
        (f"import sys; print('{HEX}', file=sys.stderr)", "holds no key"),
        (f"print('the key: {HEX}')", "holds no key"),
    ],
    ids=["failed", "killed", "on standard error", "with words"],
)
def test_a_command_that_does_not_give_the_key(
    tmp_path: Path, text: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(command=script(tmp_path, text))
    assert capfd.readouterr() == ("", "")  # nothing that it printed was let through


def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "COMMAND_TIMEOUT", 0.3)
    assert "took longer" in refused(command=script(tmp_path, "import sys; sys.stdin = open('/dev/zero'); input()"))


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    assert "holds no key" in refused(command=f"echo {HEX}; touch {tmp_path}/made")
    assert not (tmp_path / "made").exists()
    assert "No such file" in refused(command="no-such-command-anywhere --key")
    assert "cannot be read as a command" in refused(command="echo 'unfinished")
    assert "is empty" in refused(command=" ")


def test_a_new_key_is_a_key_and_another_each_time() -> None:
    made = {new_key() for _ in range(50)}
    assert len(made) == 50
    assert all(parse_key(one.encode(), "it").raw() == f"x'{one}'" for one in made)


def test_a_key_is_wiped_and_not_shown() -> None:
    key = parse_key(HEX.encode(), "it")
    kept = key._key
    assert HEX[:8] not in repr(key)
    assert key.derive("one") != key.derive("another")
    assert key.derive("one") == parse_key(HEX.encode(), "it").derive("one")
    assert key.same(parse_key(HEX.encode(), "it"))
    key.wipe()
    assert not any(kept)
    for use in (key.raw, lambda: key.derive("one")):
        with pytest.raises(StoreError, match="dropped"):
            use()
