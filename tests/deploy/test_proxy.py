"""The proxy of the compose file and of the one server, with a real Caddy in front of a real coordinator."""

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.crash.places import free_port
from tests.deploy.parts import DEPLOY

FILE = DEPLOY / "caddy" / "Caddyfile"


def environment(folder: Path, **environment: str) -> dict[str, str]:
    kept = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return {"PATH": os.environ["PATH"]} | kept | environment


@pytest.mark.parametrize("tls", ["", "tls internal"])
def test_the_file_is_one_that_caddy_takes(tmp_path: Path, tls: str) -> None:
    given = environment(tmp_path, EXCHANGE_SITE="exchange.example.org", EXCHANGE_TLS=tls)
    line: list[str | Path] = ["caddy", "validate", "--config", FILE, "--adapter", "caddyfile"]
    done = subprocess.run(line, env=given, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def front(tmp_path: Path, default_url: str) -> Iterator[httpx.Client]:
    """The proxy with a certificate of its own; of its two coordinators, one is not there."""
    port, dead = free_port(), free_port()
    given = environment(
        tmp_path,
        EXCHANGE_SITE=f"https://localhost:{port}",
        EXCHANGE_TLS="tls internal",
        EXCHANGE_UPSTREAMS=f"127.0.0.1:{dead} {default_url.removeprefix('http://')}",
        EXCHANGE_HTTP_PORT=str(free_port()),
    )
    line: list[str | Path] = ["caddy", "run", "--config", FILE, "--adapter", "caddyfile"]
    with subprocess.Popen(line, env=given, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            # Its certificate may come before or after it serves. Its log ends where it fails to start.
            awaited = {"serving initial configuration", "certificate obtained successfully"}
            while awaited:
                said = process.stderr.readline()
                assert said, f"it ended without: {awaited}"
                awaited -= {words for words in awaited if words in said}
            reader = threading.Thread(target=process.stderr.read)
            reader.start()
            root = tmp_path / "caddy" / "pki" / "authorities" / "local" / "root.crt"
            trust = ssl.create_default_context(cafile=root)
            with httpx.Client(base_url=f"https://localhost:{port}", verify=trust) as client:
                yield client
        finally:
            process.terminate()
            process.wait(20)


def test_it_speaks_tls_for_the_coordinators_that_are_up(front: httpx.Client) -> None:
    for _ in range(4):
        answer = front.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert front.get("/metrics").status_code == 404
    compressed = front.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in compressed.headers, "digests are of the bytes that are sent"
