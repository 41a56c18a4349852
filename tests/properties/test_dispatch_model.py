"""Random histories of everybody's operations, retries, lapses and outages, against a small model.

Whatever happens, in whatever order: no two miners hold one job, no job is completed twice, none is paid twice, a call
under an older lease changes nothing, the ledger balances after every step, and what is kept in memory is what is stored.
"""

import tempfile
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support import HASH, OTHER_HASH, Exchange

from pithead.core.errors import Refusal
from pithead.core.jobs import FINISHED, HELD, TRANSITIONS, Attempt, Job, State
from pithead.core.leases import Policy
from pithead.core.miners import Admission, Miner
from pithead.exchange import dispatch, miners, upkeep
from pithead.exchange.blobs import Stored
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.rules import Rules

PRICE = 50_000
DIGEST = HASH.removeprefix("sha256:")

#: Few of each, so that histories meet on the same job again and again.
who = st.integers(0, 1)
which = st.integers(0, 7)
seldom = st.integers(0, 3)
results = st.sampled_from([HASH, OTHER_HASH])


class Lease:
    """One that was given out."""

    def __init__(self, miner: str, job: str, token: str, number: int) -> None:
        self.miner, self.job, self.token, self.number = miner, job, token, number


class Histories(RuleBasedStateMachine):
    """The real operations on a real database; the model is who was paid for what, and what each answer promised."""

    @staticmethod
    def lend() -> AbstractContextManager[str]:
        """Lends the setting `database` for a new one; empty: an embedded one."""
        return nullcontext("")

    @staticmethod
    def open(folder: Path, rules: Rules, database: str) -> Exchange:
        """The exchange over what was lent."""
        return Exchange(folder, rules, database)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.lent = self.lend()
        rules = Rules(leases=Policy(lease_ttl=60.0, retry_base=1.0), offline_after=1e9)
        self.exchange = self.open(Path(self.folder.name), rules, self.lent.__enter__())
        self.coordinator = Coordinator(self.exchange.rules, lambda: self.exchange.now, self.exchange.signer)
        self.paid: dict[str, tuple[str, str]] = {}  # job -> (miner, hash), from the answers alone
        self.cancelled: set[str] = set()
        self.submitted: list[str] = []
        self.leases: dict[str, Lease] = {}  # by token: every lease that was ever given
        self.uploading: list[tuple[str, str, str | None, str]] = []  # miner, job, token, digest: bytes on their way
        self.uploaded: dict[tuple[str, int], str] = {}  # job and attempt -> the digest of what arrived last
        self.last_state: dict[str, State] = {}

    def teardown(self) -> None:
        self.exchange.close()
        self.lent.__exit__(None, None, None)
        self.folder.cleanup()

    @initialize()
    def people(self) -> None:
        self.client = self.exchange.client(0.5)
        self.miners = [self.exchange.miner(max_concurrent=2) for _ in range(2)]
        self.submit(3, None, False)

    # -- what the rules look up

    def _job(self, which: int) -> str:
        # The newest ones, most of the time: the old ones are finished.
        return self.submitted[-1 - which % min(2 if which < 6 else 8, len(self.submitted))]

    def _lease(self, which: int) -> Lease:
        return list(self.leases.values())[-1 - which % min(3 if which < 6 else 8, len(self.leases))]

    def _miner(self, miner_id: str) -> Miner:
        return self.exchange.do(lambda tx, now: miners.find(tx, miner_id))

    def _attempt(self, job: Job, miner_id: str, token: str | None) -> Attempt | None:
        seq = self._miner(miner_id).seq
        return self.exchange.do(lambda tx, now: tx.newest_attempt(job.seq, seq, token))

    def _may_act(self, job: Job, miner_id: str, token: str | None) -> bool:
        """Whether this miner holds the job, or held it last and may still deliver."""
        mine = self._attempt(job, miner_id, token)
        if mine is None or (token is not None and mine.number < job.attempts):
            return False
        if job.state in HELD:
            return mine.number == job.attempts
        return job.state is State.QUEUED and mine.outcome == "lapsed"

    def _changed(self, before: Job, lease: Lease) -> None:
        """A call under this lease went through: it changed nothing, or the lease is the newest one."""
        if self.exchange.job(before.id) != before:
            assert before.attempts == lease.number, "a call under an older lease was let through"

    # -- what clients do

    @rule(attempts=st.sampled_from([1, 4, 4]), timeout=st.sampled_from([None, None, 90.0]), require=st.booleans())
    def submit(self, attempts: int, timeout: float | None, require: bool) -> None:
        if len([j for j in self.submitted if self.exchange.job(j).state not in FINISHED]) >= 2:
            return  # Few at a time, so that everybody meets on the same ones.
        try:
            job = self.exchange.submit(self.client, max_attempts=attempts, timeout=timeout, require_result=require)
        except Refusal:
            assert self.exchange.balance(self.client) < PRICE
            return
        self.submitted.append(job)

    @rule(which=which, sure=seldom)
    def cancel(self, which: int, sure: int) -> None:
        if sure:
            return  # Seldom: a job that is cancelled has no further history.
        job = self._job(which)
        try:
            cancelled = self.exchange.cancel(job, self.client)
        except Refusal:
            assert self.exchange.job(job).state in FINISHED
            return
        assert self.exchange.cancel(job, self.client) == cancelled, "a repeat is answered as the first time"
        self.cancelled.add(job)
        assert job not in self.paid

    # -- what miners do

    @rule(who=who, which=which)
    def accept(self, who: int, which: int) -> None:
        job, miner = self._job(which), self.miners[who]
        before = self.exchange.job(job)
        try:
            assigned = self.exchange.accept(miner, job)
        except Refusal:
            assert self.exchange.job(job) == before
            return
        # The same again, as after a lost answer, is the same assignment.
        assert self.exchange.accept(miner, job) == assigned
        assert assigned.job.miner == self._miner(miner).seq, "a job that another miner holds was given out"
        if before.state in HELD:
            assert before.lease_token == assigned.job.lease_token
        else:
            assert before.state is State.QUEUED
            assert assigned.job.attempts == before.attempts + 1
        token = assigned.job.lease_token or ""
        self.leases.setdefault(token, Lease(miner, job, token, assigned.job.attempts))

    @rule(who=who, which=which, result=results)
    def complete_without_a_token(self, who: int, which: int, result: str) -> None:
        self._complete(self.miners[who], self._job(which), result, None)

    @precondition(lambda self: self.leases)
    @rule(which=which, result=results)
    def complete_under_a_token(self, which: int, result: str) -> None:
        lease = self._lease(which)
        before = self.exchange.job(lease.job)
        if self._complete(lease.miner, lease.job, result, lease.token):
            self._changed(before, lease)

    def _complete(self, miner: str, job: str, result: str, token: str | None) -> bool:
        before = self.exchange.job(job)
        mine = self._attempt(before, miner, token)
        arrived = self.uploaded.get((job, mine.number)) if mine else None
        fits = not before.require_result if arrived is None else result == f"sha256:{arrived}"
        may = fits and self._may_act(before, miner, token)
        try:
            outcome = self.exchange.complete(miner, job, result, token)
        except Refusal:
            assert not may, "somebody's finished work was refused"
            assert self.exchange.job(job) == before
            return False
        repeated = before.state is State.COMPLETED
        assert may or repeated
        known = self.paid.setdefault(job, (miner, result))
        assert known == (miner, result), "a job was completed twice"
        assert outcome.receipt.amount == PRICE
        again = self.exchange.complete(miner, job, result, token)
        assert (again.job, again.receipt) == (outcome.job, outcome.receipt), "a repeat is answered as the first time"
        for ticket in (again.ticket, outcome.ticket, again.ticket):
            self.exchange.signer.check(outcome.receipt, ticket)
        return True

    @precondition(lambda self: self.leases)
    @rule(which=which, bare=st.booleans(), kind=st.sampled_from(["error", "error", "error", "bad_input"]))
    def fail(self, which: int, bare: bool, kind: str) -> None:
        lease = self._lease(which)
        before, token = self.exchange.job(lease.job), None if bare else lease.token
        may = self._may_act(before, lease.miner, token)
        try:
            self.exchange.fail(lease.miner, lease.job, kind, token)
        except Refusal:
            assert not may
            assert self.exchange.job(lease.job) == before
            return
        after = self.exchange.job(lease.job)
        assert self.exchange.fail(lease.miner, lease.job, kind, token) == after
        if not bare:
            self._changed(before, lease)

    @precondition(lambda self: self.leases)
    @rule(which=which, bare=st.booleans())
    def release(self, which: int, bare: bool) -> None:
        lease = self._lease(which)
        before, token = self.exchange.job(lease.job), None if bare else lease.token
        may = self._may_act(before, lease.miner, token)
        try:
            self.exchange.release(lease.miner, lease.job, token)
        except Refusal:
            assert not may
            assert self.exchange.job(lease.job) == before
            return
        after = self.exchange.job(lease.job)
        assert after.failures == before.failures
        assert self.exchange.release(lease.miner, lease.job, token) == after
        if not bare:
            self._changed(before, lease)

    @precondition(lambda self: self.leases)
    @rule(which=which, fraction=st.sampled_from([None, 0.5, 1.0]))
    def report_progress(self, which: int, fraction: float | None) -> None:
        lease = self._lease(which)
        before = self.exchange.job(lease.job)
        try:
            after = self.exchange.progress(lease.miner, lease.job, fraction, lease.token)
        except Refusal:
            assert not (before.state in HELD and before.lease_token == lease.token)
            assert self.exchange.job(lease.job) == before
            return
        assert after.progress == fraction
        assert after.state is (State.UPLOADING if before.state is State.UPLOADING else State.RUNNING)
        assert before.lease_token == lease.token, "progress on a job that is another's"

    @precondition(lambda self: self.leases)
    @rule(which=which, bare=st.booleans(), digest=st.sampled_from([DIGEST, "cd" * 32]))
    def begin_an_upload(self, which: int, bare: bool, digest: str) -> None:
        """The bytes are on their way from here; anything may happen before they have all arrived."""
        lease = self._lease(which)
        before, token = self.exchange.job(lease.job), None if bare else lease.token
        may = self._may_act(before, lease.miner, token)
        try:
            self.exchange.do(
                lambda tx, now: dispatch.begin_upload(tx, miner_id=lease.miner, job_id=lease.job, token=token)
            )
        except Refusal:
            assert not may
            assert self.exchange.job(lease.job) == before
            return
        assert may
        self.uploading.append((lease.miner, lease.job, token, digest))

    @precondition(lambda self: self.uploading)
    @rule(which=which, whole=st.booleans())
    def end_an_upload(self, which: int, whole: bool) -> None:
        miner, job, token, digest = self.uploading.pop(which % len(self.uploading))
        before = self.exchange.job(job)
        mine = self._attempt(before, miner, token)
        may = self._may_act(before, miner, token)
        try:
            self.exchange.do(
                lambda tx, now: dispatch.end_upload(
                    tx, miner_id=miner, job_id=job, token=token, stored=Stored(digest, digest, 1, whole)
                )
            )
        except Refusal:
            assert not may
            assert self.exchange.job(job) == before
            return
        assert may, "bytes were taken from one who has lost the job"
        assert mine is not None
        if whole:  # A part is no result, whatever came before it.
            self.uploaded[job, mine.number] = digest

    @rule(who=who)
    def heartbeat(self, who: int) -> None:
        named = [job for job in self.submitted[-3:] if self._attempt(self.exchange.job(job), self.miners[who], None)]
        beat = self.exchange.beat(self.miners[who], *named)
        held = {lease.job_id for lease in beat.held}
        assert all(lease.lease_expires_at <= self.exchange.now + 60.0 for lease in beat.held)
        told = {job for job, _ in beat.stop}
        assert not told & held, "told to stop what it holds"
        mine = {job for job, (miner, _) in self.paid.items() if miner == self.miners[who]}
        assert set(named) <= held | told | mine

    # -- what the operator does

    @rule(who=who, sure=seldom)
    def suspend_and_approve(self, who: int, sure: int) -> None:
        """What it holds it may finish; it takes nothing new."""
        if sure:
            return
        miner = self.miners[who]
        self.exchange.do(lambda tx, now: miners.suspend(tx, now, "operator", miner, ""))
        before = self.exchange.do(lambda tx, now: tx.held(self._seq(tx, miner)))
        self.accept(who, 0)
        assert self.exchange.do(lambda tx, now: tx.held(self._seq(tx, miner))) == before
        self.exchange.do(lambda tx, now: miners.approve(tx, now, self.exchange.rules, "operator", miner))

    @staticmethod
    def _seq(tx: object, miner: str) -> int:
        return miners.find(tx, miner).seq  # type: ignore[arg-type]

    @rule(who=who, sure=st.integers(0, 7))
    def retire(self, who: int, sure: int) -> None:
        """Its jobs go back without a failure; its owner registers anew."""
        if sure:
            return
        miner, rules = self.miners[who], self.exchange.rules
        seq = self._miner(miner).seq
        held = self.exchange.do(lambda tx, now: tx.held_jobs(seq))
        for _ in range(2):
            retired = self.exchange.do(lambda tx, now: miners.retire(tx, now, rules, "operator", miner))
            assert retired.admission is Admission.RETIRED
        for before in held:
            after = self.exchange.job(before.id)
            assert (after.state, after.failures) == (State.QUEUED, before.failures)
        self.miners[who] = self.exchange.miner(max_concurrent=2)

    # -- time

    @rule(seconds=st.sampled_from([1.0, 20.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.exchange.now += seconds
        swept = self.exchange.sweep()
        again = self.exchange.sweep()
        assert (again.expired, again.lapsed) == (0, 0), f"{swept} was not the whole of it"

    @rule(first=who, which=which)
    def a_lease_lapses_and_another_takes_over(self, first: int, which: int) -> None:
        """The history in which most goes wrong, made frequent."""
        self.accept(first, which)
        self.time_passes(61.0)
        self.accept(1 - first, which)

    @rule(who=who, which=which, result=results)
    def a_late_delivery(self, who: int, which: int, result: str) -> None:
        """Finished after the lease, with nobody else on it."""
        self.accept(who, which)
        self.time_passes(61.0)
        self._complete(self.miners[who], self._job(which), result, None)

    @rule(seconds=st.sampled_from([30.0, 3600.0]))
    def an_outage(self, seconds: float) -> None:
        """No coordinator is up for a while: that counts against no lease."""
        self.exchange.do(upkeep.say_alive)
        before = [self.exchange.job(j) for j in self.submitted]
        self.exchange.now += seconds
        assert self.exchange.do(upkeep.resume) == seconds
        assert self.exchange.do(upkeep.resume) == 0, "an outage is made good once"
        for job in before:
            after = self.exchange.job(job.id)
            if job.state not in HELD:
                assert after == job
                continue
            assert after.state is job.state
            for moved in ("lease_expires_at", "lease_limit_at", "deadline"):
                assert getattr(after, moved) == getattr(job, moved) + seconds

    # -- what holds after every step

    @invariant()
    def money_is_where_it_belongs(self) -> None:
        self.exchange.assert_ledger_is_sound()
        assert self.exchange.payments() == dict.fromkeys(self.paid, 1)

    @invariant()
    def states_move_only_as_the_table_says(self) -> None:
        for job_id in self.submitted:
            job = self.exchange.job(job_id)
            was = self.last_state.get(job_id, State.QUEUED)
            if was is not job.state:
                assert TRANSITIONS[was], f"{job_id} left the final state {was}"
            self.last_state[job_id] = job.state
            assert (job.state in HELD) == (job.lease_token is not None) == (job.lease_expires_at is not None)
            assert (job.state is State.COMPLETED) == (job_id in self.paid)
            assert job.failures <= job.max_attempts
            if job_id in self.cancelled:
                assert job.state is State.CANCELLED

    @invariant()
    def every_attempt_is_counted_once(self) -> None:
        for miner_id in self.miners:
            miner, ended = self._miner(miner_id), Counter(self.exchange.outcomes(miner_id))
            for outcome in ("completed", "failed", "lapsed"):
                assert getattr(miner, outcome) == ended[outcome]
            paid = [job for job, (to, _) in self.paid.items() if to == miner_id]
            assert (miner.completed, miner.earnings) == (len(paid), len(paid) * PRICE)

    @invariant()
    def the_writer_remembers_what_is_stored(self) -> None:
        self.exchange.recall()

    @invariant()
    def the_board_has_what_is_queued(self) -> None:
        """Fed by the events of the transactions alone, as in the coordinator."""
        self.coordinator.on_events(self.exchange.events)
        self.exchange.events.clear()
        self.coordinator.board.wake(self.exchange.now)
        queued = [job for job in map(self.exchange.job, self.submitted) if job.state is State.QUEUED]
        assert len(self.coordinator.board) == len(queued)
        offered = self.coordinator.board.best(self._miner(self.miners[0]), 0.0, 100)
        assert {job.id: job for job in offered}.items() <= {job.id: job for job in queued}.items()


Histories.TestCase.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
