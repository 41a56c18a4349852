"""What pages show that no call of the API does: each function one read of a bounded part of what there is."""

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from pithead.core.jobs import Job, is_held
from pithead.core.miners import Miner
from pithead.core.payouts import Payout
from pithead.exchange import jobs
from pithead.exchange.ports import Earned, Flow, JobFilter, PayoutFilter, Posted, Settlement, Try, Tx

#: Rows that are added up at the most: the newest ones.
MOST: Final = 20_000
#: Minutes that the picture of the throughput spans.
MINUTES: Final = 60
#: Miners on the map, and entries of the short lists.
MAP, FEW = 240, 6
#: Attempts and postings of a job that its page shows.
_ATTEMPTS, _POSTINGS = 40, 60
#: Characters of a running job's output that its page shows.
_OUTPUT: Final = 8_000
_DAY: Final = 86_400


class Minute(msgspec.Struct, frozen=True):
    """How many jobs ended in a minute."""

    at: float
    completed: int
    other: int


class Overview(msgspec.Struct, frozen=True):
    """The exchange at one moment."""

    held: dict[str, int]
    miners: dict[str, int]
    ledger: dict[str, int]
    minutes: list[Minute]
    #: Whether more jobs ended in this time than were looked at.
    cut: bool
    map: list[Miner]
    pending: list[Miner]
    payouts: list[Payout]
    newest: list[Job]


def overview(tx: Tx, now: float) -> Overview:
    """What an operator sees first."""
    first = int(now // 60) - MINUTES + 1
    ended = tx.finished_by_minute(first * 60.0, MOST)
    return Overview(
        held=tx.held_by_state(),
        miners=tx.miners_by_status(),
        ledger=tx.balances_by_kind(),
        minutes=_minutes(first, ended),
        cut=sum(number for _, _, number in ended) >= MOST,
        map=tx.miners_page(None, MAP, None),
        pending=tx.miners_page(None, FEW, "pending"),
        payouts=tx.payouts_page(PayoutFilter(state="requested"), None, FEW),
        newest=tx.jobs_page(JobFilter(), None, FEW),
    )


def _minutes(first: int, ended: list[tuple[int, str, int]]) -> list[Minute]:
    completed, other = dict[int, int](), dict[int, int]()
    for minute, state, number in ended:
        counts = completed if state == "completed" else other
        counts[minute] = counts.get(minute, 0) + number
    return [Minute(m * 60.0, completed.get(m, 0), other.get(m, 0)) for m in range(first, first + MINUTES)]


class JobStory(msgspec.Struct, frozen=True):
    """A job with all that happened to it."""

    job: Job
    client_id: str
    attempts: list[Try]
    postings: list[Posted]
    input: bytes
    #: The end of what the present attempt brought forth so far.
    output: str
    #: What completed it, and where the bytes of its result are.
    settlement: Settlement | None
    blob: str | None


def story(tx: Tx, job_id: str, client_id: str | None) -> JobStory:
    """The job, if it is the client's (`None`: the operator asks). Raises `NotFound`, `JobArchived`."""
    job = jobs.find_own(tx, job_id, client_id)
    owner, done = tx.client_by_seq(job.client), job.completed_attempt
    return JobStory(
        job=job,
        client_id=owner.id if owner else "",
        attempts=tx.attempts_of_job(job.seq, _ATTEMPTS),
        postings=tx.transfers_of_job(job.seq, _POSTINGS),
        input=tx.job_work(job.seq)[0],
        output=_output(tx, job) if is_held(job) else "",
        settlement=None if done is None else tx.settlement(job.seq, done),
        blob=None if done is None or job.result_expired_at is not None else tx.result_blob(job.seq, done),
    )


def _output(tx: Tx, job: Job) -> str:
    there = tx.output_size(job.seq, job.attempts)
    return tx.output_from(job.seq, job.attempts, max(0, there - _OUTPUT))[1] if there else ""


def flows(tx: Tx, now: float) -> list[Flow]:
    """What moved in the last day, among the newest postings."""
    return tx.flows(now - _DAY, MOST)


def sums(
    tx: Tx, account: int, way: Literal["taken", "given"], now: float, days: int
) -> tuple[list[Earned], list[Earned]]:
    """What an account took or gave for jobs, by day – every one of the last `days` – and by model."""
    last = int(now // _DAY)
    start = float((last - days + 1) * _DAY)
    read = tx.taken if way == "taken" else tx.given
    by_day = {int(one.key): one for one in read(account, "day", start, MOST)}
    found = []
    for day in range(last - days + 1, last + 1):
        one = by_day.get(day)
        name = datetime.fromtimestamp(day * _DAY, UTC).date().isoformat()
        found.append(Earned(name, one.jobs, one.amount) if one else Earned(name, 0, 0))
    return found, read(account, "model", start, MOST)
