"""Reference D: the same claim and complete by `procrastinate`, through its own API, on PostgreSQL.

`python -m bench.procrastinate_queue URL SECONDS` prints how many jobs a second were claimed and completed: no HTTP, no keys,
no money, one process with 16 connections, beside the server on one core.
"""

import asyncio
import sys
import time
from typing import Final

import procrastinate
from procrastinate import jobs as of_procrastinate
from procrastinate.types import JSONDict

_CONNECTIONS: Final = 16
_AHEAD: Final = 20_000


async def measure(url: str, seconds: float) -> float:
    """Jobs a second."""
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=_CONNECTIONS, max_size=_CONNECTIONS)
    app = procrastinate.App(connector=connector)

    @app.task(name="work")
    async def work(prompt: str) -> None:
        """Never run: claiming and completing is what is measured."""

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        given: JSONDict = {"prompt": "What is the capital of France?"}
        await work.batch_defer_async(*[given] * _AHEAD)
        worker = await app.job_manager.register_worker()
        done = 0
        until = time.perf_counter() + seconds

        async def one() -> None:
            nonlocal done
            while time.perf_counter() < until:
                job = await app.job_manager.fetch_job(queues=None, worker_id=worker)
                if job is None:
                    return
                await app.job_manager.finish_job(job, status=of_procrastinate.Status.SUCCEEDED, delete_job=False)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(_CONNECTIONS)))
        return done / (time.perf_counter() - began)


if __name__ == "__main__":
    print(asyncio.run(measure(sys.argv[1], float(sys.argv[2]))))
