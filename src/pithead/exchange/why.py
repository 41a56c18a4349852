"""Why a miner gets no job, and why a job finds no miner: `core.why`, asked of what is in memory.

The queue is looked at by kinds and the miners by groups, a few hundred at a time, so that dispatch is not held up however
long either is.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

import msgspec

from pithead.core import estimates, matching, why
from pithead.core.board import key_of
from pithead.core.jobs import Job, State, is_held
from pithead.core.miners import Miner
from pithead.core.why import Census, Group, JobTally, JobWhy, MinerTally, MinerWhy
from pithead.exchange import jobs
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.ports import Tx

T = TypeVar("T")

#: Kinds or groups that are looked at in one go.
_SLICE: Final = 250
#: Kinds of which the jobs before a job are counted in the database; of more, all that may be before it are taken to be.
_COUNTED: Final = 32


class MinerReport(msgspec.Struct, frozen=True):
    """Why a miner gets no job."""

    miner: Miner
    held: int
    why: MinerWhy
    #: Whether it would be offered a job now.
    offered: bool


class JobReport(msgspec.Struct, frozen=True):
    """Why a job waits."""

    job: Job
    #: What keeps everybody from it: its state, or its back-off.
    reason: str | None
    #: `None` where it is not queued.
    why: JobWhy | None
    #: Jobs that stand before it and that those who could take it could take too.
    ahead: int
    #: Seconds until it should begin; `None` where nobody that is active fits, or it is not queued.
    expected_start: float | None


async def _slices(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    for at in range(0, len(items), _SLICE):
        yield items[at : at + _SLICE]
        await asyncio.sleep(0)


async def of_miner(exchange: Coordinator, miner_id: str) -> MinerReport:
    """Why the miner gets no job, or not those jobs. Raises `NotFound`."""
    known = await exchange.known(miner_id, exchange.now())
    miner, held, board, now = known.miner, len(known.held), exchange.board, exchange.now()
    tally, avoided = MinerTally(miner), 0
    async for kinds in _slices(board.kinds()):
        for kind in kinds:
            depth = board.depth(kind)
            if depth and tally.add(kind, depth):
                avoided += board.avoiding(kind, miner, now)
    stops = why.stops_of(miner, held)
    offered = not stops and bool(board.best(miner, now, 1))
    return MinerReport(miner, held, tally.result(stops, avoided, board.resting), offered)


async def of_job(exchange: Coordinator, job_id: str, client_id: str | None) -> JobReport:
    """Why the job waits, if it is the client's (`None`: the operator asks). Raises `NotFound`, `JobArchived`."""
    job = await exchange.peek(lambda tx: jobs.find_own(tx, job_id, client_id))
    if job.state is not State.QUEUED:
        reason = f"the job is {job.state}" + (": a miner works on it" if is_held(job) else "")
        return JobReport(job, reason, None, 0, None)
    now = exchange.now()
    tally = JobTally(job)
    async for groups in _slices((await exchange.fleet.census(now, exchange.read)).groups):
        for group in groups:
            tally.add(group)
    avoiding = job.avoid_until > now and await exchange.peek(lambda tx: _is_kept_from(tx, job))
    found = tally.result(job.gpu_count, job.estimated_ms, avoiding)
    ahead, each = await _ahead(exchange, job, tally.working)
    start = estimates.start_in(ahead, found.free, found.slots, each)
    if start is not None:
        start = max(start, job.not_before - now)
    return JobReport(job, matching.resting(job, now), found, ahead, start)


def _is_kept_from(tx: Tx, job: Job) -> bool:
    """Whether the miner that failed at the job last could take it otherwise."""
    miner = tx.miner_by_seq(job.avoid_miner) if job.avoid_miner is not None else None
    return (
        miner is not None
        and matching.misfit(miner, job) is None
        and matching.unready(miner, tx.held_count(miner.seq)) is None
    )


async def _ahead(exchange: Coordinator, job: Job, working: Sequence[Group]) -> tuple[int, float]:
    """How many jobs stand before it that those who fit could take too, and the seconds that one takes on average."""
    board, key, fitting = exchange.board, key_of(job), Census(working)
    known, seconds, unsure = 0, 0.0, []
    if working:
        async for kinds in _slices(board.kinds()):
            for kind in kinds:
                if not fitting.serves(kind):
                    continue
                before = board.before(kind, key)
                if before.unsure:
                    unsure.append((before, kind))
                else:
                    known += before.known
                    seconds += before.known * before.seconds
    unsure.sort(key=lambda one: -one[0].unsure)
    to_count = unsure[:_COUNTED]
    counts = (
        await exchange.read(lambda tx: [tx.queued_before(kind, key) for _, kind in to_count])
        if to_count
        else list[int]()
    )
    counts += [before.known + before.unsure for before, _ in unsure[_COUNTED:]]
    for (before, _), count in zip(unsure, counts, strict=True):
        known += count
        seconds += count * (before.seconds or job.estimated_ms / 1000)
    return known, seconds / known if known else job.estimated_ms / 1000
