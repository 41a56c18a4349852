"""What is no longer kept when its time is over: the bytes of results, input files, finished jobs, answers under keys.

First the row says that something is gone, durably; only then are its bytes deleted. If this process dies in between, the
bytes are an orphan, which the collector finds.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from pithead.exchange import inputs
from pithead.exchange.blobs import BlobError, Blobs
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.ports import Tx
from pithead.exchange.rules import Rules

_log = logging.getLogger("pithead.retention")

#: How many things one transaction gives up, so that it does not hold up those who wait for theirs.
BATCH: Final = 200
#: How many such transactions a turn makes of each kind: what is left is for the next one.
_TURNS: Final = 50


class Given(msgspec.Struct, frozen=True):
    """What one transaction gave up."""

    count: int
    #: Blobs that nothing refers to any more.
    blobs: list[str]


def expire_results(tx: Tx, now: float, rules: Rules) -> Given:
    """Give up results that are older than the rules say."""
    if not rules.keep_results:
        return Given(0, [])
    found = tx.results_to_expire(now - rules.keep_results, BATCH)
    return Given(len(found), [name for job in found for name in tx.expire_result(job.seq, now)])


def archive_jobs(tx: Tx, now: float, rules: Rules) -> Given:
    """Keep of jobs that were finished longer ago than the rules say only what the ledger needs."""
    if not rules.keep_jobs:
        return Given(0, [])
    found = tx.jobs_to_archive(now - rules.keep_jobs, BATCH)
    return Given(len(found), [name for job in found for name in tx.archive_job(job.seq)])


def forget_answers(tx: Tx, now: float, rules: Rules) -> Given:
    """Forget answers that are older than the rules say."""
    return Given(tx.forget_answers(now - rules.keep_answers, BATCH) if rules.keep_answers else 0, [])


def drop_files(tx: Tx, now: float, rules: Rules) -> Given:
    """Give up input files that nobody asked for since the rules say, and what is left of uploads that broke off."""
    parts = tx.input_parts_due(now - inputs.KEEP_PARTS, BATCH)
    whole = tx.input_files_due(now - rules.keep_files, BATCH) if rules.keep_files else []
    found = (parts + whole)[:BATCH]
    for file in found:
        tx.drop_input_file(file.seq)
    return Given(len(found), [name for file in found for name in file.blobs])


_KINDS: Final[tuple[tuple[str, Callable[[Tx, float, Rules], Given]], ...]] = (
    ("results", expire_results),
    ("jobs", archive_jobs),
    ("input files", drop_files),
    ("kept answers", forget_answers),
)


class Retention:
    """Gives up what is due, a bounded number at a turn. Any number of coordinators may do this at the same time."""

    def __init__(self, coordinator: Coordinator, blobs: Blobs) -> None:
        self._coordinator = coordinator
        self._blobs = blobs

    async def turn(self) -> None:
        """Give up what is due."""
        for what, operation in _KINDS:
            count = await self._give_up(operation)
            if count:
                _log.info("%d %s that are no longer kept were removed", count, what)

    async def _give_up(self, operation: Callable[[Tx, float, Rules], Given]) -> int:
        count = 0
        for _ in range(_TURNS):
            given = await self._coordinator.run(lambda tx, now: operation(tx, now, self._coordinator.rules))
            count += given.count
            if given.blobs:
                try:
                    await self._blobs.delete(given.blobs)
                except BlobError as error:
                    # No row names them any more: the collector will find them.
                    _log.warning("%d blobs could not be deleted now: %s", len(given.blobs), error)
            if given.count < BATCH:
                break
        return count
