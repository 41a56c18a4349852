"""The check of the ledger finds whatever was tampered with, and names it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import Exchange

from pithead.exchange import ledger, payouts
from pithead.exchange.ledger import MOST_FAULTS, Progress
from pithead.exchange.rules import Rules


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    """Somebody of each kind and a job of every outcome, under a fee; the ledger's own guards are off."""
    exchange = Exchange(tmp_path, Rules(fee_basis_points=1000))
    yield exchange
    exchange.close()


def exchange_payout(exchange: Exchange, payout_id: str) -> int:
    return exchange.do(lambda tx, now: payouts.find(tx, payout_id)).seq


class Story:
    """What there is to tamper with."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.client = exchange.client(10)
        self.miner, self.other = exchange.miner(), exchange.miner()
        self.done, self.failed, self.cancelled, self.queued, self.free = (
            exchange.submit(self.client, price=price, max_attempts=1) for price in (2.0, 1.0, 0.5, 0.25, 0.0)
        )
        exchange.accept(self.miner, self.done)
        exchange.complete(self.miner, self.done)
        exchange.accept(self.miner, self.failed)
        exchange.fail(self.miner, self.failed)
        exchange.cancel(self.cancelled)
        self.asked, self.sent, self.returned = (exchange.payout(self.miner, amount) for amount in (0.1, 0.2, 0.3))
        exchange.pay(self.sent)
        exchange.do(lambda tx, now: payouts.reject(tx, now, "operator", self.returned, ""))
        execute = exchange.store.writing.execute
        for name in ("updated", "deleted"):
            execute(f"DROP TRIGGER transfers_are_never_{name}")

    def number(self, account: str, held: bool = False) -> int:
        return self.exchange.do(lambda tx, now: ledger.account(tx, account, held=held))

    def run(self, sql: str, **values: object) -> None:
        """Tamper; `:done` and the other names stand for numbers."""
        numbers: dict[str, object] = {
            name: self.exchange.job(getattr(self, name)).seq
            for name in ("done", "failed", "cancelled", "queued", "free")
        }
        numbers |= {
            "client": self.number(self.client), "escrow": self.number(self.client, held=True),
            "miner": self.number(self.miner), "other": self.number(self.other),
            **{name: exchange_payout(self.exchange, getattr(self, name)) for name in ("asked", "sent", "returned")},
        }  # fmt: skip
        for statement in sql.split(";"):
            self.exchange.store.writing.execute(statement, numbers | values)


@pytest.fixture
def story(exchange: Exchange) -> Story:
    return Story(exchange)


#: Puts balances right after postings were tampered with, so that only the other rules can notice.
REBALANCE = """; UPDATE accounts SET balance = (SELECT coalesce(sum(amount), 0) FROM transfers WHERE credit = accounts.seq)
    - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE debit = accounts.seq)"""
PAYOUT = "INSERT INTO transfers (at, cause, debit, credit, amount, payout) VALUES "
POST = "INSERT INTO transfers (at, cause, debit, credit, amount, job) VALUES "

#: What was done, and the job or account, with a part of the fault, that must be named for it.
CASES: dict[str, tuple[str, str, str]] = {
    "a balance was raised": (
        "UPDATE accounts SET balance = balance + 1 WHERE seq = :client", "client", "its transfers add up to 7.75"),
    "the sum is not 0": (
        "UPDATE accounts SET balance = balance + 1 WHERE seq = :client", "", "all balances together are 0.000001"),
    "a transfer was made larger": (
        "UPDATE transfers SET amount = amount + 1 WHERE cause = 'credit'", "client", "its transfers add up to 7.750001"),
    "a transfer was deleted": (
        "DELETE FROM transfers WHERE cause = 'refund' AND job = :failed" + REBALANCE, "failed", "never given back"),
    "money lies in an escrow for nothing": (
        POST + "(1, 'credit', 1, :escrow, 7, NULL)" + REBALANCE, "client (escrow)", "it holds 0.250007"),
    "a hold is missing": ("DELETE FROM transfers WHERE cause = 'hold' AND job = :queued" + REBALANCE, "queued",
        "its price, 0.25, was never set aside"),
    "a hold is too small": ("UPDATE transfers SET amount = 1 WHERE cause = 'hold' AND job = :queued" + REBALANCE,
        "queued", "its price is 0.25, and 0.000001 was set aside"),
    "a job was paid twice": (
        POST + "(1, 'payment', :escrow, :miner, 1800000, :done)" + REBALANCE, "done", "it was paid 2 times"),
    "a job was paid less": (
        "UPDATE transfers SET amount = 1 WHERE cause = 'payment'" + REBALANCE, "done",
        "its price is 2, and it was paid with 0.000001 and a fee of 0.2"),
    "a fee was lost": (
        "DELETE FROM transfers WHERE cause = 'fee'" + REBALANCE, "done", "paid with 1.8 and a fee of 0"),
    "a payment was never made": (
        "DELETE FROM transfers WHERE cause IN ('payment', 'fee')" + REBALANCE, "done", "it was paid with 0 and a fee of 0"),
    "somebody else was paid": (
        "UPDATE transfers SET credit = :other WHERE cause = 'payment'" + REBALANCE, "done", "between the wrong accounts"),
    "a completed job was refunded too": (
        POST + "(1, 'refund', :escrow, :client, 2000000, :done)" + REBALANCE, "done", "given back all the same"),
    "the completion says something else": (
        "UPDATE attempts SET earned = 1 WHERE job = :done", "done", "its completion says 0.000001, and 1.8 was paid"),
    "a failed job was refunded twice": (
        POST + "(1, 'refund', :escrow, :client, 1000000, :failed)" + REBALANCE, "failed", "was given back 2 times"),
    "a cancelled job was refunded in part": (
        "UPDATE transfers SET amount = 1 WHERE cause = 'refund' AND job = :cancelled" + REBALANCE, "cancelled",
        "its price is 0.5, and 0.000001 was given back"),
    "a failed job was paid": (
        POST + "(1, 'payment', :escrow, :miner, 1, :failed)" + REBALANCE, "failed", "it is failed, and was paid all the same"),
    "an unfinished job was refunded": (
        POST + "(1, 'refund', :escrow, :client, 250000, :queued)" + REBALANCE, "queued",
        "it is queued, and its price was given back"),
    "a job for nothing cost something": (
        POST + "(1, 'hold', :client, :escrow, 1, :free)" + REBALANCE, "free", "its price is 0, and 0.000001 was set aside"),
    "an outcome was changed": (
        "UPDATE jobs SET state = 'expired' WHERE seq = :done", "done", "never given back"),
    "a price was changed": ("UPDATE jobs SET price = 3000000 WHERE seq = :queued", "client (escrow)", "jobs cost 3"),
    "a job was deleted": (
        "DELETE FROM inputs WHERE job = :queued; DELETE FROM jobs WHERE seq = :queued", "posting",
        "it belongs to job number"),
    "earnings were raised": (
        "UPDATE miners SET earnings = earnings + 1 WHERE seq = :miner", "miner",
        "its earnings are shown as 1.800001, and it was paid 1.8"),
    "a payout was reserved twice": (
        PAYOUT + "(1, 'payout', :miner, 3, 100000, :asked)" + REBALANCE, "asked", "was reserved 2 times instead of 1"),
    "a payout was never reserved": (
        "DELETE FROM transfers WHERE cause = 'payout' AND payout = :asked" + REBALANCE, "operator (payouts)",
        "it holds 0, and the open payouts are over 0.1"),
    "a payout was sent twice": (
        PAYOUT + "(1, 'payout_paid', 3, 1, 200000, :sent)" + REBALANCE, "sent", "was sent 2 times instead of 1"),
    "a payout says that it was paid and never left": (
        "UPDATE payouts SET state = 'paid' WHERE seq = :asked", "asked", "was sent 0 times instead of 1"),
    "a rejected payout never came back": (
        "DELETE FROM transfers WHERE cause = 'payout_returned'" + REBALANCE, "returned", "was given back 0 times"),
    "a rejected payout left all the same": (
        PAYOUT + "(1, 'payout_paid', 3, 1, 300000, :returned)" + REBALANCE, "returned", "was sent 1 times instead of 0"),
    "a payout's amount was changed": (
        "UPDATE payouts SET amount = 1 WHERE seq = :sent", "sent", "is over 0.2, not 0.000001"),
    "a payout came from somebody else": (
        "UPDATE transfers SET debit = :other WHERE payout = :asked" + REBALANCE, "asked", "between the wrong accounts"),
    "a payout has a cause that is none of a payout's": (
        "UPDATE transfers SET cause = 'credit' WHERE cause = 'payout_paid'" + REBALANCE, "sent",
        "which is none of a payout's"),
    "a payout was deleted": (
        "PRAGMA foreign_keys = OFF; DELETE FROM payouts WHERE seq = :asked", "posting", "it belongs to payout number"),
    "a payout's posting names none": (
        "UPDATE transfers SET payout = NULL WHERE cause = 'payout_paid'" + REBALANCE, "posting", "and names no payout"),
    "a miner owes": (POST + "(1, 'credit', :miner, 1, 1500001, NULL)" + REBALANCE, "miner", "which is below 0"),
    "a cause is unknown": (
        "UPDATE transfers SET cause = 'gift' WHERE cause = 'credit'" + REBALANCE, "posting", "cause gift, which there is not"),
    "a job's posting has a cause that is none of a job's": (
        "UPDATE transfers SET cause = 'credit' WHERE cause = 'fee'" + REBALANCE, "done", "which is none of a job's"),
    "a payment names no job": (
        "UPDATE transfers SET job = NULL WHERE cause = 'payment'" + REBALANCE, "posting", "and names no job"),
    "a credit went to a miner": (
        POST + "(1, 'credit', 1, :miner, 1, NULL)" + REBALANCE, "posting", "a credit goes between"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_names_what_was_tampered_with(story: Story, case: str) -> None:
    assert story.exchange.check() == []
    sql, subject, part = CASES[case]
    story.run(sql)
    found = story.exchange.check()
    if subject == "posting":
        assert [f for f in found if f[0] == "posting" and part in f[2]], found
        return
    owner, _, kind = subject.partition(" ")
    named = f"{getattr(story, owner, owner)} {kind}".strip()
    assert [f for f in found if f[1] == named and part in f[2]], found


def test_a_sound_ledger_has_no_fault(story: Story) -> None:
    assert story.exchange.check() == []


def test_it_stops_naming_and_goes_on_counting(story: Story) -> None:
    for _ in range(MOST_FAULTS + 5):
        story.exchange.submit(story.client, price=0.001)
    story.run("UPDATE jobs SET price = price + 1 WHERE seq > :free")
    found = story.exchange.do(lambda tx, now: ledger.check(tx))
    assert (found.faulty, len(found.faults)) == (MOST_FAULTS + 6, MOST_FAULTS)


def test_it_reads_in_batches_and_tells_how_far_it_is(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pithead.store.ledger._BATCH", 2)
    monkeypatch.setattr("pithead.exchange.ledger._STEP", 2)
    told: list[Progress] = []
    found = story.exchange.do(lambda tx, now: ledger.check(tx, told.append))
    assert (found.faulty, found.jobs, found.accounts) == (0, 5, 7)
    assert [(step.part, step.done, step.total) for step in told] == [
        ("accounts", 2, 7), ("accounts", 4, 7), ("accounts", 6, 7), ("accounts", 7, 7), ("jobs", 2, 5), ("jobs", 4, 5), ("jobs", 5, 5),
        ("payouts", 2, 3), ("payouts", 3, 3), ("postings", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["UPDATE transfers SET amount = 1", "DELETE FROM transfers"])
def test_the_ledger_refuses_to_be_changed(exchange: Exchange, change: str) -> None:
    exchange.client(10)
    execute: Callable[..., object] = exchange.store.writing.execute
    with pytest.raises(Exception, match="append-only"):
        execute(change)
