"""What the README shows is run as it stands, against a coordinator and a miner started as a user would."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.http.server import OPERATOR_KEY, serve

from pithead.client import AdminClient, Client
from pithead.wire.miners import Completed

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
#: Seconds for one command; a model may have to be loaded for it.
PATIENCE = 60.0


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve(tmp_path / "coordinator") as url:
        yield url


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who did what the README says; nothing of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
    return clean | {"PATH": f"{BIN}:{clean['PATH']}", "PITHEAD_CONFIG_DIR": str(tmp_path / "config")}


def run(command: list[str], environment: dict[str, str], folder: Path, given: str = "") -> str:
    done = subprocess.run(
        command, env=environment, cwd=folder, input=given, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_a_miner_in_ten_lines_of_curl(url: str, shell: dict[str, str], tmp_path: Path) -> None:
    submit, script = blocks("sh", section("A miner in ten lines of curl"))
    assert len(script.splitlines()) <= 10
    with AdminClient(url, OPERATOR_KEY) as operator:
        key = operator.create_client("reader", 1).api_key
    environment = shell | {"PITHEAD_URL": url, "PITHEAD_KEY": key}
    job_id = run(["sh", "-e", "-c", submit], environment, tmp_path).strip()
    said = run(["sh", "-e", "-u", "-c", script], environment, tmp_path)
    outcome = msgspec.json.decode(said[said.rindex('{"job_id":"', 0, said.index('"receipt"')) :], type=Completed)
    assert outcome.job_id == job_id
    with Client(url, key) as client:
        result = client.result(job_id)
        assert result == (tmp_path / "answer.txt").read_bytes()
        assert outcome.receipt.result_hash == f"sha256:{hashlib.sha256(result).hexdigest()}"
        assert client.me().balance + outcome.earned == 1


def test_by_hand_and_from_python(url: str, shell: dict[str, str], tmp_path: Path) -> None:
    """Every line of the section but the coordinator's own, which runs already; keys are typed where they are asked for."""
    start, *rest = blocks("sh", section("By hand, in five minutes"))
    assert "pithead serve" in start
    lines = [line for block in rest for line in block.splitlines() if not line.startswith("export PATH=")]
    key, miner, answer = OPERATOR_KEY, None, ""
    try:
        for line in lines:
            command = ["bash", "-e", "-c", "exec " + line.replace("http://127.0.0.1:8080", url)]
            if line == "pithead miner run":
                with (tmp_path / "miner.log").open("wb") as log:
                    miner = subprocess.Popen(command, env=shell, cwd=tmp_path, stdout=log, stderr=log)
                continue
            said = run(command, shell, tmp_path, given=f"{key}\n" if "pithead login" in line else "")
            if "client create" in line:
                [key] = re.findall(r"key_\S+", said)
            if "--wait" in line:
                answer = said
        assert miner is not None
        assert answer
        [program] = blocks("python", section("From Python"))
        said = run([sys.executable, "-c", program], shell | {"PITHEAD_URL": url, "PITHEAD_KEY": key}, tmp_path)
        status, result, balance = said.splitlines()[0], said.splitlines()[1:-1], said.splitlines()[-1]
        assert re.fullmatch(r"completed my-miner sha256:[0-9a-f]{64}", status)
        assert result
        assert balance == "99.98 left"
        assert miner.poll() is None, (tmp_path / "miner.log").read_text(encoding="utf-8")
    finally:
        if miner is not None:
            miner.terminate()
            try:
                miner.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                miner.kill()
                miner.wait()
                raise
