"""The parties of an exchange, over HTTP: to a process, or to an application within the test on a clock that it moves."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
from psycopg import sql
from sqlcipher3 import dbapi2
from tests.http.ways import Ways

from pithead.bootstrap import Application
from pithead.exchange.blobs import Entry
from pithead.settings import Settings
from pithead.store.embedded import Embedded
from pithead.store.lanes import PATIENCE

# The contract's own texts, byte for byte.
REGISTER = b"""{"name":"my-miner","gpu_type":"v100","gpu_count":1,"location":"us-east","price_per_hour":0.05,"max_concurrent":4}"""
COMPLETE = b"""{"result_hash":"sha256:abc123...","metrics":{"execution_time_seconds":600,"gpu_time_seconds":600}}"""
JSON = {"Content-Type": "application/json"}

#: A miner as the contract's example registers one.
REGISTRATION: dict[str, Any] = {
    "name": "my-miner", "gpu_type": "v100", "gpu_count": 1, "location": "us-east", "price_per_hour": 0.05,
    "max_concurrent": 4,
}  # fmt: skip
#: A job that this miner is offered: what it pays is more than the miner asks.
JOB: dict[str, Any] = {
    "model": "gpt2",
    "input": {"prompt": "Hi"},
    "price": 0.05,
    "gpu_type": "v100",
    "estimated_time": 600,
}
HASH = "sha256:abc123..."
OTHER_HASH = "sha256:def456..."


class Party:
    """Somebody with a key; paths are taken from `base`."""

    def __init__(self, http: httpx.AsyncClient, key: str, base: str = "", id: str = "") -> None:
        self.http = http
        self.key = key
        self.base = base
        self.id = id

    async def call(
        self, method: str, path: str = "", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.key}"} | (headers or {})
        return await self.http.request(method, self.base + path, headers=given, **more)

    async def get(self, path: str = "", **more: Any) -> httpx.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str = "", **more: Any) -> httpx.Response:
        return await self.call("POST", path, **more)

    async def put(self, path: str = "", **more: Any) -> httpx.Response:
        return await self.call("PUT", path, **more)

    async def delete(self, path: str = "", **more: Any) -> httpx.Response:
        return await self.call("DELETE", path, **more)


def _fence(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Lease-Token": token}


class Miner(Party):
    """A miner on its own path."""

    async def beat(self, *jobs: str) -> dict[str, Any]:
        answer = await self.post("/heartbeat", json={"jobs": list(jobs)} if jobs else None)
        return body(answer)

    async def offered(self, **query: Any) -> list[str]:
        """The ids of the jobs it is offered."""
        return [job["job_id"] for job in body(await self.get("/jobs/available", params=query))["jobs"]]

    async def accept(self, job: str, token: str | None = None) -> httpx.Response:
        return await self.post(f"/jobs/{job}/accept", headers=_fence(token))

    async def take(self, job: str) -> dict[str, Any]:
        """Accept it, which must succeed: the assignment."""
        return body(await self.accept(job))

    async def complete(
        self, job: str, result_hash: str = HASH, token: str | None = None, **metrics: float
    ) -> httpx.Response:
        given = {"result_hash": result_hash, "metrics": metrics}
        return await self.post(f"/jobs/{job}/complete", json=given, headers=_fence(token))

    async def fail(self, job: str, kind: str = "error", token: str | None = None) -> httpx.Response:
        return await self.post(f"/jobs/{job}/fail", json={"kind": kind, "reason": "no luck"}, headers=_fence(token))

    async def release(self, job: str) -> httpx.Response:
        return await self.post(f"/jobs/{job}/release")

    async def upload(self, job: str, content: Any, token: str | None = None, offset: int = 0) -> httpx.Response:
        headers = _fence(token) | ({"Upload-Offset": str(offset)} if offset else {})
        return await self.put(f"/jobs/{job}/result", content=content, headers=headers)

    async def stats(self) -> dict[str, Any]:
        return body(await self.get("/stats"))

    async def status(self) -> str:
        return str(body(await self.get())["status"])


class Client(Party):
    """A client."""

    async def submit(self, **job: Any) -> str:
        """Submit a job, the example's but for what is given: its id."""
        return str(body(await self.post("/v1/jobs", json=JOB | job), 201)["job_id"])

    async def job(self, job: str) -> dict[str, Any]:
        return body(await self.get(f"/v1/jobs/{job}"))

    async def balance(self) -> tuple[float, float]:
        """What it can spend, and what is set aside."""
        account = body(await self.get("/v1/clients/me"))
        return account["balance"], account["held"]


