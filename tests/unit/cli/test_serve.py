"""`pithead serve` as a process: its keys, its files, what stops it, and what it refuses to start with."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import Result

Run = Callable[..., Result]
Refused = Callable[[Result], str]

PITHEAD = str(Path(sys.executable).with_name("pithead"))


class Served:
    """A coordinator in a process of its own, and all that it says."""

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
        command = [PITHEAD, "serve", "--port", "0", "--data", str(folder), *args]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=inherited | environment)
        self.folder = folder
        self.stdout = self.stderr = self.url = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr += line
            if found := re.search(r"\bpithead serves on (http://[^\s\"]+)", line):
                self.url = found[1]
                break
        # Read on, so that a full pipe never holds it up.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.stderr += self.process.stderr.read()

    def overview(self, key: str) -> int:
        """The status of an operator's call with this key."""
        return httpx.get(f"{self.url}/v1/admin/overview", headers={"X-Api-Key": key}).status_code

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Its exit code, at last."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        assert self.process.stdout is not None
        try:
            self.stdout = self.process.stdout.read()
            return self.process.wait(timeout=30)
        except BaseException:
            self.process.kill()
            raise
        finally:
            self._reader.join()
            self.process.stdout.close()
            assert self.process.stderr is not None
            self.process.stderr.close()


@contextlib.contextmanager
def served(folder: Path, *args: str, **environment: str) -> Iterator[Served]:
    running = Served(folder, *args, **environment)
    try:
        assert running.url, running.stderr
        yield running
    finally:
        running.stop()
    assert running.process.returncode == 0, running.stderr
    assert "Traceback" not in running.stderr


def refusal(folder: Path, *args: str, **environment: str) -> str:
    """The one line with which it does not start."""
    running = Served(folder, *args, **environment)
    assert running.stop() == 2, running.stderr
    assert running.stdout == ""
    [line] = running.stderr.splitlines()
    assert line.startswith("pithead: ")
    assert "; " in line, "what to do"
    return line.removeprefix("pithead: ")


# -- the operator's key


def test_the_operator_s_key_is_made_and_shown_once(tmp_path: Path) -> None:
    with served(tmp_path) as first:
        pass
    [line] = first.stdout.splitlines()
    key = line.removeprefix("operator key (shown once, keep it): ")
    assert re.fullmatch(r"key_[\w-]{43}", key)
    assert key not in first.stderr, "a log must not have it"
    with served(tmp_path) as second:
        assert second.overview(key) == 200
        assert second.overview("key_of-somebody-else") == 401
    assert second.stdout == ""
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and key.encode() in file.read_bytes()]


def test_the_operator_s_key_from_the_environment(tmp_path: Path) -> None:
    with served(tmp_path, PITHEAD_OPERATOR_KEY="key_one-of-these-tests") as first:
        assert first.overview("key_one-of-these-tests") == 200
    # Another one takes its place; going back to the first is a change like any other.
    for given, other in (
        ("key_two-of-these-tests", "key_one-of-these-tests"),
        ("key_one-of-these-tests", "key_two-of-these-tests"),
    ):
        with served(tmp_path, PITHEAD_OPERATOR_KEY=given) as later:
            assert (later.overview(given), later.overview(other)) == (200, 401)
        assert later.stdout == ""
        assert "key_" not in later.stderr
    # One that can be guessed does not.
    assert refusal(tmp_path, PITHEAD_OPERATOR_KEY="key_of-nineteen-ch.") == (
        "operator_key has 19 characters, and one with fewer than 20 can be guessed; make one with: "
        'echo "key_$(openssl rand -hex 24)"; or set none, and the first start makes one and shows it'
    )
    # Without it the last one stays.
    with served(tmp_path) as last:
        assert last.overview("key_one-of-these-tests") == 200
    assert last.stdout == ""


# -- its files, and its end


