"""Everything that is measured side by side: the references, and our coordinator over each kind of database."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import check, plain
from bench.fill import FILE, fill, multiply, populate
from bench.fleet import Fleet
from bench.postgres import Postgres
from bench.progress import Say
from bench.servers import Server, application, coordinator, cpu_seconds
from pithead.store.keys import DatabaseKey
from pithead.store.sqlite import SqliteStore, SqliteTx

#: Reference A: what the ratios are to.
REFERENCE: Final = "reference"
#: Reference B.
BARE: Final = "bare ASGI"
#: Reference C.
PLAIN: Final = "FastAPI + SQLAlchemy"
FEW: Final = "SQLite"
MANY: Final = "SQLite, long queue"
CIPHER: Final = "SQLCipher"
POSTGRES: Final = "PostgreSQL"
PAIR: Final = "PostgreSQL, two coordinators"

MINERS: Final = 512
FEW_JOBS: Final = 1000
_KEY: Final = bytes(range(32))


class Contender(msgspec.Struct, frozen=True):
    """One of them, running."""

    name: str
    servers: list[Server]
    fleet: Fleet
    #: Jobs prepared before a window that needs them, for all connections together; the quick ones run dry sooner.
    jobs_ahead: int
    #: Whether it takes any job's name for one that waits.
    takes_anything: bool = False

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [server.port for server in self.servers]

    @property
    def cpu(self) -> float:
        """Processor time that it has used, in seconds; of PostgreSQL, that of our processes alone."""
        return sum(cpu_seconds(server.pid) for server in self.servers)


class Lineup:
    """Makes the databases, starts the servers, and says afterwards what is wrong in them."""

    def __init__(self, folder: Path, core: int, long_queue: int, say: Say) -> None:
        self._folder, self._core, self._long_queue, self._say = folder, core, long_queue, say
        self._checks: dict[str, Callable[[int], list[str]]] = {}
        self.few = fill(folder / "few", MINERS, FEW_JOBS)

    def remove(self) -> None:
        """Take the databases away: they are not needed any more, and their room is."""
        shutil.rmtree(self._folder)

    def faults(self, name: str, completed: int) -> list[str]:
        """What is wrong in its database, now that it has stopped and said `completed` times that a job was completed."""
        judge = self._checks.get(name)
        return [] if judge is None else [f"{name}: {fault}" for fault in judge(completed)]

    @contextlib.contextmanager
    def start(self, name: str) -> Iterator[Contender]:
        """Run one of them until the end of the block. Raises `ServerError`, `NoRoomError`."""
        self._say(f"starting {name}")
        folder, core = self._folder, self._core
        with contextlib.ExitStack() as stack:
            if name == REFERENCE:
                server = stack.enter_context(application("reference", folder, core, "bench.reference"))
                yield Contender(name, [server], self.few, 320_000, takes_anything=True)
            elif name == BARE:
                server = stack.enter_context(application("bare", folder, core, "bench.bare"))
                yield Contender(name, [server], self.few, 384_000, takes_anything=True)
            elif name == PLAIN:
                database = folder / "plain.db"
                plain.fill(database, self.few, FEW_JOBS)
                server = stack.enter_context(application("plain", folder, core, "bench.plain", str(database)))
                yield Contender(name, [server], self.few, 768)
            elif name == FEW:
                self._checks[name] = lambda completed: check.faults(folder / "few" / FILE, completed)
                server = stack.enter_context(coordinator("few", folder / "few", core))
                yield Contender(name, [server], self.few, 16_000)
            elif name == MANY:
                multiply(folder / "few", folder / "many", self._long_queue // FEW_JOBS, self._say)
                self._checks[name] = lambda completed: check.faults(folder / "many" / FILE, completed)
                server = stack.enter_context(coordinator("many", folder / "many", core))
                yield Contender(name, [server], self.few, 16_000)
            elif name == CIPHER:
                yield Contender(name, [stack.enter_context(self._cipher())], self._cipher_fleet, 16_000)
            else:
                yield self._postgres(name, stack)

    @contextlib.contextmanager
    def _cipher(self) -> Iterator[Server]:
        folder, key = self._folder / "cipher", DatabaseKey(_KEY)
        folder.mkdir(mode=0o700)
        store = SqliteStore(folder / FILE, key)
        store.writing.execute("BEGIN IMMEDIATE")
        self._cipher_fleet = populate(SqliteTx(store.writing), MINERS, FEW_JOBS, 1)
        store.writing.execute("COMMIT")
        store.close()
        self._checks[CIPHER] = lambda completed: check.faults(folder / FILE, completed, DatabaseKey(_KEY))
        settings = {"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY": _KEY.hex()}
        with coordinator("cipher", folder, self._core, settings) as server:
            yield server

    def _postgres(self, name: str, stack: contextlib.ExitStack) -> Contender:
        folder = self._folder / name.replace(" ", "-")
        folder.mkdir()
        postgres = stack.enter_context(Postgres(self._core))
        fleet = postgres.fill(lambda tx: populate(tx, MINERS, FEW_JOBS, 1))
        self._checks[name] = postgres.faults
        stack.callback(postgres.judge)
        settings = {"PITHEAD_DATABASE": postgres.url, "PITHEAD_RATE_LIMITS__STORAGE": "memory"}
        servers = []
        for number in range(2 if name == PAIR else 1):
            own = folder / str(number)
            own.mkdir()
            servers.append(stack.enter_context(coordinator(f"postgres-{number}", own, self._core, settings)))
        return Contender(name, servers, fleet, 3840)
