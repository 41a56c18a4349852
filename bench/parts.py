"""`python -m bench.parts`: where the time of a call goes, within one process and without a network.

The calls are made to the application itself, 256 at a time, over a database on this disk. What uvicorn and the kernel do for
a request comes on top; reference A has that too. It is processor time, the least of a few rounds; the clocks that are read for it
are in the figures: some 3 µs of a completion.
"""

import asyncio
import contextlib
import functools
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import fleet
from bench.fill import HASH, fill
from bench.run import RESULTS
from pithead.bootstrap import Application
from pithead.cli.serve import spare_the_collector
from pithead.settings import Settings
from pithead.store import batches, signing, sqlite, writer

_AT_ONCE: Final = 256
_EACH: Final = 16
_ROUNDS: Final = 5
_SETTINGS: Final = {
    "operator_key": "key_of-the-benchmark",
    "rate_limits": dict.fromkeys(("requests_per_minute", "job_operations_per_minute", "registrations_per_minute"), 0),
    "miners": {"offline_after": 86_400.0},
}
_COMPLETION: Final = msgspec.json.encode(
    {"result_hash": HASH, "metrics": {"execution_time_seconds": 600, "gpu_time_seconds": 600}}
)

Run = Callable[[int], Coroutine[Any, Any, None]]


class Part(msgspec.Struct):
    """What one call costs, in microseconds."""

    total: float
    #: Within the writer's turns: the operations, of that their statements; and the commits.
    operations: float
    statements: float
    #: When the answers are made; one for all that were committed at once.
    signatures: float
    commits: float
    #: How many statements.
    count: float

    @property
    def rest(self) -> float:
        """Routes, keys, decoding, encoding, the event loop."""
        return self.total - self.operations - self.signatures - self.commits


class Clock:
    """Adds up the time within what it wraps."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.times: Counter[str] = Counter()

    def around(
        self, name: str, wrapped: Callable[..., Any], count: Callable[[Any], int] = lambda args: 1
    ) -> Callable[..., Any]:
        """The same, timed; `count` says for how many a call with these arguments counts."""

        @functools.wraps(wrapped)
        def timed(*args: Any) -> Any:
            began = time.process_time()
            try:
                return wrapped(*args)
            finally:
                self.spent[name] += time.process_time() - began
                self.times[name] += count(args)

        return timed

    def part(self, total: float, calls: int) -> Part:
        """What was added up over so many calls, and begin anew."""

        def each(name: str) -> float:
            return self.spent[name] / calls * 1e6

        # Some of the statements are the writer's own, around the operations: they are the commits' part.
        found = Part(
            total / calls * 1e6, each("run"), each("statement"), each("sign"), each("turn") - each("run") - each("answer"),
            self.times["statement"] / calls,
        )  # fmt: skip
        self.spent.clear()
        self.times.clear()
        return found


class _Asked:
    """Who asks by the short way, in place of a connection."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self._waits: asyncio.Future[None] | None = None

    def answer(self, head: bytes, body: bytes) -> None:
        """Keep the answer."""
        if not head.startswith(b"HTTP/1.1 2"):
            raise click.ClickException(f"a call was answered with {head[9:12]!r}: {body!r}")
        self.body = body
        if self._waits is not None:
            self._waits.set_result(None)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what cannot be answered at once: the first offers."""
        self._work = asyncio.ensure_future(work)

    async def answered(self) -> bytes:
        """The body of the answer, once it is there."""
        if self.body is None:
            self._waits = asyncio.get_running_loop().create_future()
            await self._waits
        assert self.body is not None
        return self.body


class Calls:
    """Everybody's calls, made to the application itself, by the way that they would take."""

    def __init__(self, application: Application, everybody: fleet.Fleet) -> None:
        self._asgi = application.asgi
        self._fleet = everybody
        self._jobs: list[list[str]] = [[] for _ in range(_AT_ONCE)]

    async def _call(self, method: str, path: str, key: str, body: bytes = b"") -> bytes:
        headers = [
            (b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + key.encode()), (b"accept", b"application/json"),
            (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
        ]  # fmt: skip
        short, asked = self._asgi.short, _Asked()
        if short is not None and short.take(method.encode(), path.encode(), headers, body, asked):
            return await asked.answered()
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1",
            "scheme": "http", "root_path": "",
        }  # fmt: skip
        answer: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            answer.append(message)

        await self._asgi(scope, receive, send)
        if answer[0]["status"] >= 300:
            raise click.ClickException(
                f"{method} {path} was answered with {answer[0]['status']}: {answer[1]['body']!r}"
            )
        return bytes(answer[1]["body"])

    async def heartbeat(self, number: int) -> None:
        for turn in range(_EACH):
            miner = self._miner(number, turn)
            await self._call("POST", f"/v1/miners/{miner.id}/heartbeat", miner.key)

    async def available(self, number: int) -> None:
        for turn in range(_EACH):
            miner = self._miner(number, turn)
            await self._call("GET", f"/v1/miners/{miner.id}/jobs/available", miner.key)

    async def submit(self, number: int) -> None:
        miner = self._fleet.miners[number]
        for turn in range(_EACH):
            kind = fleet.kind_for(miner, turn)
            order = {
                "model": kind.model, "input": msgspec.Raw(fleet.INPUT), "price": kind.price, "gpu_type": kind.gpu_type,
                "estimated_time": fleet.ESTIMATED_TIME,
            }  # fmt: skip
            answer = await self._call("POST", "/v1/jobs", self._fleet.client_key, msgspec.json.encode(order))
            self._jobs[number].append(msgspec.json.decode(answer)["job_id"])

    async def accept(self, number: int) -> None:
        miner = self._fleet.miners[number]
        for job in self._jobs[number]:
            await self._call("POST", f"/v1/miners/{miner.id}/jobs/{job}/accept", miner.key)

    async def complete(self, number: int) -> None:
        miner = self._fleet.miners[number]
        for job in self._jobs[number]:
            await self._call("POST", f"/v1/miners/{miner.id}/jobs/{job}/complete", miner.key, _COMPLETION)
        self._jobs[number] = []

    def _miner(self, number: int, turn: int) -> fleet.Miner:
        mine = self._fleet.miners[number::_AT_ONCE]
        return mine[turn % len(mine)]


