"""The tutorials: every block of them, in order, as it stands, by somebody who types what is asked for."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.test_readme import BIN, PATIENCE, run
from tests.unit.cli.test_serve import Served

from pithead.client import AdminClient, Client

TUTORIALS: Final = Path(__file__).parents[2] / "docs" / "tutorials"
ADDRESS: Final = "http://127.0.0.1:8080"


class Reader:
    """Somebody with an empty folder, who reads from the top."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.folder, self.served = folder, served
        self.environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(folder),
            "PITHEAD_CONFIG_DIR": str(folder / "config"),
            "PITHEAD_DATA": str(folder / "coordinator"),
        }
        #: What is typed where a key is asked for.
        self.key = ""
        self.running: list[subprocess.Popen[bytes]] = []

    def follow(self, name: str) -> list[str]:
        """Do what the page says; what each of its commands said."""
        text = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
        said = []
        for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if language == "python":
                said.append(self._do([sys.executable, "-c", block]))
                continue
            for line in block.splitlines():
                if line == "pithead serve":
                    continue  # It runs already, on a port that is free.
                command = line.replace(ADDRESS, self.served.url)
                if line == "pithead miner run":
                    self._start(command)
                else:
                    said.append(self._do(["sh", "-e", "-c", command]))
        return said

    def _do(self, command: list[str]) -> str:
        return run(command, self.environment, self.folder, given=f"{self.key}\n")

    def _start(self, command: str) -> None:
        with (self.folder / "agent.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    ["sh", "-c", f"exec {command}"], env=self.environment, cwd=self.folder, stdout=log, stderr=log
                )
            )

    def leave(self) -> None:
        for process in self.running:
            process.terminate()
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("exchange") / "coordinator")
    yield served
    assert served.stop() == 0


@pytest.fixture
def reader(served: Served, tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, served)
    reader.environment["PITHEAD_DATA"] = str(served.folder)
    yield reader
    reader.leave()


def operators_key(served: Served) -> str:
    """Printed once, on standard output."""
    assert served.process.stdout is not None
    if not served.stdout:
        served.stdout = served.process.stdout.readline()
    (key,) = re.findall(r"key_\S+", served.stdout)
    return str(key)


def test_running_an_exchange(reader: Reader, served: Served) -> None:
    reader.key = operators_key(served)
    said = "\n".join(reader.follow("operator"))
    assert re.search(r"key_\S+", said)
    assert "alice" in said
    assert (reader.folder / "first-backup").is_dir()


def test_offering_a_machine_and_having_work_done(reader: Reader, served: Served, tmp_path: Path) -> None:
    """The two belong together: what one does is the other's."""
    with AdminClient(served.url, operators_key(served)) as operator:
        key = operator.create_client("bob", 1).api_key
    said = reader.follow("miner")
    assert any("my-first-miner" in one for one in said)
    other = Reader(tmp_path / "client", served)
    other.folder.mkdir()
    other.key = key
    other.environment |= {"PITHEAD_URL": served.url, "PITHEAD_KEY": key}
    said = other.follow("client")
    assert any(re.fullmatch(r"completed by my-first-miner\n(?s:.+)", one) for one in said), said
    assert "there-is-no-such-model" in said[-1]
    with Client(served.url, key) as client:
        account = client.me()
    # Two were done, and the third waits with its price set aside.
    assert (str(account.balance), str(account.held)) == ("0.97", "0.01")
    assert "0.02" in run(["pithead", "miner", "earnings"], reader.environment, reader.folder)
