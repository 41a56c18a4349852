"""Reference C: a straightforward coordinator of the same calls, as FastAPI and SQLAlchemy are commonly used.

Each request is a session and a transaction of its own over SQLite (WAL, `synchronous=FULL`), with the indexes that its
queries want, keys stored hashed, a claim that is one conditional UPDATE, and a ledger of two postings for each payment.
No leases, no receipts, no attempts: it does less, and does it fairly. `python -m bench.plain FD DATABASE`.
"""

import hashlib
import secrets
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy import ForeignKey, Index, create_engine, event, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench import fleet, reference
from bench.fleet import Fleet

MILLION = 1_000_000


class Base(DeclarativeBase):
    """What the tables share."""


class Account(Base):
    """A miner or a client, its key and its balance in millionths."""

    __tablename__ = "accounts"
    id: Mapped[str] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(unique=True)
    balance: Mapped[int] = mapped_column(default=0)
    gpu_type: Mapped[str | None]
    models: Mapped[str | None]
    price_per_hour: Mapped[int] = mapped_column(default=0)
    last_seen_at: Mapped[float | None]


class Job(Base):
    """A job and where it stands."""

    __tablename__ = "jobs"
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    model: Mapped[str]
    gpu_type: Mapped[str]
    gpu_count: Mapped[int]
    estimated_time: Mapped[float]
    price: Mapped[int]
    input: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    miner_id: Mapped[str | None]
    result_hash: Mapped[str | None]
    __table_args__ = (
        Index("jobs_queue", "status", "gpu_type", "model", "seq"),
        Index("jobs_miner", "miner_id", "status"),
    )


class Posting(Base):
    """A leg of a payment."""

    __tablename__ = "postings"
    seq: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    job_id: Mapped[str]
    amount: Mapped[int]


class Submit(BaseModel):
    """A job as a client submits it."""

    model: str
    input: Any
    price: float
    estimated_time: float
    gpu_type: str = "any"
    gpu_count: int = 1


class Metrics(BaseModel):
    """What was measured."""

    execution_time_seconds: float | None = None
    gpu_time_seconds: float | None = None


class Complete(BaseModel):
    """A delivery."""

    result_hash: str
    metrics: Metrics = Metrics()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _durable(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA busy_timeout = 20000")
    cursor.close()


def fill(database: Path, everybody: Fleet, job_count: int) -> None:
    """Make its database, with the same fleet and the same queue."""
    engine = create_engine(f"sqlite:///{database}")
    event.listen(engine, "connect", _durable)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(id="client", key_hash=_digest(everybody.client_key), balance=10**15))
        for miner in everybody.miners:
            models = None if miner.models is None else ",".join(miner.models)
            session.add(
                Account(id=miner.id, key_hash=_digest(miner.key), gpu_type=miner.gpu_type, models=models,
                        price_per_hour=round(fleet.PRICE_PER_HOUR * MILLION))
            )  # fmt: skip
        for number, kind in zip(range(job_count), fleet.kinds(), strict=False):
            session.add(
                Job(id=f"job_{number}", client_id="client", model=kind.model, gpu_type=kind.gpu_type, gpu_count=1,
                    estimated_time=fleet.ESTIMATED_TIME, price=round(kind.price * MILLION), input=fleet.INPUT.decode())
            )  # fmt: skip
    engine.dispose()