async def measure(folder: Path) -> dict[str, Part]:
    """Each call's parts."""
    everybody = fill(folder, 512, 1000)
    clock = Clock()
    make, make_for_many = sqlite.executor, sqlite.executor_of_many
    timed = {
        (batches, "executor"): lambda connection: clock.around("statement", make(connection)),
        (batches, "executor_of_many"): lambda connection: clock.around(
            "statement", make_for_many(connection), lambda args: len(args[1])
        ),
        (writer.Writer, "_turn"): clock.around("turn", writer.Writer._turn),
        (writer.Writer, "_answer"): clock.around("answer", writer.Writer._answer),
        (batches.Batches, "run"): clock.around("run", batches.Batches.run),
        (signing.ReceiptSigner, "signed"): clock.around("sign", signing.ReceiptSigner.signed),
    }
    with contextlib.ExitStack() as stack:
        for (where, name), instead in timed.items():
            stack.enter_context(patch.object(where, name, instead))
        return await _measure(folder, everybody, clock)


async def _measure(folder: Path, everybody: fleet.Fleet, clock: Clock) -> dict[str, Part]:
    application = Application(msgspec.convert({"data": str(folder), **_SETTINGS}, Settings))
    best: dict[str, Part] = {}
    async with application.running():
        spare_the_collector()
        calls = Calls(application, everybody)
        for _ in range(_ROUNDS):
            for run in (calls.heartbeat, calls.available, calls.submit, calls.accept, calls.complete):
                began = time.process_time()
                await asyncio.gather(*(run(number) for number in range(_AT_ONCE)))
                part = clock.part(time.process_time() - began, _AT_ONCE * _EACH)
                if part.total < best.get(run.__name__, part).total or run.__name__ not in best:
                    best[run.__name__] = part
    return best


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(as_json: bool) -> None:
    """Where the time of each call goes, in microseconds, within one process and without a network."""
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as folder:
        found = uvloop.run(measure(Path(folder)))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    table = Table("call", "all of it", "HTTP", "operation", "statements", "", "signature", "commit", box=None)
    for name, part in found.items():
        own = part.operations - part.statements
        table.add_row(
            name, f"{part.total:.1f}", f"{part.rest:.1f}", f"{own:.1f}", f"{part.statements:.1f}",
            f"({part.count:.1f})" if part.count else "", f"{part.signatures:.1f}", f"{part.commits:.1f}",
        )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
