"""Signing together: whoever asks first has all signed that were enlisted, and what nobody asks for harms nobody."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support import Exchange, TestSigner

from pithead.core.receipts import Receipt
from pithead.exchange.dispatch import Outcome
from pithead.exchange.ports import Ticket
from pithead.store import signing
from pithead.store.signing import MOST

ONE = Receipt(
    receipt_id="receipt_1", job_id="job_1", miner_id="miner_1", attempt=1, result_hash="sha256:ab", amount=5,
    completed_at=1_800_000_000.0,
)  # fmt: skip


def numbered(number: int) -> Receipt:
    return replace(ONE, receipt_id=f"receipt_{number}", amount=number)


def test_one_alone_is_signed_as_ever() -> None:
    signer = TestSigner()
    for _ in range(3):
        signed = signer.check(ONE, signer.enlist(ONE))
        assert (signed.signature, signed.proof) == (signer.sign(ONE), None)


def test_those_that_are_enlisted_before_the_first_is_asked_for_share_a_signature() -> None:
    signer = TestSigner()
    tickets = [signer.enlist(numbered(number)) for number in range(7)]
    asked_for = signer.check(numbered(4), tickets[4])
    later = signer.enlist(numbered(7))
    signed = [signer.check(numbered(number), ticket) for number, ticket in enumerate(tickets)]
    assert {one.signature for one in signed} == {asked_for.signature}
    assert [(one.proof.index, one.proof.size) for one in signed if one.proof] == [(number, 7) for number in range(7)]
    assert signer.check(numbered(7), later).proof is None
    assert tickets[4].signed() == asked_for, "asked for again it is the same"


def test_what_nobody_asks_for_does_not_gather() -> None:
    signer = TestSigner()
    first = signer.enlist(numbered(0))
    for number in range(1, MOST):
        signer.enlist(numbered(number))
    next_one = signer.enlist(numbered(MOST))
    assert signer.check(numbered(MOST), next_one).proof is None
    proof = signer.check(numbered(0), first).proof
    assert proof is not None
    assert proof.size == MOST


def test_a_failure_to_sign_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = TestSigner()
    ticket = signer.enlist(ONE)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(signer, "sign", lambda receipt: 1 / 0)
        ticket.signed()
    signer.check(ONE, ticket)


def test_threads_enlist_while_others_ask() -> None:
    signer, threads, each = TestSigner(), 6, 300
    together = threading.Barrier(threads)

    def work(thread: int) -> list[tuple[Receipt, Ticket]]:
        made: list[tuple[Receipt, Ticket]] = []
        together.wait()
        for number in range(each):
            receipt = numbered(thread * each + number)
            made.append((receipt, signer.enlist(receipt)))
            if number % (thread + 2) == 0:
                signer.check(*made[-1])
        return made

    with ThreadPoolExecutor(threads) as pool:
        for made in pool.map(work, range(threads)):
            for receipt, ticket in made:
                signer.check(receipt, ticket)


# -- of completions


@pytest.fixture
def exchange(tmp_path: Path, database: str) -> Exchange:
    return Exchange(tmp_path, database=database)


def completed(exchange: Exchange) -> tuple[Outcome, Callable[[], Outcome]]:
    """A completion, and how to repeat it."""
    client, miner = exchange.client(), exchange.miner()
    job = exchange.submit(client)
    exchange.accept(miner, job)
    return exchange.complete(miner, job), lambda: exchange.complete(miner, job)


def test_a_repeat_is_signed_as_the_first_time(exchange: Exchange) -> None:
    first, repeat = completed(exchange)
    second, _ = completed(exchange)
    signed = exchange.signer.check(first.receipt, first.ticket)
    assert signed.proof is not None
    assert exchange.signer.check(second.receipt, second.ticket).proof is not None
    again = repeat()
    assert (again.receipt, again.ticket.signed()) == (first.receipt, signed)
    exchange.close()


def test_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "REMEMBERED", 2)
    signer = TestSigner()
    tickets = [signer.enlist(numbered(number)) for number in range(3)]
    again = [signer.again(numbered(number)) for number in range(3)]
    assert again[1:] == tickets[1:]
    assert signer.check(numbered(0), again[0]).proof is None
    # What was undone and then done otherwise is not taken for the same.
    other = replace(numbered(2), completed_at=1.0)
    assert signer.check(other, signer.again(other)).proof is None


def test_a_late_repeat_is_signed_alone_from_what_is_stored(exchange: Exchange) -> None:
    first, repeat = completed(exchange)
    second, _ = completed(exchange)
    assert exchange.signer.check(first.receipt, first.ticket).proof is not None
    assert exchange.signer.check(second.receipt, second.ticket).proof is not None
    exchange.signer._lately.clear()
    for _ in range(2):
        again = repeat()
        assert again.receipt == first.receipt
        signed = exchange.signer.check(first.receipt, again.ticket)
        assert (signed.signature, signed.proof) == (exchange.signer.sign(first.receipt), None)
    assert exchange.rows("SELECT DISTINCT signature FROM attempts") == [("",)]
    exchange.close()


def test_a_repeat_is_signed_with_the_key_that_there_is(exchange: Exchange) -> None:
    first, repeat = completed(exchange)
    old = exchange.signer.check(first.receipt, first.ticket).key_id
    exchange.signer = TestSigner()
    again = repeat()
    assert exchange.signer.check(first.receipt, again.ticket).key_id != old
    exchange.close()


def test_what_was_enlisted_by_an_operation_that_failed_harms_nobody(exchange: Exchange) -> None:
    def fail(receipt: Receipt) -> None:
        exchange.signer.enlist(receipt)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exchange.do(lambda tx, now: fail(ONE))
    first, _ = completed(exchange)
    signed = exchange.signer.check(first.receipt, first.ticket)
    assert signed.proof is not None
    assert (signed.proof.index, signed.proof.size) == (1, 2)
    exchange.close()
