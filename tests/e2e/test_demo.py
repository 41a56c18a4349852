"""`pithead demo`, as it is called by `make demo`: the real model, real processes, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

DEMO = [str(Path(sys.executable).with_name("pithead")), "demo"]
PATIENCE = 60.0


def environment(temporary: Path) -> dict[str, str]:
    """A user's, with a folder for temporary files that the test looks into."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PITHEAD_", "DEMO_"))}
    return clean | {"TMPDIR": str(temporary)}


def processes_of(folder: Path) -> dict[str, int]:
    """What still runs of a demo with this folder: `coordinator`, a miner's name, or the command; and their ids."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            lines = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        settings = dict(line.partition("=")[::2] for line in lines)
        # Everything inherits it, whatever a miner may start for itself included.
        if settings.get("TMPDIR") != str(folder) or "demo" in words:
            continue
        if "serve" in words:
            found["coordinator"] = int(process.name)
        elif "run" in words:
            found[Path(settings["PITHEAD_CONFIG_DIR"]).name] = int(process.name)
        else:
            found[" ".join(words)] = int(process.name)
    return found


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in the folder, to its end."""
    return subprocess.run(
        command, env=environment(folder), cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_every_prompt_is_answered_and_the_money_adds_up(tmp_path: Path) -> None:
    done = run(tmp_path, *DEMO, "--prompts", "4", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout, parse_float=Decimal)
    assert [job["status"] for job in report["jobs"]] == ["completed"] * 4
    assert "Paris" in report["jobs"][0]["answer"]
    for job in report["jobs"]:
        assert job["answer"]
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", job["result_hash"])
    miners = report["miners"]
    assert set(miners) == {"anna", "ben"}
    for name, miner in miners.items():
        assert miner["jobs"] == sum(job["miner_name"] == name for job in report["jobs"])
        assert miner["earned"] == miner["jobs"] * Decimal("0.002")
    assert sum(report["ledger"].values()) == 0
    assert report["client"]["balance"] + sum(miner["earned"] for miner in miners.values()) == 10
    assert processes_of(tmp_path) == {}
    assert list(tmp_path.glob("pithead-demo-*")) == [], "the temporary folder is gone"


@contextmanager
def kept(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that is kept, once it says how to go on; and what it said."""
    demo = subprocess.Popen(
        [*DEMO, "--prompts", "1"],
        env=environment(folder) | {"DEMO_KEEP": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    try:
        said = ""
        for line in demo.stdout:
            said += line
            if "the same exchange again" in line:
                break
        yield demo, said
    finally:
        demo.terminate()
        demo.communicate(timeout=PATIENCE)


def test_kept_it_stays_goes_on_and_ends_with_its_children(tmp_path: Path) -> None:
    with kept(tmp_path) as (demo, said):
        assert set(processes_of(tmp_path)) >= {"coordinator", "anna", "ben"}
        export, *commands = re.findall(r"^  (.*(?:\\\n.*)?)$", said.partition("All of it stays")[2], re.MULTILINE)
        # All but the last, which would start it again.
        for command in commands[:-1]:
            done = run(tmp_path, "bash", "-e", "-c", f"{export}\n{command}")
            assert (done.returncode, bool(done.stdout)) == (0, True), (command, done.stderr)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE) == 130
    assert processes_of(tmp_path) == {}
    # The same folder again: the same exchange, with what was done in it.
    with kept(tmp_path) as (demo, said):
        assert "= 19." in said, "two clients with 10 each, less three prompts"
        os.kill(processes_of(tmp_path)["ben"], signal.SIGKILL)
        assert demo.wait(PATIENCE) == 1
        assert demo.stderr is not None
        assert "'ben' ended with -9" in demo.stderr.read()
    assert processes_of(tmp_path) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(number: signal.Signals, tmp_path: Path) -> None:
    with kept(tmp_path) as (demo, _):
        demo.send_signal(number)
        assert demo.wait(PATIENCE) == 128 + number
    assert processes_of(tmp_path) == {}
