"""Writes `first.sql` and `first.json`: a database that the first version of the program wrote, with rows in every table.

    .venv/bin/python tests/store/old/make.py

It takes that version out of the repository's history, and lets it serve clients and miners of that time. What it wrote is
kept as text, with the keys of those clients and miners. What is once made is not made anew: it stands for databases that
are out there.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

#: The first version that served anybody. Its schema is migration 0001.
FIRST: Final = "78d8cc4"
HERE: Final = Path(__file__).parent
CONTENT: Final = b"forty-two"


async def write(folder: Path) -> dict[str, Any]:
    """Let the program that is on the path write a database; who was there."""
    from tests.http.exchange import Clock, body, hash_of, run_world

    clock = Clock()
    async with run_world(folder, clock, enrollment="token") as world:
        token = body(await world.operator.post("/enrollment-tokens", json={"uses": 9}), 201)["enrollment_token"]
        body(await world.operator.post("/enrollment-tokens", json={"uses": 5}), 201)
        client = await world.client(credit=50)
        miner = await world.miner(max_concurrent=9, enrollment_token=token)
        other = await world.miner(name="other", enrollment_token=token)
        await miner.post("/heartbeat", json={"telemetry": {"load": 0.5}})

        async def submit(state: str, **more: Any) -> str:
            # The model says how it is to end.
            key = {"Idempotency-Key": f"order-{state}"}
            order = {"model": state, "input": {"prompt": "Hi"}, "price": 0.05, "gpu_type": "v100", "estimated_time": 60}
            return str(body(await client.post("/v1/jobs", json=order | more, headers=key), 201)["job_id"])

        jobs = {"expired": await submit("expired", timeout=30)}
        await world.later(31)
        for state in ("completed", "failed", "cancelled", "assigned", "running", "uploading", "queued", "lapsed"):
            jobs[state] = await submit(state)
        await other.beat()
        await other.take(jobs["lapsed"])
        await miner.take(jobs["completed"])
        body(await miner.upload(jobs["completed"], CONTENT))
        body(
            await miner.complete(jobs["completed"], hash_of(CONTENT), execution_time_seconds=2.0, gpu_time_seconds=1.0)
        )
        await miner.take(jobs["failed"])
        body(await miner.fail(jobs["failed"], "bad_input"))
        await miner.take(jobs["cancelled"])
        body(await client.delete(f"/v1/jobs/{jobs['cancelled']}"))
        # The other's lease runs out, and it is told at its next heartbeat. Then it is let go.
        await world.later(121)
        for state in ("assigned", "running", "uploading"):
            taken = await miner.take(jobs[state])
            jobs[f"{state}.lease"] = taken["lease_token"]
        body(await miner.post(f"/jobs/{jobs['running']}/progress", json={"fraction": 0.5, "message": "half"}))

        async def cut() -> Any:
            yield b"hal"
            raise ConnectionError

        with contextlib.suppress(ConnectionError):
            await miner.upload(jobs["uploading"], cut())
        body(await world.operator.post(f"/miners/{other.id}/suspend", json={"reason": "a lapse"}))
        assert [(await client.job(jobs[s]))["status"] for s in ("assigned", "running", "uploading")] == [
            "assigned", "running", "uploading",
        ]  # fmt: skip
    return {
        "client": {"id": client.id, "key": client.key},
        "miner": {"id": miner.id, "key": miner.key},
        "other": {"id": other.id, "key": other.key},
        "jobs": jobs,
        "now": clock.now,
    }


def dump(folder: Path) -> str:
    """The database as text. Raises `AssertionError` where a table has no rows."""
    connection = sqlite3.connect(folder / "pithead.db")
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    empty = [name for (name,) in tables if not connection.execute(f"SELECT 1 FROM {name}").fetchone()]
    assert not empty, empty
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    text = "\n".join([*connection.iterdump(), f"PRAGMA user_version = {version};", ""])
    connection.close()
    return text


def main() -> None:
    """Take the version out of the history, and run this script with it."""
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        people = asyncio.run(write(folder))
        (HERE / "first.sql").write_text(dump(folder), encoding="utf-8")
        (HERE / "first.json").write_text(json.dumps(people, indent=2) + "\n", encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place, "tree")
        tree.mkdir()
        archive = subprocess.run(["git", "archive", FIRST], cwd=HERE.parents[2], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
        path = os.pathsep.join([str(tree / "src"), str(tree)])
        environment = os.environ | {"PYTHONPATH": path}
        subprocess.run([sys.executable, __file__, str(Path(place, "data"))], env=environment, check=True)


if __name__ == "__main__":
    main()
