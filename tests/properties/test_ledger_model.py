"""Random histories of money: prices down to nothing, fees that change, credit, credit lines and payouts, at once.

After every transaction all balances sum to 0 and the check of the ledger finds nothing; and every balance is what a model
says that has nothing to do with postings.
"""

import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support import Exchange

from pithead.core.errors import Conflict, Invalid, PaymentRequired
from pithead.core.money import FEES, ISSUED, PAYOUTS, units
from pithead.core.payouts import Payout, State
from pithead.exchange import accounts, ledger, payouts, retention
from pithead.exchange.ledger import Line
from pithead.exchange.ports import Earned, Grouping, PayoutFilter, Tx
from pithead.exchange.rules import Rules

#: Whole millionths: nothing, the least there is, what a fee cannot divide, and sums that meet a balance.
prices = st.sampled_from([0, 1, 3, 333_333, 500_000, 1_000_000, 2_500_000])
who = st.integers(0, 1)
which = st.integers(0, 5)

GROUPINGS: tuple[Grouping, ...] = ("day", "model", "client")


def _lines(number: int, tx: Tx, now: float) -> list[Line]:
    """The whole statement of an account, two entries a page."""
    page = ledger.statement(tx, number, None, 2)
    lines = page.lines
    while page.following:
        page = ledger.statement(tx, number, page.following, 2)
        lines += page.lines
    return lines


def _earnings(number: int, by: Grouping, tx: Tx, now: float) -> list[Earned]:
    return ledger.earnings(tx, number, by, None, None)


def _newest_payout(miner: int, tx: Tx, now: float) -> Payout:
    return tx.payouts_page(PayoutFilter(miner=miner), None, 1)[0]


