"""Backups of a coordinator under load: each that is restored is whole, and a coordinator on it finishes the open work."""

import asyncio
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import run
from tests.http.exchange import Api, Client, Miner, body, connect, hash_of
from tests.http.server import OPERATOR_KEY, UNLIMITED, serve
from tests.postgres import Server

BACKUPS = 2
OPEN = ("queued", "assigned", "running", "uploading")


class Load:
    """Clients and miners that work until they are told to stop."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.pairs: list[tuple[Client, Miner]] = []
        self.completed = 0
        self._progress = asyncio.Condition()

    async def goes_on(self, more: int) -> None:
        """Wait until so many more jobs are completed."""
        enough = self.completed + more
        async with self._progress:
            await self._progress.wait_for(lambda: self.completed >= enough)

    async def work(self, api: Api) -> None:
        """A client and a miner. Of five jobs three are completed, one is left with the miner and one in the queue."""
        client, miner = await api.client(1000), await api.miner(max_concurrent=1000)
        self.pairs.append((client, miner))
        for number in itertools.count():
            if self.stop.is_set():
                return
            job = await client.submit(require_result=True, price=0.05, timeout=3600)
            if number % 5 == 4:
                continue
            taken = await miner.accept(job)
            if taken.status_code == 409:
                continue  # The other miner has it by now: they are offered each other's.
            if number % 5 != 3:
                content = os.urandom(2000)
                body(await miner.upload(job, content))
                body(await miner.complete(job, hash_of(content)))
                async with self._progress:
                    self.completed += 1
                    self._progress.notify_all()


async def finish(api: Api, load: Load) -> tuple[int, int]:
    """Look at all that is there, and do what is open; how many results there were, and how many jobs were open."""
    results = opened = 0
    for client, miner in load.pairs:
        client.http = miner.http = api.http
    miners = {miner.id: miner for _, miner in load.pairs}
    for client, own in load.pairs:
        for job in await jobs_of(client):
            if job["status"] == "completed":
                answer = await client.get(f"/v1/jobs/{job['job_id']}/result")
                # Those whose time was over have no bytes any more, and say so.
                assert answer.status_code == (410 if job["result_expired"] else 200), answer.text
                if not job["result_expired"]:
                    assert hash_of(answer.content) == job["result_hash"]
                    results += 1
                continue
            assert job["status"] in OPEN
            opened += 1
            miner = miners[job["miner_id"]] if job["miner_id"] else own
            await miner.beat()
            if job["status"] == "queued":
                await miner.take(job["job_id"])
            body(await miner.upload(job["job_id"], b"late"))
            body(await miner.complete(job["job_id"], hash_of(b"late")))
        assert {job["status"] for job in await jobs_of(client)} == {"completed"}
    return results, opened


async def jobs_of(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 200}
    while True:
        page = body(await client.get("/v1/jobs", params=query))
        found += page["jobs"]
        if not page.get("next_cursor"):
            return found
        query["cursor"] = page["next_cursor"]


async def command(*arguments: str, **settings: str) -> dict[str, Any]:
    done = await asyncio.to_thread(run, "admin", *arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_restored_under_load_nothing_is_missing(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    def new_database() -> dict[str, str]:
        if not database:
            return {}
        server: Server = request.getfixturevalue("postgres")
        return {"PITHEAD_DATABASE": server.url(server.create())}

    where = {"PITHEAD_DATABASE": database} if database else {}
    load, home = Load(), tmp_path / "home"
    # Results are given up two seconds after they came, so that some are while a backup is made.
    with serve(home, PITHEAD_RETENTION__RESULTS="2", **UNLIMITED, **where) as url:
        async with connect(url, OPERATOR_KEY) as api:
            work = [asyncio.create_task(load.work(api)) for _ in range(2)]
            made: list[dict[str, Any]] = []
            for number in range(BACKUPS):
                await load.goes_on(10)
                made.append(await command("backup", str(tmp_path / f"backup-{number}"), "--data", str(home), **where))
            load.stop.set()
            await asyncio.gather(*work)
            sound = body(await api.operator.get("/ledger/check"))
            assert sound["sound"], sound
    assert [one["manifest"]["missing"] for one in made] == [[]] * BACKUPS
    seen = []
    for number in range(BACKUPS):
        again, other = tmp_path / f"restored-{number}", new_database()
        restored = await command("restore", str(tmp_path / f"backup-{number}"), "--data", str(again), **other)
        assert restored["checked"]["faulty"] == 0
        with serve(again, **UNLIMITED, **other) as url:
            async with connect(url, OPERATOR_KEY) as api:
                seen.append(await finish(api, load))
                assert (await api.ledger())["escrow"] == 0
                assert body(await api.operator.get("/ledger/check"))["sound"]
    # There was something at stake in each, and more in each than in the one before.
    assert all(results and opened for results, opened in seen), seen
    rows = [one["manifest"]["tables"]["jobs"]["rows"] for one in made]
    assert rows == sorted(set(rows)), rows
