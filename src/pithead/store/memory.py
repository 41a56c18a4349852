"""What the writer of an embedded database knows without asking: rows that its operations read and wrote before.

A database file has one writer, and all that the operations change goes through `RememberingTx`. So a row that one of them
has seen is still like that, and the change of a row that it makes can be made here too. Nothing here is ever ahead of the
database but the balances, whose moves are gathered over a batch and written with it, before its commit (decision 30).

So are some other rows, which nobody has to be told of at once (`LATER`): one statement writes them all, at the end of the
batch or before anything looks at their tables.

Where anything else happened – an operation undone after it had changed something, a commit that failed, a change by another
process – all of it is forgotten. A test runs random histories beside plain transactions and compares every answer; another
one holds `MIRRORED` to the queries there are.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from pithead.core.jobs import Attempt, Job, is_finished
from pithead.core.leases import renewed
from pithead.core.miners import Miner
from pithead.core.needs import Needs
from pithead.exchange.ports import Client, Settlement
from pithead.store.queries import SQLITE, tables_of
from pithead.store.tx import SqlTx

#: The most jobs, miners and accounts that are remembered; the one that came first goes first. About a kilobyte each.
MOST: Final = 50_000

#: Bytes of the longest input that is remembered, and of all of them together, about.
LONGEST_INPUT: Final = 4096
MOST_INPUTS: Final = 32 * 1024 * 1024

#: Every query that changes a row of a kind that is remembered. `RememberingTx` does each of them here too, or forgets.
MIRRORED: Final = frozenset({
    "add_attempt", "add_client", "add_input", "add_job", "add_miner", "add_needs", "beat", "count_ended", "end_attempt",
    "extend_leases", "extend_miners", "heard", "mark_offline", "move_balance", "new_account", "rename_blob", "rename_part", "renew_all",
    "renew_one", "save_job", "save_miner", "set_credit_line", "set_part", "set_upload", "settle",
})  # fmt: skip
#: … and those that only change what is never remembered: jobs that are finished, and their attempts.
OF_FINISHED_JOBS: Final = frozenset({"drop_attempts", "drop_input", "drop_job", "expire_result", "forget_blobs"})

#: What is written together, in this order: attempts before what is said of their end.
LATER: Final = ("add_attempt", "settle", "add_transfer", "count_ended")
#: The queries for which that can wait: they neither look at these tables nor change what their rows refer to.
_INDIFFERENT: Final = frozenset(
    name
    for name, sql in SQLITE.items()
    if tables_of(sql).isdisjoint(("attempts", "transfers", "miners")) and not re.search(r"\bDELETE\b", sql)
)

#: The queries that read balances, before which the moves have to be written.
_READ_BALANCES: Final = frozenset(
    name
    for name, sql in SQLITE.items()
    if re.search(r"\baccounts\b", sql) and name not in ("move_balance", "new_account")
)


class Memory:
    """The rows that are remembered."""

    def __init__(self) -> None:
        self.miners: dict[str, Miner] = {}
        self.miner_ids: dict[int, str] = {}
        self.clients: dict[str, Client] = {}
        self.client_ids: dict[int, str] = {}
        #: Unfinished jobs by their ids, the newest attempt at them by their numbers, and which of them each miner holds.
        self.jobs: dict[str, Job] = {}
        self.attempts: dict[int, Attempt] = {}
        self.holders: dict[int, set[str]] = {}
        #: How many jobs a miner holds, remembered or not.
        self.counts: dict[int, int] = {}
        self.balances: dict[int, int] = {}
        #: Of jobs that are remembered and need nothing beside: their inputs by their numbers, and how large these are together.
        self.inputs: dict[int, bytes] = {}
        self.input_size = 0
        #: What is to be added to balances in the database, and the values that the queries of `LATER` are to be run with.
        self.moves: dict[int, int] = {}
        self.later: dict[str, list[dict[str, Any]]] = {query: [] for query in LATER}

    def forget(self) -> None:
        """Know nothing, and have nothing to write: where a transaction was undone."""
        self.forget_rows()
        self.moves.clear()
        for rows in self.later.values():
            rows.clear()

    def forget_rows(self) -> None:
        """Know nothing."""
        for name, known in vars(self).items():
            if isinstance(known, dict) and name not in ("moves", "later"):
                known.clear()
        self.input_size = 0

    def keep_job(self, job: Job) -> None:
        """An unfinished job is like this."""
        old = self.jobs.get(job.id)
        self.jobs[job.id] = job
        if old is None and len(self.jobs) > MOST:
            self.drop_job(next(iter(self.jobs)))
        before, after = None if old is None else old.miner, job.miner
        if before != after:
            if before is not None:
                self._let_go(before, job.id)
            if after is not None:
                self.holders.setdefault(after, set()).add(job.id)

    def drop_job(self, job_id: str) -> None:
        """Read it anew."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            self.attempts.pop(job.seq, None)
            self.drop_input(job.seq)
            if job.miner is not None:
                self._let_go(job.miner, job_id)

    def keep_input(self, job: int, body: bytes) -> None:
        """The input of a job that has just been queued."""
        if len(body) <= LONGEST_INPUT:
            if self.input_size > MOST_INPUTS:
                self.inputs.clear()
                self.input_size = 0
            self.inputs[job] = body
            self.input_size += len(body)

    def drop_input(self, job: int) -> None:
        """Read it anew."""
        self.input_size -= len(self.inputs.pop(job, b""))

    def _let_go(self, miner: int, job_id: str) -> None:
        held = self.holders[miner]
        held.discard(job_id)
        if not held:
            del self.holders[miner]

    def keep_miner(self, miner: Miner) -> None:
        """A miner is like this."""
        if len(self.miners) >= MOST and miner.id not in self.miners:
            del self.miner_ids[self.miners.pop(next(iter(self.miners))).seq]
        self.miners[miner.id] = miner
        self.miner_ids[miner.seq] = miner.id

    def miner(self, seq: int) -> Miner | None:
        """The miner of this number, if it is known."""
        return self.miners.get(self.miner_ids.get(seq, ""))

    def drop_miner(self, seq: int) -> None:
        """Read it anew."""
        self.miners.pop(self.miner_ids.pop(seq, ""), None)

    def keep_client(self, client: Client) -> None:
        """A client is like this."""
        if len(self.clients) >= MOST:
            self.clients.clear()
            self.client_ids.clear()
        self.clients[client.id] = client
        self.client_ids[client.seq] = client.id