class Money(RuleBasedStateMachine):
    """The real operations on a real database, beside the plainest book there can be."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.exchange = Exchange(Path(self.folder.name), Rules(offline_after=1e9))
        self.book: Counter[int] = Counter()
        self.lines: Counter[int] = Counter()
        self.paydays = 0
        self.open: list[tuple[str, int, int]] = []  # job, client's index, price
        self.asked: list[tuple[str, int, int]] = []  # payout, miner's index, amount
        self.earned: Counter[int] = Counter()

    def teardown(self) -> None:
        self.exchange.close()
        self.folder.cleanup()

    @initialize(credit=prices)
    def people(self, credit: int) -> None:
        self.clients = [self.exchange.client(float(units(credit))) for _ in range(2)]
        self.miners = [self.exchange.miner(max_concurrent=99) for _ in range(2)]
        for miner in self.miners:
            self.exchange.send_to(miner, "x")
        self.numbers = [self.exchange.account(client) for client in self.clients]
        self.earners = [self.exchange.account(miner) for miner in self.miners]
        for number in self.numbers:
            self._move(ISSUED, number, credit)

    def _move(self, debit: int, credit: int, amount: int) -> None:
        self.book[debit] -= amount
        self.book[credit] += amount

    @rule(fee=st.sampled_from([0, 1, 333, 5_000, 10_000]))
    def the_fee_changes(self, fee: int) -> None:
        self.exchange.rules = msgspec.structs.replace(self.exchange.rules, fee_basis_points=fee)

    @rule(who=who, amount=prices, sign=st.sampled_from([1, -1]))
    def credit(self, who: int, amount: int, sign: int) -> None:
        number = self.numbers[who]
        try:
            self.exchange.do(
                lambda tx, now: accounts.credit_client(
                    tx, now, "operator", self.clients[who], float(units(sign * amount)), "x"
                )
            )
        except Conflict:
            assert sign < 0
            assert self.book[number] < amount
            return
        self._move(ISSUED, number, sign * amount)

    @rule(who=who, amount=prices)
    def credit_line(self, who: int, amount: int) -> None:
        self.exchange.do(
            lambda tx, now: accounts.set_credit_line(tx, now, "operator", self.clients[who], float(units(amount)))
        )
        self.lines[who] = amount

    @rule(who=who, price=prices)
    def submit(self, who: int, price: int) -> None:
        number = self.numbers[who]
        covered = self.book[number] + self.lines[who] >= price
        try:
            job = self.exchange.submit(self.clients[who], price=float(units(price)), max_attempts=1, timeout=600.0)
        except PaymentRequired:
            assert not covered
            return
        assert covered
        self._move(number, number + 1, price)
        self.open.append((job, who, price))

    @rule(who=who, which=which, outcome=st.sampled_from(["complete", "complete", "fail", "cancel"]))
    def finish(self, who: int, which: int, outcome: str) -> None:
        if which >= len(self.open):
            return
        job, client, price = self.open.pop(which)
        escrow = self.numbers[client] + 1
        if outcome == "cancel":
            self.exchange.cancel(job)
            self._move(escrow, self.numbers[client], price)
            return
        self.exchange.accept(self.miners[who], job)
        if outcome == "fail":
            self.exchange.fail(self.miners[who], job)
            self._move(escrow, self.numbers[client], price)
            return
        earned = self.exchange.complete(self.miners[who], job).receipt.amount
        fee = price * self.exchange.rules.fee_basis_points // 10_000
        assert earned == price - fee
        self._move(escrow, self.earners[who], earned)
        self.earned[self.earners[who]] += earned
        self._move(escrow, FEES, fee)

    @rule(who=who, amount=st.one_of(st.none(), prices))
    def ask_for_a_payout(self, who: int, amount: int | None) -> None:
        there = self.book[self.earners[who]]
        wanted = there if amount is None else amount
        try:
            payout = self.exchange.payout(self.miners[who], None if amount is None else float(units(amount)))
        except (Conflict, Invalid):
            assert not 0 < wanted <= there
            return
        assert 0 < wanted <= there
        self._move(self.earners[who], PAYOUTS, wanted)
        self.asked.append((payout, who, wanted))

    @rule(which=which, paid=st.booleans())
    def decide_on_a_payout(self, which: int, paid: bool) -> None:
        if which >= len(self.asked):
            return
        payout, who, amount = self.asked.pop(which)
        if paid:
            self.exchange.pay(payout)
            self._move(PAYOUTS, ISSUED, amount)
        else:
            self.exchange.do(lambda tx, now: payouts.reject(tx, now, "operator", payout, "no"))
            self._move(PAYOUTS, self.earners[who], amount)

    @rule(minimum=prices)
    def payday(self, minimum: int) -> None:
        self.time_passes()
        rules = msgspec.structs.replace(self.exchange.rules, payout_schedule="daily", payout_minimum=minimum)
        first = not self.paydays
        self.paydays += 1
        for _ in range(2):  # the second one has nothing left to do
            assert self.exchange.do(lambda tx, now: payouts.run_schedule(tx, now, rules)) is False
        for who, number in enumerate(self.earners):
            amount = self.book[number]
            if first or amount < max(1, minimum):
                continue
            self._move(number, PAYOUTS, amount)
            made = self.exchange.do(partial(_newest_payout, number))
            assert (made.amount, made.state) == (amount, State.REQUESTED)
            self.asked.append((made.id, who, amount))

    @rule(age=st.sampled_from([0.0, 86_400.0]))
    def old_jobs_are_put_away(self, age: float) -> None:
        rules = msgspec.structs.replace(self.exchange.rules, keep_jobs=age or 1e-9)
        self.exchange.now += 1.0
        for job in self.exchange.do(lambda tx, now: retention.archive_jobs(tx, now, rules)).blobs:
            raise AssertionError(f"nothing was uploaded, and yet there is {job}")

    @rule()
    def time_passes(self) -> None:
        self.exchange.now += 86_400.0
        self.exchange.sweep()
        for _, client, price in self.open:
            self._move(self.numbers[client] + 1, self.numbers[client], price)
        self.open.clear()

    @invariant()
    def every_balance_is_as_the_book_says(self) -> None:
        self.exchange.assert_ledger_is_sound()
        for number in [ISSUED, FEES, PAYOUTS, *self.numbers, *(n + 1 for n in self.numbers), *self.earners]:
            assert self.exchange.holds(number) == self.book[number]

    @invariant()
    def the_writer_remembers_what_is_stored(self) -> None:
        self.exchange.recall()

    @invariant()
    def statements_run_back_to_0(self) -> None:
        for number in [*self.numbers, *self.earners]:
            lines = self.exchange.do(partial(_lines, number))
            assert not lines or lines[-1].balance == lines[-1].entry.amount

    @invariant()
    def earnings_add_up_in_every_way(self) -> None:
        for number in self.earners:
            for by in GROUPINGS:
                rows = self.exchange.do(partial(_earnings, number, by))
                assert sum(row.amount for row in rows) == self.earned[number]


Money.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMoney = Money.TestCase
