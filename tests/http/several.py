"""Several coordinators within the test, over one PostgreSQL database."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import msgspec
import psycopg
from tests.http.exchange import Api, Miner, Party
from tests.http.ways import Ways

from pithead.bootstrap import Application
from pithead.settings import Settings


class Several:
    """Coordinators that are opened one by one. They go by `clock`, or else by the database's."""

    def __init__(self, url: str, folder: Path, clock: Callable[[], float] | None = None) -> None:
        self._url, self._folder, self._clock = url, folder, clock
        self.faces: list[Api] = []
        self.applications: list[Application] = []

    def jump(self, seconds: float) -> None:
        """Set the database's clock forward, or back, where there is such a table."""
        with psycopg.connect(self._url) as connection:
            connection.execute("UPDATE jump SET seconds = seconds + %s", [seconds])

    async def look_after(self) -> None:
        """Let every coordinator do what it does by itself."""
        for application in self.applications:
            await application.coordinator.say_alive()
            await application.coordinator.sweep()

    @contextlib.asynccontextmanager
    async def serving(self, name: str) -> AsyncIterator[Api]:
        """One more coordinator, until the end of the block."""
        none = dict.fromkeys(("requests_per_minute", "job_operations_per_minute", "registrations_per_minute"), 0)
        given = {
            "data": str(self._folder / name),
            "database": self._url,
            "operator_key": "key_operator-of-these-tests",
            "rate_limits": none,
        }
        given |= {"blob_store": str(self._folder / "results")}
        application = Application(msgspec.convert(given, Settings), self._clock)
        async with application.running(care=False):
            transport = Ways(application.asgi)
            async with httpx.AsyncClient(transport=transport, base_url="http://pithead") as http:
                face = Api(http, "key_operator-of-these-tests")
                self.faces.append(face)
                self.applications.append(application)
                try:
                    yield face
                finally:
                    self.faces.remove(face)
                    self.applications.remove(application)


def at(face: Api, miner: Miner) -> Miner:
    """The same miner, who calls this coordinator."""
    return Miner(face.http, miner.key, miner.base, miner.id)


def caller(face: Api, party: Party) -> Party:
    """The same client, who calls this coordinator."""
    return Party(face.http, party.key, party.base)