def test_what_it_keeps_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Also in a folder that others may look into."""
    tmp_path.chmod(0o755)
    with served(tmp_path):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*")}
    assert {"pithead.db", "pithead.db-wal", "signing.pem", "results"} <= modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_orderly_stop_lets_those_go_who_wait(tmp_path: Path, how: signal.Signals) -> None:
    running = Served(tmp_path, PITHEAD_OPERATOR_KEY="key_one-of-these-tests")
    try:
        operator = {"X-Api-Key": "key_one-of-these-tests"}
        client = httpx.post(f"{running.url}/v1/admin/clients", headers=operator, json={"name": "lab"}).json()
        mine = {"X-Api-Key": client["api_key"]}
        job = httpx.post(f"{running.url}/v1/jobs", headers=mine, json={"model": "m", "input": 1, "price": 0}).json()

        url = httpx.URL(running.url)
        waiting = http.client.HTTPConnection(url.host, url.port, timeout=60)
        waiting.request("GET", f"/v1/jobs/{job['job_id']}?wait=60", headers=mine)
        # It is on its way: once another one is answered that was sent later, it has been read.
        assert httpx.get(f"{running.url}/healthz").status_code == 200
    finally:
        code = running.stop(how)
    answer = json.loads(waiting.getresponse().read())
    waiting.close()
    assert code == 0, running.stderr
    assert answer["status"] == "queued"
    assert not list(tmp_path.glob("pithead.db-*")), "the database is one file"


def test_a_disk_that_takes_nothing_more(tmp_path: Path) -> None:
    """Every write is refused with 503, reads go on, it stops in order, and nothing that was answered is lost."""
    running = Served(tmp_path, PITHEAD_OPERATOR_KEY="key_one-of-these-tests")
    try:
        with httpx.Client(base_url=running.url, headers={"X-Api-Key": "key_one-of-these-tests"}) as http:
            made = [http.post("/v1/admin/clients", json={"name": f"lab {n}"}).json()["client_id"] for n in range(3)]
            pid = running.process.pid
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            for _ in range(2):
                refused = http.post("/v1/admin/clients", json={"name": "one too many"})
                assert refused.status_code == 503, refused.text
                assert refused.json()["type"] == "/problems/store-unavailable"
                assert refused.headers["retry-after"] == "5"
            assert http.get("/v1/admin/clients").json()["clients"][0]["name"] == "lab 2"
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            made.append(http.post("/v1/admin/clients", json={"name": "room again"}).json()["client_id"])
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    finally:
        code = running.stop()
    assert code == 0, running.stderr
    assert "could not note when this coordinator stopped" in running.stderr
    assert "Traceback" not in running.stderr
    with served(tmp_path, PITHEAD_OPERATOR_KEY="key_one-of-these-tests") as again:
        shown = httpx.get(f"{again.url}/v1/admin/clients", headers={"X-Api-Key": "key_one-of-these-tests"}).json()[
            "clients"
        ]
    assert [client["client_id"] for client in shown] == made[::-1]


# -- what it does not start with


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Found out before anything is made: above all no key that would be shown this once, for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refusal(tmp_path / "new", "--port", port) == (
            f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --host or --port"
        )
    assert not (tmp_path / "new").exists()


def test_a_folder_that_another_one_uses(tmp_path: Path) -> None:
    with served(tmp_path, PITHEAD_PROT="1") as first:
        said = refusal(tmp_path)
        assert said == f"another coordinator uses {tmp_path}; stop it, or choose another folder with --data"
    assert "PITHEAD_PROT is no setting and is ignored; did you mean PITHEAD_PORT?" in first.stderr


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == f"{tmp_path}/file: File exists; check the path and your rights to it"
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "signing.pem").write_text("nonsense")
    assert "signing.pem is not an Ed25519 key in PEM form; restore it" in refusal(tmp_path / "key")
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "pithead.db").write_bytes(b"nonsense" * 1000)
    said = refusal(tmp_path / "database")
    assert said.startswith(f"cannot open the database {tmp_path}/database/pithead.db: it is encrypted, or is none;")


def test_settings_that_cannot_be_used(tmp_path: Path, run: Run, refused: Refused) -> None:
    file = tmp_path / "pithead.toml"
    file.write_text('port = "8080"')
    assert refused(run("serve", "--config", str(file))) == (
        f"{file}: port ('8080'): Expected `int`, got `str`; its meaning: The port to listen on; 0 takes a free one."
    )
    # The one that lies in the data folder is read too.
    file.write_text("prot = 8080")
    assert refused(run("serve", "--data", str(tmp_path))) == f"{file}: there is no setting prot; did you mean port?"
    assert refused(run("serve", PITHEAD_PORT="70000")).startswith("PITHEAD_PORT ('70000'): Expected `int` <= 65535;")
    assert refused(run("serve", "--port", "-1")).startswith("--port (-1): Expected `int` >= 0;")
    assert "--port" in refused(run("serve", "--port", "many"))
    assert "cannot read" in refused(run("serve", "--config", str(tmp_path / "none.toml")))
    unheard = refused(run("serve", "--port", "0", "--host", "no.such.host.invalid", "--data", str(tmp_path / "new")))
    assert unheard.startswith("cannot listen on no.such.host.invalid:0: ")
    assert not (tmp_path / "new").exists()