class RememberingTx(SqlTx):
    """One operation of the writer."""

    def __init__(
        self,
        execute: Callable[[str, Mapping[str, Any]], Any],
        execute_many: Callable[[str, Sequence[Mapping[str, Any]]], int],
        memory: Memory,
    ) -> None:
        super().__init__(execute, SQLITE)
        self._execute_many = execute_many
        self._memory = memory
        #: Whether it changed something that is not written yet, and how many rows it wrote that were changed before.
        self.moved = False
        self.caught_up = 0

    def _one(self, query: str, **values: Any) -> Any:
        self._catch_up(query)
        return super()._one(query, **values)

    def _all(self, query: str, **values: Any) -> list[Any]:
        self._catch_up(query)
        return super()._all(query, **values)

    def _do(self, query: str, **values: Any) -> int:
        self._catch_up(query)
        return super()._do(query, **values)

    def _put(self, query: str, **values: Any) -> None:
        rows = self._memory.later.get(query)
        if rows is not None:
            self.moved = True
            rows.append(values)
        else:
            self._catch_up(query)
            super()._put(query, **values)

    def _catch_up(self, query: str) -> None:
        """Write what this query would miss."""
        if query not in _INDIFFERENT:
            self.write_later()
        if query in _READ_BALANCES:
            self.write_moves()

    def write_all(self) -> None:
        """Leave nothing to be written."""
        self.write_later()
        self.write_moves()

    def write_later(self) -> None:
        """Bring the tables of `LATER` up to date. The writer does it at the latest before a commit."""
        for query, rows in self._memory.later.items():
            if rows:
                # First of all: where it fails, all of them are forgotten, and the operations are run again one by one.
                written = rows.copy()
                rows.clear()
                self.caught_up += self._execute_many(SQLITE[query], written)

    # -- accounts and the ledger

    def move(self, account: int, amount: int) -> None:
        self.moved = True
        memory = self._memory
        memory.moves[account] = memory.moves.get(account, 0) + amount
        if account in memory.balances:
            memory.balances[account] += amount

    def write_moves(self) -> None:
        """Bring the balances in the database up to date. The writer does it at the latest before a commit."""
        moves = self._memory.moves
        if moves:
            rows = [{"account": account, "amount": amount} for account, amount in moves.items() if amount]
            moves.clear()
            self.caught_up += self._execute_many(SQLITE["move_balance"], rows)

    def balance(self, account: int) -> int:
        balances = self._memory.balances
        if account not in balances:
            if len(balances) >= MOST:
                balances.clear()
            # Not through `_one`, which would write the moves, and let this operation count as one that changed something.
            row = super()._one("balance", account=account)
            balances[account] = (int(row[0]) if row else 0) + self._memory.moves.get(account, 0)
        return balances[account]

    # -- clients

    def set_credit_line(self, client: int, amount: int) -> None:
        super().set_credit_line(client, amount)
        self._memory.clients.pop(self._memory.client_ids.pop(client, ""), None)

    def client_by_id(self, client_id: str) -> Client | None:
        client = self._memory.clients.get(client_id)
        if client is None:
            client = super().client_by_id(client_id)
            if client is not None:
                self._memory.keep_client(client)
        return client

    def client_by_seq(self, seq: int) -> Client | None:
        client = self._memory.clients.get(self._memory.client_ids.get(seq, ""))
        if client is None:
            client = super().client_by_seq(seq)
            if client is not None:
                self._memory.keep_client(client)
        return client

    # -- miners

    def miner_by_id(self, miner_id: str) -> Miner | None:
        miner = self._memory.miners.get(miner_id)
        if miner is None:
            miner = super().miner_by_id(miner_id)
            if miner is not None:
                self._memory.keep_miner(miner)
        return miner

    def miner_by_seq(self, seq: int) -> Miner | None:
        miner = self._memory.miner(seq)
        if miner is None:
            miner = super().miner_by_seq(seq)
            if miner is not None:
                self._memory.keep_miner(miner)
        return miner

    def save_miner(self, miner: Miner) -> None:
        super().save_miner(miner)
        self._memory.drop_miner(miner.seq)

    def beat(self, miner: int, now: float, offline_at: float) -> None:
        super().beat(miner, now, offline_at)
        if known := self._memory.miner(miner):
            self._memory.keep_miner(replace(known, last_seen_at=now, offline_at=offline_at, online=True))

    def heard(self, miner: int, at: float, offline_at: float) -> None:
        super().heard(miner, at, offline_at)
        known = self._memory.miner(miner)
        if known is not None and known.online and (known.last_seen_at or 0) <= at:
            self._memory.keep_miner(replace(known, last_seen_at=at, offline_at=offline_at))

    def count_ended(
        self,
        miner: int,
        outcome: str,
        *,
        wall: float = 0.0,
        gpu_seconds: float = 0.0,
        earned: int = 0,
        undo: bool = False,
    ) -> None:
        super().count_ended(miner, outcome, wall=wall, gpu_seconds=gpu_seconds, earned=earned, undo=undo)
        if known := self._memory.miner(miner):
            counted = {outcome: getattr(known, outcome) + (-1 if undo else 1)}
            after = replace(
                known,
                completion_seconds=known.completion_seconds + wall,
                gpu_seconds=known.gpu_seconds + gpu_seconds,
                earnings=known.earnings + earned,
                **counted,
            )
            self._memory.keep_miner(after)

    def mark_offline(self, now: float) -> list[int]:
        silent = super().mark_offline(now)
        for miner in silent:
            self._memory.drop_miner(miner)
        return silent

    # -- jobs

    def add_job(self, job: Job, body: bytes) -> Job:
        stored = super().add_job(job, body)
        self._memory.keep_job(stored)
        self._memory.keep_input(stored.seq, body)
        return stored

    def add_needs(self, job: int, needs: Needs, files: Sequence[int]) -> None:
        super().add_needs(job, needs, files)
        self._memory.drop_input(job)

    def job_work(self, job: int) -> tuple[bytes, Needs | None]:
        body = self._memory.inputs.get(job)
        return super().job_work(job) if body is None else (body, None)

    def job_by_id(self, job_id: str) -> Job | None:
        job = self._memory.jobs.get(job_id)
        if job is None:
            job = super().job_by_id(job_id)
            if job is not None and not is_finished(job):
                self._memory.keep_job(job)
        return job

    def save_job(self, before: Job, after: Job) -> bool:
        memory = self._memory
        if not super().save_job(before, after):
            memory.drop_job(before.id)
            return False
        old, new = (None if job.lease_expires_at is None else job.miner for job in (before, after))
        if old != new:
            counts = memory.counts
            if old in counts:
                counts[old] -= 1
            if new in counts:
                counts[new] += 1
        if is_finished(after):
            memory.drop_job(after.id)
            memory.attempts.pop(after.seq, None)
        else:
            memory.keep_job(after)
        return True

    def held_count(self, miner: int) -> int:
        counts = self._memory.counts
        if miner not in counts:
            if len(counts) >= MOST:
                counts.clear()
            counts[miner] = super().held_count(miner)
        return counts[miner]

    def renew(self, miner: int, job_ids: Sequence[str] | None, expires_at: float) -> None:
        super().renew(miner, job_ids, expires_at)
        memory = self._memory
        held = memory.holders.get(miner, ())
        for job_id in tuple(held) if job_ids is None else [name for name in job_ids if name in held]:
            memory.jobs[job_id] = renewed(memory.jobs[job_id], expires_at)

    def extend(self, seconds: float) -> int:
        extended = super().extend(seconds)
        self._memory.forget_rows()
        return extended

    # -- attempts

    def add_attempt(self, attempt: Attempt) -> None:
        super().add_attempt(attempt)
        self._memory.attempts[attempt.job] = attempt

    def newest_attempt(self, job: int, miner: int, token: str | None) -> Attempt | None:
        newest = self._memory.attempts.get(job)
        if newest is not None and newest.miner == miner and token in (None, newest.token):
            return newest
        return super().newest_attempt(job, miner, token)

    def end_attempt(self, job: int, number: int, now: float, outcome: str, reason: str = "") -> None:
        super().end_attempt(job, number, now, outcome, reason)
        self._memory.attempts.pop(job, None)

    def set_upload(self, job: int, number: int, digest: str, size: int, blob: str) -> None:
        super().set_upload(job, number, digest, size, blob)
        self._memory.attempts.pop(job, None)

    def set_part(self, job: int, number: int, size: int, blob: str) -> None:
        super().set_part(job, number, size, blob)
        self._memory.attempts.pop(job, None)

    def settle(self, job: int, number: int, now: float, settlement: Settlement) -> None:
        super().settle(job, number, now, settlement)
        self._memory.attempts.pop(job, None)

    def rename_blob(self, job_id: str, before: str, after: str) -> None:
        super().rename_blob(job_id, before, after)
        self._memory.attempts.clear()
