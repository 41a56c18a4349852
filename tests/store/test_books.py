"""Statements, earnings, payouts, and what is left of things whose time is over."""

import math
from typing import Any

import pytest
from tests.store.conftest import Store
from tests.store.scenes import NOW, client, job, lease, miner, moved

from pithead.core import money
from pithead.core.bookkeeping import Posting
from pithead.core.jobs import Job, State
from pithead.core.money import ISSUED, PAYOUTS
from pithead.core.payouts import Payout
from pithead.core.payouts import State as PayoutState
from pithead.exchange.ports import (
    Archived,
    Client,
    Earned,
    Entry,
    Extent,
    Grouping,
    Moved,
    PayoutFilter,
    Settlement,
    Tx,
)

DAY = 86_400.0


def payout(tx: Tx, worker: int, id: str = "payout_1", **over: Any) -> Payout:
    given: dict[str, Any] = {
        "amount": 5, "destination": "here", "state": PayoutState.REQUESTED, "period": None, "requested_at": NOW
    } | over  # fmt: skip
    return tx.add_payout(Payout(seq=0, id=id, miner=worker, **given))


def paid(tx: Tx, owner: Client, worker: int, amount: int, at: float, id: str, model: str = "gpt2") -> Job:
    """A job that was paid, as the ledger sees it."""
    made = job(tx, owner, id, model=model)
    tx.post(at, money.pay(owner.seq, worker, made.seq, amount, 0))
    return made


