"""A disk that is really full, under a coordinator in a process of its own: told clearly, nothing lost, over by itself."""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from tests.e2e.processes import PATIENCE, PITHEAD, Running, clean
from tests.http.exchange import JOB, body, connect, hash_of, problem
from tests.http.server import OPERATOR_KEY, UNLIMITED

#: Submits after which a full disk must have been noticed: the database's log has room of its own for some.
SUBMITS = 3000
#: A file system of its own for one process. An ordinary user needs to be root in a world of its own for that.
_APART = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c"]
_MOUNT = 'mount -t tmpfs -o size=4m,mode=700 tmpfs "$0" && exec "$@"'


class Disk(Protocol):
    """Where a coordinator keeps its data."""

    def command(self, folder: Path) -> list[str]:
        """What to start it with."""

    def fill(self, process: Running, folder: Path) -> None:
        """From now on there is no room."""

    def free(self, process: Running, folder: Path) -> None:
        """Now there is again."""


class Tmpfs:
    """A small file system that is filled up: writing fails with ENOSPC."""

    def command(self, folder: Path) -> list[str]:
        return [*_APART, _MOUNT, str(folder), *PITHEAD]

    def _filler(self, process: Running, folder: Path) -> Path:
        # Nobody else sees it: by way of the process that does.
        return Path(f"/proc/{process.pid}/root{folder}/filler")

    def fill(self, process: Running, folder: Path) -> None:
        with self._filler(process, folder).open("wb", buffering=0) as file:
            for size in (4096, 1):
                with pytest.raises(OSError, match="No space left") as full:
                    while True:
                        file.write(b"x" * size)
                assert full.value.errno == errno.ENOSPC

    def free(self, process: Running, folder: Path) -> None:
        self._filler(process, folder).unlink()


class Quota:
    """No file may grow any more, as at the end of a quota: writing fails with EFBIG."""

    def command(self, folder: Path) -> list[str]:
        return PITHEAD

    def _limit(self, process: Running, size: int) -> None:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def fill(self, process: Running, folder: Path) -> None:
        self._limit(process, 4096)

    def free(self, process: Running, folder: Path) -> None:
        self._limit(process, resource.RLIM_INFINITY)


def _mountable() -> bool:
    done = subprocess.run(
        [*_APART, "mount -t tmpfs -o size=1m tmpfs /mnt"], capture_output=True, timeout=10, check=False
    )
    return done.returncode == 0


#: A quota can be had everywhere, a file system of one's own nearly so.
DISKS: dict[str, Disk] = {"quota": Quota()} | ({"tmpfs": Tmpfs()} if _mountable() else {})


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest) -> Disk:
    return DISKS[request.param]


@contextlib.contextmanager
def serving(disk: Disk, folder: Path) -> Iterator[tuple[Running, str]]:
    """A coordinator on this disk, and its address."""
    folder.mkdir(exist_ok=True)
    settings = UNLIMITED | {"PITHEAD_OPERATOR_KEY": OPERATOR_KEY}
    command = disk.command(folder)
    with Running("serve", "--port", "0", "--data", str(folder), command=command, **settings) as process:
        yield process, process.says(r"serves on (http://\S+)$")[1]


def refused(answer: httpx.Response) -> None:
    """It must say that it cannot store anything now, and when to ask again."""
    assert problem(answer, 503)["type"] == "/problems/store-unavailable"
    assert int(answer.headers["retry-after"]) > 0


async def test_everybody_is_told_nothing_is_lost_and_it_ends_by_itself(disk: Disk, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(disk, folder) as (process, url):
        async with connect(url, OPERATOR_KEY) as api:
            client, miner = await api.client(1000), await api.miner()
            delivered, held = await client.submit(require_result=True), await client.submit()
            for job in (delivered, held):
                await miner.take(job)
            content = os.urandom(20_000)
            body(await miner.upload(delivered, content))

            disk.fill(process, folder)
            acknowledged = []
            for number in range(SUBMITS):
                answer = await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": f"order-{number}"})
                if answer.status_code != 201:
                    break
                acknowledged.append(answer.json()["job_id"])
            refused(answer)
            refused(await miner.complete(delivered, hash_of(content)))
            refused(await miner.upload(held, os.urandom(20_000)))
            refused(await client.delete(f"/v1/jobs/{held}"))
            refused(await api.operator.post(f"/clients/{client.id}/credit", json={"amount": 1}))
            # Reading goes on.
            assert body(await api.http.get("/healthz"))["status"] == "ok"
            assert (await client.job(delivered))["status"] == "uploading"
            assert await client.balance() == pytest.approx(
                (1000 - 0.05 * (2 + len(acknowledged)), 0.05 * (2 + len(acknowledged)))
            )
            process.says("could not look after what is due")

            disk.free(process, folder)
            process.says("the database takes changes again")
            again = body(await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": f"order-{number}"}), 201)
            assert body(await miner.complete(delivered, hash_of(content)))["earned"] == 0.05
            body(await miner.upload(held, b"bytes"))
            assert body(await client.delete(f"/v1/jobs/{held}"))["status"] == "cancelled"
            assert (await client.get(f"/v1/jobs/{delivered}/result")).content == content
            for job in (*acknowledged, again["job_id"]):
                assert (await client.job(job))["status"] == "queued"
            checked = (await api.operator.get("/ledger/check")).text.splitlines()[-1]
            assert '"sound":true' in checked
        assert sum("could not look after" in line for line in process.log) == 1
        process.signal(signal.SIGINT)
        assert process.ended() == 0


async def test_a_coordinator_that_is_stopped_on_a_full_disk_stops_in_order(disk: Disk, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(disk, folder) as (process, url):
        async with connect(url, OPERATOR_KEY) as api:
            client = await api.client(1000)
            disk.fill(process, folder)
            for _ in range(SUBMITS):
                if (await client.post("/v1/jobs", json=JOB)).status_code != 201:
                    break
        process.signal(signal.SIGINT)
        assert process.ended() == 0


async def test_a_start_without_room_is_refused_in_one_line_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    disk = Quota()
    with serving(disk, folder) as (process, url):
        async with connect(url, OPERATOR_KEY) as api:
            client = await api.client()
            job = await client.submit()
        process.signal(signal.SIGINT)
        assert process.ended() == 0
    started = await asyncio.to_thread(
        subprocess.run,
        ["prlimit", "--fsize=4096:unlimited", *PITHEAD, "serve", "--port", "0", "--data", str(folder)],
        env=clean(PITHEAD_OPERATOR_KEY=OPERATOR_KEY),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert started.returncode == 2
    assert started.stderr.startswith("pithead: ")
    assert started.stderr.count("\n") == 1
    with serving(disk, folder) as (process, url):
        async with connect(url, OPERATOR_KEY) as api:
            again = type(client)(api.http, client.key, client.base, client.id)
            assert (await again.job(job))["status"] == "queued"
