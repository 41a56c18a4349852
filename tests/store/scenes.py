"""Somebody to store things about. The examples of the core, with the accounts that a database insists on."""

from typing import Any

import msgspec
from tests.unit.core import examples
from tests.unit.core.examples import NOW

from pithead.core.jobs import FINISHED, HELD, Attempt, Job, State
from pithead.core.leases import take
from pithead.core.miners import Miner
from pithead.exchange.ports import Client, Tx

__all__ = ["NOW", "client", "job", "lease", "miner", "moved"]


def client(tx: Tx, id: str = "client_1") -> Client:
    """A client with its two accounts."""
    new = Client(tx.new_account(id, ["client", "escrow"]), id, "lab", NOW)
    tx.add_client(new)
    return new


def miner(tx: Tx, id: str = "miner_1", **over: Any) -> Miner:
    """A miner with its account."""
    new = examples.miner(id=id, seq=tx.new_account(id, ["miner"]), **over)
    tx.add_miner(new)
    return new


def job(tx: Tx, owner: Client, id: str = "job_1", body: bytes = b"{}", **over: Any) -> Job:
    """A job of this client, as it stands."""
    return tx.add_job(examples.job(id=id, seq=0, client=owner.seq, **over), body)


def lease(tx: Tx, job: Job, holder: Miner, now: float = NOW) -> tuple[Job, Attempt]:
    """The job in the miner's hands."""
    taken, attempt = take(job, holder.seq, f"lease_{job.id}_{job.attempts + 1}", now, examples.POLICY)
    assert tx.save_job(job, taken)
    tx.add_attempt(attempt)
    return taken, attempt


def moved(tx: Tx, job: Job, state: State, **over: Any) -> Job:
    """The job moved on: with a lease where it is held, and with its end where it is finished."""
    if state not in HELD:
        over = {"lease_token": None, "lease_expires_at": None, "lease_limit_at": None} | over
    elif job.lease_expires_at is None:
        over = {"lease_token": "lease", "lease_expires_at": NOW + 120, "lease_limit_at": NOW + 1000} | over
    if state in FINISHED:
        over = {"finished_at": NOW} | over
    after = msgspec.structs.replace(job, state=state, **over)
    assert tx.save_job(job, after)
    return after
