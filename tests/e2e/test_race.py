"""Many miners race for one queue over HTTP: each job goes to exactly one of them."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.exchange import JOB, Miner, body, connect
from tests.http.server import OPERATOR_KEY, UNLIMITED, serve

MINERS, JOBS, BATCH = 32, 1000, 250


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A coordinator of its own: jobs that other tests left for `any` machine would be raced for too."""
    with serve(tmp_path, **UNLIMITED) as url:
        yield url


async def test_each_job_goes_to_exactly_one_miner(url: str) -> None:
    async with connect(url, OPERATOR_KEY) as api:
        client = await api.client(JOBS)
        work = JOB | {"gpu_type": "race"}
        queued: list[str] = []
        for _ in range(JOBS // BATCH):
            answer = body(await client.post("/v1/jobs/batch", json={"jobs": [work] * BATCH}), 201)
            queued += [job["job_id"] for job in answer["jobs"]]
        made = [await api.miner(gpu_type="race", max_concurrent=JOBS) for _ in range(MINERS)]

        refused: Counter[str] = Counter()

        async def mine(made: Miner) -> list[tuple[str, str]]:
            """Take what is offered until nothing is: the jobs acknowledged, with their lease tokens."""
            # All see the same head of the queue. There are more of them than offers, so some come second each time.
            order = random.Random(made.id)
            async with connect(url, "") as own:  # a connection of its own, as each miner has
                miner = Miner(own.http, made.key, made.base)
                taken: list[tuple[str, str]] = []
                while offered := await miner.offered(limit=20):
                    for job in order.sample(offered, len(offered)):
                        answer = await miner.accept(job)
                        if answer.status_code == 200:
                            taken.append((job, answer.json()["lease_token"]))
                            break
                        assert answer.status_code == 409, answer.text
                        assert answer.json()["type"] == "/problems/job-already-assigned"
                        refused[job] += 1
                return taken

        taken = await asyncio.gather(*(mine(miner) for miner in made))

        acknowledged = [job for part in taken for job, _ in part]
        assert len(acknowledged) == JOBS
        assert set(acknowledged) == set(queued)
        assert len({token for part in taken for _, token in part}) == JOBS
        assert refused, "nobody ever came second: this was no race"
        # The coordinator's own account of it is the same.
        for miner, part in zip(made, taken, strict=True):
            beat = await miner.beat()
            assert {lease["job_id"] for lease in beat["leases"]} == {job for job, _ in part}
            assert beat["queue_length"] == 0
        owners = {job: miner.id for miner, part in zip(made, taken, strict=True) for job, _ in part}
        cursor: str | None = None
        seen = 0
        while True:
            query = {"limit": 200} | ({"cursor": cursor} if cursor else {})
            page = body(await client.get("/v1/jobs", params=query))
            for job in page["jobs"]:
                assert (job["status"], job["attempts"], job["miner_id"]) == ("assigned", 1, owners[job["job_id"]])
                seen += 1
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == JOBS
