"""What each page weighs, and the server's time for it, with a hundred thousand jobs: `python -m tests.web.weight`.

Prints docs/reference/dashboard-weight.md. The jobs are made by the exchange's own operations, half of them completed.
"""

import asyncio
import gzip
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from tests.http.exchange import Clock, World, run_world
from tests.web.test_pages import paths
from tests.web.town import Town, build
from tests.web.visitor import Visitor

from pithead.exchange import dispatch, jobs
from pithead.exchange.dispatch import Measured
from pithead.exchange.ids import new_id, new_token
from pithead.exchange.jobs import Order
from pithead.exchange.ports import Tx

JOBS: Final = 100_000
BATCH: Final = 500
#: The limits that every page keeps within.
BYTES, MILLISECONDS = 150_000, 100.0
_ROUNDS: Final = 7
_ORDER: Final = Order(
    model="llama-3.1-8b", input=b'{"prompt":"x"}', price=0.001, gpu_type="any", gpu_count=1, estimated_time=1.0, priority=0,
    timeout=86_400.0, attempt_timeout=None, max_attempts=None, require_result=False,
)  # fmt: skip


class Weight(msgspec.Struct, frozen=True):
    """A page as it was measured."""

    role: str
    path: str
    #: Bytes of the page itself, and of all that it links to as they are sent, compressed.
    page: int
    files: int
    #: Milliseconds from the request to the whole answer: the median, and the processor's share of it.
    wall: float
    cpu: float


async def fill(world: World, town: Town) -> None:
    """A hundred thousand jobs of the town's client, every second one completed by its miner."""
    coordinator = world.application.coordinator
    rules, signer = coordinator.rules, coordinator.signer
    await world.operator.post(f"/clients/{town.client}/credit", json={"amount": 1000})
    await world.operator.post(f"/miners/{town.miner}/approve")

    def batch(tx: Tx, now: float) -> None:
        ids = [new_id("job") for _ in range(BATCH)]
        models = [f"model-{number % 40}" for number in range(BATCH)]
        orders = [msgspec.structs.replace(_ORDER, model=model) for model in models]
        jobs.submit(tx, now, rules, town.client, orders, ids, batch=True)
        for job_id in ids[::2]:
            token = new_token("lease")
            dispatch.accept(tx, now, rules, town.miner, job_id, token)
            dispatch.complete(
                tx, now, rules, signer, miner_id=town.miner, job_id=job_id, token=token, result_hash="sha256:" + "ab" * 32,
                measured=Measured(1.0, b"{}"),
            )  # fmt: skip

    for done in range(0, JOBS, BATCH):
        world.clock.now += 15.0
        await coordinator.run(batch)
        await world.application.coordinator.run(lambda tx, now: tx.set_alive(now))
        if done % 10_000 == 0:
            sys.stderr.write(f"{done:,} jobs\n")


async def weigh(visitor: Visitor, role: str, path: str) -> Weight:
    """Ask for the page a few times."""
    walls, cpus, text = [], [], ""
    for _ in range(_ROUNDS):
        began, cpu = time.perf_counter(), time.process_time()
        answer = await visitor.get(path)
        walls.append(1000 * (time.perf_counter() - began))
        cpus.append(1000 * (time.process_time() - cpu))
        assert answer.status_code == 200, path
        text = answer.text
    files = 0
    for link in sorted(set(re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', text))):
        content = (await visitor.get(link)).content
        files += len(gzip.compress(content, 9))
    shown = re.sub(r"(miner|job|client)_\w{20}", r"{\1}", path)
    return Weight(role, shown, len(text.encode()), files, statistics.median(walls), statistics.median(cpus))


def table(weights: Sequence[Weight]) -> str:
    """The page of documentation."""
    heaviest = max(one.page + one.files for one in weights)
    slowest = max(one.wall for one in weights)
    lines = [
        "# What pages of the dashboard weigh",
        "",
        "<!-- Printed by: python -m tests.web.weight -->",
        "",
        f"With {JOBS:,} jobs in an embedded database, half of them completed by one miner for one client, whose pages these are.",
        "Bytes are those that are sent: scripts, styles and the icon are compressed, and kept by the browser after the first page.",
        f"Times are of the whole answer, within the process, the median of {_ROUNDS}.",
        "",
        f"The heaviest page has {heaviest:,} bytes with all its files; the slowest takes {slowest:.0f} ms.",
        "",
        "| role | page | bytes | with its files | ms | of it processor |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {w.role} | `{w.path}` | {w.page:,} | {w.page + w.files:,} | {w.wall:.0f} | {w.cpu:.0f} |" for w in weights
    ]
    return "\n".join(lines) + "\n"


async def measure(folder: Path) -> list[Weight]:
    """Every page of each role, in a town that has grown."""
    town = await build(folder, jobs=60)
    clock, weights = Clock(), []
    clock.now = town.now
    async with run_world(folder, clock, dashboard={"requests_per_minute": 0}) as world:
        await fill(world, town)
        for role, key in (
            ("operator", "key_operator-of-these-tests"),
            ("client", town.client_key),
            ("miner", town.miner_key),
        ):
            visitor = Visitor(world.http)
            await visitor.sign_in(key)
            weights += [await weigh(visitor, role, path) for path in paths(town)[role]]
    return weights


def main() -> int:
    """0 where every page keeps within the limits."""
    with tempfile.TemporaryDirectory() as folder:
        weights = asyncio.run(measure(Path(folder)))
    sys.stdout.write(table(weights))
    over = [one for one in weights if one.page + one.files > BYTES or one.wall > MILLISECONDS]
    for one in over:
        sys.stderr.write(f"over the limit: {one}\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