class Api:
    """A coordinator: its HTTP face and its operator."""

    def __init__(self, http: httpx.AsyncClient, operator_key: str) -> None:
        self.http = http
        self.operator = Party(http, operator_key, "/v1/admin")

    async def register(self, **over: Any) -> Miner:
        """A miner that has not been heard of yet."""
        made = body(await self.http.post("/v1/miners", json=REGISTRATION | over), 201)
        return Miner(self.http, made["api_key"], f"/v1/miners/{made['miner_id']}", made["miner_id"])

    async def miner(self, **over: Any) -> Miner:
        """A miner that is active."""
        miner = await self.register(**over)
        await miner.beat()
        return miner

    async def client(self, credit: float = 100) -> Client:
        made = body(await self.operator.post("/clients", json={"name": "lab", "credit": credit}), 201)
        return Client(self.http, made["api_key"], id=made["client_id"])

    async def ledger(self) -> dict[str, Decimal]:
        """The sum of each class of account, to the digit; together they must be 0."""
        answer = await self.operator.get("/overview")
        sums: dict[str, Decimal] = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)["ledger"]
        assert sum(sums.values()) == 0
        return sums


class Clock:
    """The coordinator's clock."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class World(Api):
    """A coordinator within the test."""

    def __init__(self, http: httpx.AsyncClient, application: Application, clock: Clock) -> None:
        super().__init__(http, application.settings.operator_key)
        self.application = application
        self.clock = clock

    async def later(self, seconds: float) -> None:
        """Let time pass with the coordinator up, and what is due by then happen."""
        self.clock.now += seconds
        await self.application.coordinator.run(lambda tx, now: tx.set_alive(now))
        await self.application.coordinator.sweep()
        await self.application.coordinator.pay_out()
        await self.application.retention.turn()

    def tamper(self, change: str) -> None:
        """Change the database behind the coordinator's back."""
        database = self.application.settings.database
        if database:
            with psycopg.connect(database) as connection:
                connection.execute(change.encode())
        else:
            with contextlib.closing(dbapi2.connect(str(self.application.settings.folder / "pithead.db"))) as connection:
                connection.execute(change)
                connection.commit()

    def refuse_writes(self, refuse: bool) -> None:
        """Let the database take no change, as on a full disk, or take them again."""
        database = self.application.database
        if isinstance(database, Embedded):
            self.application._store.writing.execute(f"PRAGMA query_only = {refuse}")
            return
        database.lanes.patience = 0.01 if refuse else PATIENCE
        options = "-c default_transaction_read_only=off"
        with psycopg.connect(self.application.settings.database, autocommit=True, options=options) as connection:
            name = sql.Identifier(connection.info.dbname)
            connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(name, refuse))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'pithead writer'"
            )

    def stored(self) -> bytes:
        """Everything that is in the database."""
        settings = self.application.settings
        if not settings.database:
            return b"".join(file.read_bytes() for file in settings.folder.glob("pithead.db*"))
        with psycopg.connect(settings.database) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            everything = b""
            for (name,) in names:
                with connection.cursor().copy(
                    sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier(name))
                ) as rows:
                    everything += b"".join(bytes(row) for row in rows)
        return everything

    def files(self) -> list[Path]:
        """The results that are stored in the data folder, and those on their way."""
        return [path for path in (self.application.settings.folder / "results").rglob("*") if path.is_file()]

    async def blobs(self) -> list[Entry]:
        """All that lies in the blob store."""
        return [entry async for batch in self.application.blobs.list() for entry in batch]


@contextlib.asynccontextmanager
async def run_world(folder: Path, clock: Clock, limits: bool = False, **settings: Any) -> AsyncIterator[World]:
    """A coordinator over `folder`, until the end of the block. `limits`: with the rate limits that hold by default."""
    if not limits:
        none = dict.fromkeys(("requests_per_minute", "job_operations_per_minute", "registrations_per_minute"), 0)
        settings = {"rate_limits": none} | settings
    application = Application(
        msgspec.convert({"data": str(folder), "operator_key": "key_operator-of-these-tests"} | settings, Settings),
        clock,
    )
    async with application.running(care=False):
        transport = Ways(application.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://pithead") as http:
            yield World(http, application, clock)


@contextlib.asynccontextmanager
async def connect(url: str, operator_key: str, address: str = "127.0.0.1") -> AsyncIterator[Api]:
    """The API of a coordinator in a process of its own, for a caller from this (loopback) address."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=url, timeout=20, transport=transport) as http:
        yield Api(http, operator_key)


async def parked(task: "asyncio.Task[Any]") -> None:
    """Let a call to an application within the test run until it waits for something."""
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done(), task.result()


def body(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The JSON of a response with this status."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    content: dict[str, Any] = response.json()
    return content


def problem(response: httpx.Response, status: int, *fields: str) -> dict[str, Any]:
    """The problem that the response must be; with a 422, about exactly these fields."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert content["status"] == status
    assert content["type"].startswith("/problems/")
    assert content["title"]
    assert content["detail"]
    assert content["request_id"] == response.headers["x-request-id"]
    if status == 422:
        assert sorted(fault["field"] for fault in content["errors"]) == sorted(fields)
        assert all(fault["message"] for fault in content["errors"])
    else:
        assert "errors" not in content
    return content


def hash_of(content: bytes) -> str:
    """What completes a job whose result these bytes are."""
    return "sha256:" + sha256(content).hexdigest()
