"""The root: help, errors as one line, interrupts, quickness."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

import pithead
from pithead.cli.main import SECTIONS, cli
from pithead.cli.output import clean

PITHEAD = [sys.executable, "-m", "pithead.cli.main"]


def test_help_is_a_page_with_every_command(run: Any) -> None:
    for args in (["--help"], ["-h"], []):
        page = run(*args)
        assert page.exit_code == 0
        for section, commands in SECTIONS.items():
            assert f"\n{section}:\n" in page.stdout
            for name, (_, line) in commands.items():
                assert f"  {name} " in page.stdout
                assert line in page.stdout
        assert "login" in page.stdout
        assert "Exit codes" in page.stdout


def test_version(run: Any) -> None:
    assert run("--version").stdout == f"pithead {pithead.__version__}\n"


def test_help_waits_for_nothing_heavy() -> None:
    script = (
        "import sys; from pithead.cli.main import cli; cli.main(['--help'], 'pithead', standalone_mode=False);"
        "heavy = {'httpx', 'rich', 'asyncio', 'starlette'} & set(sys.modules); sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nonsense"], "no such command 'nonsense'; see 'pithead --help'"),
        (["--nonsense"], "no such option '--nonsense'; see 'pithead --help'"),
        (["job"], "a command is missing; see 'pithead job --help'"),
        (["admin", "client"], "a command is missing; see 'pithead admin client --help'"),
        (["job", "submit"], "missing option '--model'; see 'pithead job submit --help'"),
        (["job", "status"], "missing argument 'JOB_ID'; see 'pithead job status --help'"),
        (["job", "list", "--limit", "0"], "invalid value for '--limit'"),
        (["admin", "miner", "limits", "m", "--requests-per-minute", "many"], "'many' is neither a number nor 'default'"),
        (["admin", "miner", "limits", "m"], "there is no limit to set; give --requests-per-minute"),
        (["job", "list"], "there is no key; give --key, set PITHEAD_KEY, or run 'pithead login'"),
        (["job", "list", "--key", "k", "--url", "nowhere"], "'nowhere' is not the URL of a coordinator; write it like"),
        (["job", "list", "--key", "a b"], "the key has characters that no key has; copy it again"),
        (["job", "list", "--profile", "other"], "there is no profile 'other' (known: none yet); make it with"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_exit_code_2(run: Any, refused: Any, args: list[str], says: str) -> None:
    assert says in refused(run(*args))


def test_what_the_coordinator_refuses_is_one_line(keyed: Any, coordinator: Any, refused: Any, shapes: Any) -> None:
    path = "GET /v1/jobs/job_1"
    assert refused(keyed("job", "status", "job_1")) == "not found: there is no such job; see 'pithead job list'"
    faults = [{"field": "wait", "message": "must be at most 60"}, {"field": "x", "message": "is unknown"}]
    coordinator.answers[path] = shapes["problem"](422, "", errors=faults)
    assert refused(keyed("job", "status", "job_1")) == (
        "the request has faults: wait: must be at most 60; x: is unknown"
    )
    coordinator.answers[path] = shapes["problem"](401, "no key like it;\nask \x1b[31mthe operator")
    assert refused(keyed("job", "status", "job_1")) == (
        "the key is not accepted: no key like it; ask \N{REPLACEMENT CHARACTER}[31mthe operator"
    )
    coordinator.answers[path] = httpx.UnsupportedProtocol("odd")
    assert "cannot be reached (odd); check the URL" in refused(keyed("job", "status", "job_1"))


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    @cli.command("broken", hidden=True)
    def broken() -> None:
        raise ZeroDivisionError

    try:
        assert isinstance(CliRunner().invoke(cli, ["broken"]).exception, ZeroDivisionError)
    finally:
        cli.commands.pop("broken")


def test_a_prompt_without_an_answer() -> None:
    @cli.command("asks", hidden=True)
    def asks() -> None:
        click.prompt("Name")

    try:
        outcome = CliRunner().invoke(cli, ["asks"], input="")
        assert outcome.exit_code == 2
        assert "give it as an option" in outcome.stderr
    finally:
        cli.commands.pop("asks")


def test_nothing_steers_the_terminal() -> None:
    assert clean("a\x1b[2Jb\r\nc\td\u202e") == "a\N{REPLACEMENT CHARACTER}[2Jb  c d\N{REPLACEMENT CHARACTER}"
    assert clean("Grüße – 你好") == "Grüße – 你好"


# ---- As a process


class Slow(BaseHTTPRequestHandler):
    """Says that it was asked, and gives no answer until it is let go."""

    server: SlowServer

    def do_GET(self) -> None:
        self.server.asked.set()
        self.server.let_go.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


class SlowServer(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Slow)
        self.asked, self.let_go = threading.Event(), threading.Event()


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    with SlowServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.let_go.set()
            server.shutdown()
            thread.join(30)


@pytest.mark.parametrize("args", [["job", "status", "job_1"], ["job", "wait", "job_1"]])
def test_an_interrupt_is_quiet(slow: SlowServer, args: list[str]) -> None:
    url = f"http://127.0.0.1:{slow.server_port}"
    command = [*PITHEAD, *args, "--url", url, "--key", "key_1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert slow.asked.wait(30)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr.strip()) == (130, "", "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*PITHEAD, "--help"], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
