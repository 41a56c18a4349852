"""A campaign: an exchange under load, of which something is killed over and over; and the verdict on its histories."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Final, Literal

import msgspec
from tests.crash import checks, facts, history
from tests.crash.checks import Violation
from tests.crash.facts import Facts
from tests.crash.miner import Machine
from tests.crash.people import SimulatedClient, SimulatedOperator, briefly, shortly
from tests.crash.places import Postgres, Service, answers, coordinator, free_port, miner
from tests.crash.proxy import FAULTS, Proxy
from tests.http.server import OPERATOR_KEY, UNLIMITED
from tests.postgres import Server

from pithead.client import AdminClient, AsyncClient, AsyncMinerClient, Client
from pithead.client.errors import PitheadError

Database = Literal["sqlite", "postgres"]

#: What is killed, and how large its share is.
TARGETS: Final[dict[Database, dict[str, int]]] = {
    "sqlite": {"coordinator": 6, "miner": 4},
    "postgres": {"coordinator": 5, "PostgreSQL backend": 2, "PostgreSQL": 1, "miner": 2},
}
COORDINATORS: Final[dict[Database, int]] = {"sqlite": 1, "postgres": 3}
#: Seconds between two kills, at the least and at the most. A lone coordinator needs time to be up at all.
PACE: Final[dict[Database, tuple[float, float]]] = {"sqlite": (0.5, 3.0), "postgres": (0.3, 1.6)}
CLIENTS = 3
#: Processes with miners, and miners in each.
PROCESSES, MINERS = 4, 2
#: Seconds that a lease lasts.
TTL: Final = 2.0
#: Seconds in which all that is unfinished must come to its end, once nothing strikes any more.
CALM: Final = 90.0
#: Results that are fetched and compared with their digests at the end.
FETCHED: Final = 200

_SETTINGS: Final = UNLIMITED | {
    "PITHEAD_OPERATOR_KEY": OPERATOR_KEY,
    "PITHEAD_LEASES__TTL": str(TTL),
    "PITHEAD_LEASES__RETRY_BASE": "0.2",
    "PITHEAD_LEASES__RETRY_CAP": "1",
    "PITHEAD_LEASES__AVOID_FOR": "0.5",
    "PITHEAD_MINERS__OFFLINE_AFTER": "6",
}


class Plan(msgspec.Struct, frozen=True):
    """What to do."""

    database: Database
    kills: int
    seed: int
    folder: Path


class Report(msgspec.Struct, frozen=True):
    """What was done, and what came of it."""

    database: Database
    seed: int
    seconds: float
    kills: dict[str, int]
    #: What the proxies did to connections: to those of clients and miners, and to those of the database.
    faults: dict[str, int]
    #: Calls by name and by what was told of them.
    calls: dict[str, dict[str, int]]
    jobs: dict[str, int]
    attempts: int
    histories: int
    #: How often a process ended by itself, as a coordinator does that finds no database at its start.
    gave_up: int
    results_fetched: int
    violations: list[Violation]


class _Exchange:
    """Everything that runs."""

    def __init__(self, plan: Plan, random: Random) -> None:
        self.plan, self.random = plan, random
        self.coordinators: list[Service] = []
        self.ports: list[int] = []
        self.miners: list[Service] = []
        self.keys: dict[str, str] = {}
        self.postgres: Postgres | None = None
        self.between: Proxy | None = None
        self.front = Proxy(lambda: self.ports, random, 0.8)
        self.url = ""
        self.database = ""
        self.kills: Counter[str] = Counter()

    async def kill(self, target: str) -> bool:
        """Kill one of these; whether there was one."""
        if target == "coordinator":
            return self.random.choice(self.coordinators).kill()
        if target == "miner":
            return self.random.choice(self.miners).kill()
        assert self.postgres is not None
        if target == "PostgreSQL":
            await self.postgres.kill()
            return True
        return await self.postgres.kill_backend()


@contextlib.asynccontextmanager
async def _running(plan: Plan, random: Random) -> AsyncIterator[_Exchange]:
    """Coordinators behind a proxy, and where they share a database, another proxy before that."""
    exchange = _Exchange(plan, random)
    settings = dict(_SETTINGS) | {"PITHEAD_BLOB_STORE": str(plan.folder / "results")}
    async with contextlib.AsyncExitStack() as stack:
        if plan.database == "postgres":
            server = Server()
            server.port = free_port()
            stack.enter_context(server)
            exchange.database = server.create()
            exchange.postgres = Postgres(server, random)
            exchange.between = await stack.enter_async_context(Proxy(lambda: [server.port], random, 0.8))
            url = server.tcp_url(exchange.database)
            settings["PITHEAD_DATABASE"] = url.replace(f":{server.port}/", f":{exchange.between.port}/")
        await stack.enter_async_context(exchange.front)
        exchange.url = f"http://127.0.0.1:{exchange.front.port}"
        for number in range(COORDINATORS[plan.database]):
            exchange.ports.append(free_port())
            one = coordinator(plan.folder / f"coordinator-{number}", exchange.ports[-1], settings)
            exchange.coordinators.append(one)
            stack.push_async_callback(one.abandon)
            one.start()
        for port in exchange.ports:
            await answers(port)
        yield exchange
        for proxy in (exchange.front, exchange.between):
            if proxy is not None:
                proxy.calm()


def targets(database: Database, kills: int, random: Random) -> list[str]:
    """What to kill, in which order: each kind by its share, and each at least once."""
    shares = TARGETS[database]
    chosen = list(shares)
    chosen += random.choices(list(shares), list(shares.values()), k=max(0, kills - len(chosen)))
    random.shuffle(chosen)
    return chosen


async def _strike(exchange: _Exchange, say: Callable[[str], None]) -> None:
    """Kill one thing after the other."""
    plan, random = exchange.plan, exchange.random
    for target in targets(plan.database, plan.kills, random):
        await asyncio.sleep(random.uniform(*PACE[plan.database]))
        # One that is just being started again may not be there yet.
        for _ in range(600):
            if await exchange.kill(target):
                break
            await asyncio.sleep(0.1)
        else:
            raise TimeoutError(f"there is no {target} to kill")
        exchange.kills[target] += 1
        say(f"{plan.database}: {exchange.kills.total()} of {plan.kills} kills; the last one: a {target}")


async def _disturb(proxy: Proxy, random: Random, shortest: float, longest: float) -> None:
    while True:
        await asyncio.sleep(random.uniform(shortest, longest))
        proxy.arm(random.choice(FAULTS))


async def run(plan: Plan, say: Callable[[str], None]) -> Report:
    """Do it, and check what was told against what is stored."""
    began, random = time.monotonic(), Random(plan.seed)
    plan.folder.mkdir(parents=True, exist_ok=True)
    violations: list[Violation] = []
    async with _running(plan, random) as exchange:
        admin = AdminClient(exchange.url, OPERATOR_KEY, timeout=4.0, sleep=briefly)
        people = await _people(exchange, admin)
        tasks = [asyncio.create_task(person.run()) for person in people]
        noise = [asyncio.create_task(_disturb(exchange.front, random, 0.05, 0.4))]
        if exchange.between is not None:
            noise.append(asyncio.create_task(_disturb(exchange.between, random, 0.4, 2.5)))
        await _strike(exchange, say)
        for one in noise:
            one.cancel()
        for proxy in (exchange.front, exchange.between):
            if proxy is not None:
                proxy.calm()
        for person in people:
            person.stopping.set()
        await asyncio.gather(*tasks)
        say(f"{plan.database}: calm again; waiting until every job has ended")
        violations += await _settle(admin)
        faults = await asyncio.to_thread(admin.check_ledger)
        found = [f"{fault.kind} {fault.subject}: {fault.message}" for fault in faults.faults]
        stored = await asyncio.to_thread(_facts, exchange, found)
        fetched, missing = await asyncio.to_thread(_fetch, exchange, stored)
        violations += missing
        admin.close()
        violations += await _end(exchange)
        # Once more, from the database alone: nothing may have been on its way still.
        stored = await asyncio.to_thread(_facts, exchange, found)
    files = sorted(plan.folder.glob("*.jsonl"))
    ops = history.read(files)
    violations += checks.check(ops, stored)
    violations += _logs(plan.folder)
    struck = Counter({f"{fault} (HTTP)": times for fault, times in exchange.front.struck.items()})
    if exchange.between is not None:
        struck.update({f"{fault} (database)": times for fault, times in exchange.between.struck.items()})
    return Report(
        database=plan.database,
        seed=plan.seed,
        seconds=time.monotonic() - began,
        kills=dict(exchange.kills),
        faults=dict(sorted(struck.items())),
        calls={
            call: dict(Counter(op.told for op in ops if op.call == call)) for call in sorted({op.call for op in ops})
        },
        jobs=dict(Counter(job.state for job in stored.jobs)),
        attempts=len(stored.attempts),
        histories=len(files),
        gave_up=sum(one.gave_up for one in [*exchange.coordinators, *exchange.miners]),
        results_fetched=fetched,
        violations=violations,
    )


async def _people(exchange: _Exchange, admin: AdminClient) -> list[SimulatedClient | SimulatedOperator]:
    """Clients with credit, an operator, and miners in processes of their own."""
    plan, random = exchange.plan, exchange.random
    for number in range(CLIENTS):
        made = await asyncio.to_thread(admin.create_client, f"client {number}", 1000)
        exchange.keys[made.client_id] = made.api_key
    operator = SimulatedOperator(plan.folder, random.getrandbits(32), admin, list(exchange.keys))
    clients = [
        SimulatedClient(
            plan.folder,
            client_id,
            random.getrandbits(32),
            AsyncClient(exchange.url, key, timeout=4.0, sleep=shortly),
            lambda: operator.unfinished,
        )
        for client_id, key in exchange.keys.items()
    ]
    for number in range(PROCESSES):
        machines = [await _machine(exchange, f"miner {number}.{place}") for place in range(MINERS)]
        one = miner(plan.folder, f"miners-{number}", msgspec.json.encode(machines))
        exchange.miners.append(one)
        one.start()
    return [operator, *clients]


async def _machine(exchange: _Exchange, name: str) -> Machine:
    """A miner that is registered, and what it is started with."""
    plan = exchange.plan
    made = await AsyncMinerClient.register(
        exchange.url, name=name, gpu_type="cpu", gpu_count=1, location="here", price_per_hour=0.001, max_concurrent=2
    )
    async with AsyncMinerClient(exchange.url, made.miner_id, made.api_key) as client:
        await client.update(payout_destination="an account")
    history = str(plan.folder / f"{made.miner_id}.jsonl")
    return Machine(exchange.url, made.miner_id, made.api_key, history, exchange.random.getrandbits(32), TTL)


async def _settle(admin: AdminClient) -> list[Violation]:
    """Wait until every job has ended."""
    until = time.monotonic() + CALM
    left = -1
    while time.monotonic() < until:
        with contextlib.suppress(PitheadError):
            overview = await asyncio.to_thread(admin.overview)
            left = sum(overview.jobs.values())
            if not left:
                return []
        await asyncio.sleep(0.5)
    return [Violation("everything ends once it is calm", "jobs", [f"{left} jobs are unfinished after {CALM:g} s"])]


def _facts(exchange: _Exchange, ledger_faults: list[str]) -> Facts:
    if exchange.postgres is None:
        found = facts.of_sqlite(exchange.plan.folder / "coordinator-0" / "pithead.db")
    else:
        with exchange.postgres.server.connect(exchange.database) as connection:
            found = facts.of_postgres(connection)
    return msgspec.structs.replace(found, ledger_faults=ledger_faults)


def _fetch(exchange: _Exchange, stored: Facts) -> tuple[int, list[Violation]]:
    """Fetch results, which the SDK holds against their digests."""
    with_bytes = {(a.job, a.number) for a in stored.attempts if a.digest is not None}
    wanted = [job for job in stored.jobs if (job.id, job.completed_attempt) in with_bytes][-FETCHED:]
    missing = []
    for client_id, key in exchange.keys.items():
        with Client(exchange.url, key, timeout=4.0, sleep=briefly) as client:
            for job in wanted:
                if job.client == client_id:
                    try:
                        client.result(job.id)
                    except PitheadError as error:
                        missing.append(Violation("the bytes of every result are there", job.id, [str(error)]))
    return len(wanted), missing


async def _end(exchange: _Exchange) -> list[Violation]:
    """End all processes in order."""
    ended = {}
    for number, one in enumerate(exchange.miners):
        ended[f"miner {number}"] = await one.end(signal.SIGTERM)
    for number, one in enumerate(exchange.coordinators):
        ended[f"coordinator {number}"] = await one.end(signal.SIGINT)
    return [Violation("a stop is in order", who, [f"exit code {code}"]) for who, code in ended.items() if code]


def _logs(folder: Path) -> list[Violation]:
    """No process met a fault that it did not expect."""
    found = []
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        at = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
        found += [
            Violation("no process meets what it does not expect", log.name, lines[max(0, n - 2) : n + 60])
            for n in at[:3]
        ]
    return found
