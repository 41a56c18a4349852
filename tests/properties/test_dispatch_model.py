"""Random histories of everybody's operations, retries and lapses, against a small model.

Whatever happens, in whatever order: no two miners hold one job, no job is completed twice, none is paid twice, and the
ledger balances after every step.
"""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support import HASH, OTHER_HASH, Exchange

from pithead.core.errors import Refusal
from pithead.core.jobs import FINISHED, HELD, TRANSITIONS, State
from pithead.core.leases import Policy
from pithead.exchange import upkeep
from pithead.exchange.rules import Rules

PRICE = 50_000

#: Few of each, so that histories meet on the same job again and again.
who = st.integers(0, 1)
which = st.integers(0, 7)


class Histories(RuleBasedStateMachine):
    """The real operations on a real database; the model is who was paid for what, and what each answer promised."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.exchange = Exchange(
            Path(self.folder.name), Rules(leases=Policy(lease_ttl=60.0, retry_base=1.0), offline_after=1e9)
        )
        self.paid: dict[str, tuple[str, str]] = {}  # job -> (miner, hash), from the answers alone
        self.cancelled: set[str] = set()
        self.submitted: list[str] = []
        self.leases: list[tuple[int, str, str, int]] = []  # miner, job, token, number: every lease that was ever given
        self.last_state: dict[str, State] = {}

    def teardown(self) -> None:
        self.exchange.close()
        self.folder.cleanup()

    @initialize()
    def people(self) -> None:
        self.client = self.exchange.client(0.5)
        self.miners = [self.exchange.miner(max_concurrent=2) for _ in range(2)]
        self.submit(3, None)

    def _job(self, which: int) -> str:
        # The newest ones, most of the time: the old ones are finished.
        return self.submitted[-1 - which % min(2 if which < 6 else 8, len(self.submitted))]

    @rule(attempts=st.sampled_from([1, 4, 4]), timeout=st.sampled_from([None, None, 90.0]))
    def submit(self, attempts: int, timeout: float | None) -> None:
        if len([j for j in self.submitted if self.exchange.job(j).state not in FINISHED]) >= 2:
            return  # Few at a time, so that everybody meets on the same ones.
        try:
            job = self.exchange.submit(self.client, max_attempts=attempts, timeout=timeout)
        except Refusal:
            assert self.exchange.balance(self.client) < PRICE
            return
        self.submitted.append(job)

    @rule(who=who, which=which)
    def accept(self, who: int, which: int) -> None:
        job = self._job(which)
        before = self.exchange.job(job)
        try:
            assigned = self.exchange.accept(self.miners[who], job)
        except Refusal:
            assert self.exchange.job(job) == before
            return
        # The same again, as after a lost answer, is the same assignment.
        assert self.exchange.accept(self.miners[who], job) == assigned
        assert assigned.job.miner == self._seq(who), "a job that another miner holds was given out"
        if before.state in HELD:
            assert before.lease_token == assigned.job.lease_token
        else:
            assert before.state is State.QUEUED
            assert assigned.job.attempts == before.attempts + 1
        lease = (who, job, assigned.job.lease_token or "", assigned.job.attempts)
        if lease not in self.leases:
            self.leases.append(lease)

    @rule(who=who, which=which, result=st.sampled_from([HASH, OTHER_HASH]))
    def complete_without_a_token(self, who: int, which: int, result: str) -> None:
        self._complete(who, self._job(which), result, None)

    @precondition(lambda self: self.leases)
    @rule(which=which, result=st.sampled_from([HASH, OTHER_HASH]))
    def complete_under_a_token(self, which: int, result: str) -> None:
        who, job, token, number = self._lease(which)
        before = self.exchange.job(job)
        if self._complete(who, job, result, token) and before.state is not State.COMPLETED:
            assert before.attempts == number, "a call under an older lease was let through"

    def _seq(self, who: int) -> int:
        miner = self.exchange.do(lambda tx, now: tx.miner_by_id(self.miners[who]))
        assert miner is not None
        return miner.seq

    def _lease(self, which: int) -> tuple[int, str, str, int]:
        return self.leases[-1 - which % min(3 if which < 6 else 8, len(self.leases))]

    def _complete(self, who: int, job: str, result: str, token: str | None) -> bool:
        before = self.exchange.job(job)
        try:
            outcome = self.exchange.complete(self.miners[who], job, result, token)
        except Refusal:
            assert self.exchange.job(job) == before
            return False
        known = self.paid.setdefault(job, (self.miners[who], result))
        assert known == (self.miners[who], result), "a job was completed twice"
        assert outcome.settlement.earned == PRICE
        if before.state in HELD:
            assert before.miner == outcome.job.miner, "somebody else completed the holder's job"
        return True

    @precondition(lambda self: self.leases)
    @rule(which=which, kind=st.sampled_from(["error", "error", "error", "bad_input"]))
    def fail(self, which: int, kind: str) -> None:
        who, job, token, _ = self._lease(which)
        before = self.exchange.job(job)
        try:
            self.exchange.fail(self.miners[who], job, kind, token)
        except Refusal:
            assert self.exchange.job(job) == before
            return
        after = self.exchange.job(job)
        assert self.exchange.fail(self.miners[who], job, kind, token) == after

    @precondition(lambda self: self.leases)
    @rule(which=which)
    def release(self, which: int) -> None:
        who, job, token, _ = self._lease(which)
        before = self.exchange.job(job)
        try:
            self.exchange.release(self.miners[who], job, token)
        except Refusal:
            assert self.exchange.job(job) == before
            return
        assert self.exchange.job(job).failures == before.failures

    @rule(who=who)
    def heartbeat(self, who: int) -> None:
        beat = self.exchange.beat(self.miners[who])
        for held in beat.held:
            assert held.lease_expires_at <= self.exchange.now + 60.0

    @rule(which=which, sure=st.integers(0, 3))
    def cancel(self, which: int, sure: int) -> None:
        if sure:
            return  # Seldom: a job that is cancelled has no further history.
        job = self._job(which)
        try:
            self.exchange.cancel(job, self.client)
        except Refusal:
            assert self.exchange.job(job).state in FINISHED
            return
        self.cancelled.add(job)
        assert job not in self.paid

    @rule(seconds=st.sampled_from([1.0, 20.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.exchange.now += seconds
        swept = self.exchange.do(lambda tx, now: upkeep.sweep(tx, now, self.exchange.rules))
        again = self.exchange.do(lambda tx, now: upkeep.sweep(tx, now, self.exchange.rules))
        assert (again.expired, again.lapsed) == (0, 0), f"{swept} was not the whole of it"

    @rule(first=who, which=which)
    def a_lease_lapses_and_another_takes_over(self, first: int, which: int) -> None:
        """The history in which most goes wrong, made frequent."""
        self.accept(first, which)
        self.time_passes(61.0)
        self.accept(1 - first, which)

    @rule(seconds=st.sampled_from([30.0, 3600.0]))
    def an_outage(self, seconds: float) -> None:
        """No coordinator is up for a while: that counts against no lease."""
        self.exchange.do(upkeep.say_alive)
        held = [self.exchange.job(j) for j in self.submitted]
        self.exchange.now += seconds
        self.exchange.do(upkeep.resume)
        for job in held:
            if job.state in HELD:
                now_held = self.exchange.job(job.id)
                assert now_held.lease_expires_at == (job.lease_expires_at or 0) + seconds
                assert now_held.state is job.state

    @invariant()
    def money_is_where_it_belongs(self) -> None:
        self.exchange.assert_ledger_is_sound()
        rows = self.exchange.store.writing.execute(
            "SELECT j.id, count(*) FROM transfers t JOIN jobs j ON j.seq = t.job WHERE cause = 'payment' GROUP BY 1"
        ).fetchall()
        assert dict(rows) == dict.fromkeys(self.paid, 1)

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


Histories.TestCase.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