def test_a_statement_has_both_sides_in_order_and_in_pages(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    work = job(tx, owner)
    tx.post(NOW, money.credit(owner.seq, 100, "hello"))
    tx.post(NOW + 1, money.hold(owner.seq, work.seq, 30))
    tx.post(NOW + 2, money.refund(owner.seq, work.seq, 30))
    asked = payout(tx, worker.seq)
    tx.post(NOW + 3, money.reserve(worker.seq, asked.seq, 5))
    whole = tx.statement(owner.seq, None, 10)
    told = [(entry.at, entry.cause, entry.amount, entry.job_id, entry.payout_id, entry.note) for entry in whole]
    assert told == [
        (NOW + 2, "refund", 30, "job_1", None, ""),
        (NOW + 1, "hold", -30, "job_1", None, ""),
        (NOW, "credit", 100, None, None, "hello"),
    ]
    assert tx.statement(owner.seq, None, 2) == whole[:2]
    assert tx.statement(owner.seq, whole[1].seq, 2) == whole[2:]
    (entry,) = tx.statement(PAYOUTS, None, 10)
    assert entry == Entry(entry.seq, NOW + 3, "payout", 5, None, "payout_1", "")
    assert tx.statement(10**6, None, 10) == []


def test_pages_of_the_whole_ledger_name_both_owners(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    tx.post(NOW, money.credit(owner.seq, 100, ""))
    work = paid(tx, owner, worker.seq, 7, NOW + 1, "job_1")
    page = tx.transfers_page(None, 10)
    assert page == [
        Moved(page[0].seq, NOW + 1, "payment", "client_1", "escrow", "miner_1", "miner", 7, work.id, None, ""),
        Moved(page[1].seq, NOW, "credit", "operator", "issued", "client_1", "client", 100, None, None, ""),
    ]
    assert tx.transfers_page(page[0].seq, 10) == page[1:]
    assert tx.transfers_page(None, 1) == page[:1]


@pytest.mark.parametrize(
    ("by", "keys"),
    [("day", ["20000", "20001"]), ("model", ["bert", "gpt2"]), ("client", ["client_1", "client_2"])],
)
def test_earnings_under_each_heading(tx: Tx, by: Grouping, keys: list[str]) -> None:
    first, second = client(tx), client(tx, "client_2")
    worker, other = miner(tx), miner(tx, "miner_2")
    at = 20_001 * DAY
    paid(tx, first, worker.seq, 1, at - 0.001, "job_1", "bert")
    paid(tx, second, worker.seq, 2, at, "job_2")
    paid(tx, second, worker.seq, 4, at + DAY - 0.001, "job_3")
    paid(tx, first, other.seq, 8, at, "job_4")
    assert tx.earnings(worker.seq, by, 0.0, math.inf) == [Earned(keys[0], 1, 1), Earned(keys[1], 2, 6)]
    assert tx.earnings(worker.seq, by, at, at + 1) == [Earned(keys[1], 1, 2)]
    assert tx.earnings(worker.seq, by, at + DAY, math.inf) == []


def test_credit_lines(tx: Tx) -> None:
    owner, other = client(tx), client(tx, "client_2")
    tx.set_credit_line(owner.seq, 2**53 + 1)
    found = [tx.client_by_id(one) for one in ("client_1", "client_2")]
    assert [one and one.credit_line for one in found] == [2**53 + 1, 0]
    assert [one.credit_line for one in tx.clients_page(None, 5)] == [0, 2**53 + 1]
    assert other.credit_line == 0


def test_a_payout_moves_on_only_from_where_it_is(tx: Tx) -> None:
    worker = miner(tx)
    made = payout(tx, worker.seq, amount=2**53 + 1)
    assert tx.payout_by_id("payout_1") == made
    assert tx.payout_by_id("payout_2") is None
    approved = Payout(
        made.seq, made.id, made.miner, made.amount, made.destination, PayoutState.APPROVED, None, NOW, NOW + 1,
    )  # fmt: skip
    assert tx.save_payout(made, approved)
    assert tx.payout_by_id("payout_1") == approved
    assert not tx.save_payout(made, approved)
    sent = Payout(
        made.seq, made.id, made.miner, made.amount, made.destination, PayoutState.PAID, None, NOW, NOW + 1, NOW + 2,
        "reference", "note",
    )  # fmt: skip
    assert tx.save_payout(approved, sent)
    assert tx.payout_by_id("payout_1") == sent


def test_pages_of_payouts(tx: Tx) -> None:
    first, second = miner(tx), miner(tx, "miner_2")
    made = [payout(tx, (first, second)[n % 2].seq, f"payout_{n}") for n in range(5)]
    assert tx.payouts_page(PayoutFilter(), None, 9) == made[::-1]
    assert tx.payouts_page(PayoutFilter(), made[3].seq, 2) == [made[2], made[1]]
    assert tx.payouts_page(PayoutFilter(miner=first.seq), None, 2) == [made[4], made[2]]
    assert tx.payouts_page(PayoutFilter(state="requested"), made[2].seq, 9) == [made[1], made[0]]
    assert tx.payouts_page(PayoutFilter(state="paid"), None, 9) == []


def test_whom_the_schedule_has_to_pay(tx: Tx) -> None:
    rich, poor, nowhere, done = (miner(tx, f"miner_{n}", payout_destination="x" if n != 2 else "") for n in range(4))
    for one, amount in ((rich, 10), (poor, 9), (nowhere, 10), (done, 10)):
        tx.post(NOW, (money.Transfer("payment", ISSUED, one.seq, amount),))
    payout(tx, done.seq, period=DAY)
    assert tx.miners_due(DAY, 10, 9) == [rich]
    assert tx.miners_due(DAY, 9, 9) == [rich, poor]
    assert tx.miners_due(2 * DAY, 9, 1) == [rich]
    assert tx.miners_due(2 * DAY, 9, 9) == [rich, poor, done]


def test_one_payout_for_a_miner_and_a_period_whoever_makes_it(store: Store, tx: Tx) -> None:
    worker, other = miner(tx), miner(tx, "miner_2")
    payout(tx, worker.seq, "payout_1", period=DAY)
    payout(tx, other.seq, "payout_2", period=DAY)
    with pytest.raises(Exception, match=r"(?i)unique"):
        payout(tx, worker.seq, "payout_3", period=DAY)
    payout(tx, worker.seq, "payout_4")
    payout(tx, worker.seq, "payout_5")


def test_a_number_under_a_name(tx: Tx) -> None:
    seen = [tx.meta("x")]
    for value in (1.5, 2.5, None, None):
        tx.set_meta("x", value)
        seen.append(tx.meta("x"))
    assert seen == [None, 1.5, 2.5, None, None]
    assert tx.meta("y") is None


def test_what_a_check_reads(store: Store, tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    tx.post(NOW, money.credit(owner.seq, 100, ""))
    work = job(tx, owner, price=30)
    tx.post(NOW, money.hold(owner.seq, work.seq, 30))
    asked = payout(tx, worker.seq)
    tx.post(NOW, money.reserve(worker.seq, asked.seq, 5))
    assert tx.ledger_extent() == Extent(accounts=6, jobs=1, payouts=1, loose=1, transfers=3)
    assert tx.ledger_sum() == 0
    accounts = store.do(lambda t: list(t.accounts_to_check()))
    assert [(a.owner, a.kind, a.balance, a.moved, a.expected, a.paid) for a in accounts] == [
        ("operator", "issued", -100, -100, 0, 0), ("operator", "fees", 0, 0, 0, 0), ("operator", "payouts", 5, 5, 5, 0),
        ("client_1", "client", 70, 70, 0, 0), ("client_1", "escrow", 30, 30, 30, 0), ("miner_1", "miner", -5, -5, 0, 0),
    ]  # fmt: skip
    ((priced, postings),) = store.do(lambda t: [one for one in t.jobs_to_check() if one[0]])
    assert priced is not None
    assert (priced.seq, priced.id, priced.client, priced.price, priced.state) == (
        work.seq,
        "job_1",
        owner.seq,
        30,
        "queued",
    )
    assert [(p.cause, p.debit, p.credit, p.amount, p.job) for p in postings] == [
        ("hold", owner.seq, owner.seq + 1, 30, work.seq)
    ]
    ((found, postings),) = store.do(lambda t: [one for one in t.payouts_to_check() if one[0]])
    assert (found, [p.payout for p in postings]) == (asked, [asked.seq])
    ((loose, debit, credit),) = store.do(lambda t: list(t.loose_postings()))
    assert (loose, debit, credit) == (
        Posting(loose.seq, NOW, "credit", ISSUED, owner.seq, 100, None, None, ""), "issued", "client",
    )  # fmt: skip


def finished(tx: Tx, owner: Client, worker: int | None, id: str, at: float, state: State = State.COMPLETED) -> Job:
    """A job that ended then; a completed one with a result of three bytes."""
    made = job(tx, owner, id)
    size = 3 if state is State.COMPLETED else None
    return moved(tx, made, state, finished_at=at, miner=worker, result_size=size, completed_attempt=1)


def test_results_expire_oldest_first_and_once(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    late, early = (finished(tx, owner, worker.seq, f"job_{n}", NOW + 10 - n) for n in range(2))
    finished(tx, owner, None, "job_3", NOW, State.FAILED)
    moved(tx, job(tx, owner, "job_4"), State.COMPLETED, miner=worker.seq)  # by hash alone
    assert tx.results_to_expire(NOW + 9, 9) == []
    assert tx.results_to_expire(NOW + 10, 9) == [early]
    assert tx.results_to_expire(NOW + 11, 1) == [early]
    assert tx.results_to_expire(NOW + 11, 9) == [early, late]
    assert tx.expire_result(early.seq, NOW + 50) == []
    assert tx.results_to_expire(NOW + 11, 9) == [late]
    found = tx.job_by_id(early.id)
    assert found is not None
    assert found.result_expired_at == NOW + 50


def test_what_expires_names_every_blob_of_the_job(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    held, attempt = lease(tx, job(tx, owner), worker)
    tx.set_upload(held.seq, attempt.number, "ab", 3, "blob 1")
    tx.set_part(held.seq, attempt.number, 2, "part 1")
    done = moved(tx, held, State.COMPLETED, miner=worker.seq, result_size=3, completed_attempt=1)
    assert sorted(tx.expire_result(done.seq, NOW)) == ["blob 1", "part 1"]
    assert tx.result_blob(done.seq, 1) is None
    assert tx.expire_result(done.seq, NOW) == []


def test_a_blob_of_an_attempt_that_did_not_complete_its_job_is_an_orphan(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    first, attempt = lease(tx, job(tx, owner), worker)
    tx.set_upload(first.seq, attempt.number, "ab", 3, "one")
    second, again = lease(tx, moved(tx, first, State.QUEUED, miner=None), worker)
    tx.set_upload(second.seq, again.number, "ab", 3, "two")
    assert [tx.is_orphan("job_1", name) for name in ("one", "two")] == [False, False]
    moved(tx, second, State.COMPLETED, miner=worker.seq, completed_attempt=2)
    assert [tx.is_orphan("job_1", name) for name in ("one", "two", "three")] == [True, False, True]


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED])
def test_what_is_left_of_a_job(tx: Tx, state: State) -> None:
    owner, worker = client(tx), miner(tx)
    held, attempt = lease(tx, job(tx, owner), worker)
    tx.set_upload(held.seq, attempt.number, "ab", 3, "blob 1")
    tx.settle(held.seq, attempt.number, NOW, Settlement("receipt", "key", "signature", 7, b"{}"))
    old = moved(tx, held, state, finished_at=NOW + 5, miner=worker.seq)
    tx.post(NOW, money.pay(owner.seq, worker.seq, old.seq, 7, 0))
    assert tx.jobs_to_archive(NOW + 6, 9) == [], "the newest job stays"
    job(tx, owner, "job_2")
    assert tx.jobs_to_archive(NOW + 5, 9) == []
    assert tx.jobs_to_archive(NOW + 6, 9) == [old]
    assert tx.archived("job_1") is None
    assert tx.archive_job(old.seq) == ["blob 1"]
    completed_by = worker.seq if state is State.COMPLETED else None
    assert tx.archived("job_1") == Archived(
        old.seq, "job_1", owner.seq, old.model, old.price, str(state), completed_by, old.created_at, NOW + 5
    )
    assert (tx.job_by_id("job_1"), tx.newest_attempt(old.seq, worker.seq, None)) == (None, None)
    assert tx.jobs_to_archive(NOW + 6, 9) == []
    # Its postings stay, and still name it.
    assert [entry.job_id for entry in tx.statement(worker.seq, None, 9)] == ["job_1"]
    assert tx.earnings(worker.seq, "model", 0, math.inf) == [Earned(old.model, 1, 7)]
    assert tx.earnings(worker.seq, "client", 0, math.inf) == [Earned("client_1", 1, 7)]
    assert tx.transfers_page(None, 1)[0].job_id == "job_1"
    assert tx.ledger_extent().jobs == 2


def test_archived_and_present_jobs_are_checked_in_one_order(store: Store, tx: Tx) -> None:
    owner = client(tx)
    made = [finished(tx, owner, None, f"job_{n}", NOW, State.CANCELLED) for n in range(5)]
    for n in (3, 0):
        tx.archive_job(made[n].seq)
    found = store.do(lambda t: [one.id for one, _ in t.jobs_to_check() if one])
    assert found == [f"job_{n}" for n in range(5)]