def build(database: Path) -> FastAPI:
    """The application."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}", pool_size=8, max_overflow=56)
    event.listen(engine.sync_engine, "connect", _durable)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as one, one.begin():
            yield one

    async def caller(
        authorization: Annotated[str, Header()], db: Annotated[AsyncSession, Depends(session, scope="function")]
    ) -> Account:
        key = authorization.removeprefix("Bearer ")
        found = await db.scalar(select(Account).where(Account.key_hash == _digest(key)))
        if found is None:
            raise HTTPException(401)
        return found

    # Scope `function`: the transaction is committed before the answer goes out, and not after it.
    # Scope `function`: the transaction is committed before the answer goes out, and not after it.
    Db = Annotated[AsyncSession, Depends(session, scope="function")]  # noqa: N806 (a type, for the signatures below)
    Caller = Annotated[Account, Depends(caller, scope="function")]  # noqa: N806

    def fitting(miner: Account) -> Any:
        rules = [
            Job.status == "queued",
            or_(Job.gpu_type == miner.gpu_type, Job.gpu_type == "any"),
            Job.price * 3600 >= miner.price_per_hour * Job.gpu_count * Job.estimated_time,
        ]
        if miner.models is not None:
            rules.append(Job.model.in_(miner.models.split(",")))
        return rules

    @app.post("/v1/miners/{miner_id}/heartbeat")
    async def heartbeat(miner_id: str, db: Db, miner: Caller) -> dict[str, Any]:
        miner.last_seen_at = time.time()
        held = await db.scalar(
            select(func.count()).select_from(Job).where(Job.miner_id == miner.id, Job.status == "assigned")
        )
        waiting = await db.scalar(select(func.count()).select_from(Job).where(*fitting(miner)))
        return {"status": "ok", "jobs_assigned": held, "queue_length": waiting}

    @app.get("/v1/miners/{miner_id}/jobs/available")
    async def available(miner_id: str, db: Db, miner: Caller) -> dict[str, Any]:
        found = await db.scalars(select(Job).where(*fitting(miner)).order_by(Job.seq).limit(20))
        return {"jobs": [_offer(job) for job in found]}

    @app.post("/v1/miners/{miner_id}/jobs/{job_id}/accept")
    async def accept(miner_id: str, job_id: str, db: Db, miner: Caller) -> dict[str, Any]:
        taken = await db.execute(
            update(Job).where(Job.id == job_id, Job.status == "queued").values(status="assigned", miner_id=miner.id)
        )
        if taken.rowcount != 1:  # type: ignore[attr-defined]
            raise HTTPException(409)
        job = await db.scalar(select(Job).where(Job.id == job_id))
        assert job is not None
        return _offer(job) | {"input": job.input, "lease_token": secrets.token_urlsafe(16)}

    @app.post("/v1/miners/{miner_id}/jobs/{job_id}/complete")
    async def complete(miner_id: str, job_id: str, body: Complete, db: Db, miner: Caller) -> dict[str, Any]:
        job = await db.scalar(select(Job).where(Job.id == job_id))
        if job is None or job.miner_id != miner.id or job.status != "assigned":
            raise HTTPException(409)
        job.status, job.result_hash = "completed", body.result_hash
        miner.balance += job.price
        db.add(Posting(account_id=job.client_id, job_id=job.id, amount=-job.price))
        db.add(Posting(account_id=miner.id, job_id=job.id, amount=job.price))
        return {"job_id": job.id, "status": "completed", "earned": job.price / MILLION}

    @app.post("/v1/jobs", status_code=201)
    async def submit(body: Submit, db: Db, client: Caller) -> dict[str, Any]:
        price = round(body.price * MILLION)
        if client.balance < price:
            raise HTTPException(402)
        client.balance -= price
        job_id = "job_" + secrets.token_hex(10)
        db.add(
            Job(id=job_id, client_id=client.id, model=body.model, gpu_type=body.gpu_type, gpu_count=body.gpu_count,
                estimated_time=body.estimated_time, price=price, input=str(body.input))
        )  # fmt: skip
        return {"job_id": job_id, "status": "queued"}

    @app.post("/v1/jobs/batch", status_code=201)
    async def submit_batch(body: dict[str, list[Submit]], db: Db, client: Caller) -> dict[str, Any]:
        return {"jobs": [await submit(one, db, client) for one in body["jobs"]]}

    return app


def _offer(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "model": job.model,
        "gpu_type": job.gpu_type,
        "gpu_count": job.gpu_count,
        "estimated_time": job.estimated_time,
        "price": job.price / MILLION,
    }


if __name__ == "__main__":
    reference.serve(build(Path(sys.argv[2])))
