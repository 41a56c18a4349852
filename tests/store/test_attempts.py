"""Attempts: whose is the newest, how each ends once, and what is kept with it."""

import msgspec
import pytest
from tests.store.scenes import NOW, client, job, lease, miner, moved

from pithead.core.jobs import Attempt, Job, State
from pithead.core.miners import Miner
from pithead.exchange.ports import Settlement, Tx

SETTLED = Settlement("receipt_1", "key_1", "signature", 10**14, b'{"tokens":9}')


def taken(tx: Tx) -> tuple[Job, Attempt, Miner]:
    worker = miner(tx)
    held, attempt = lease(tx, job(tx, client(tx)), worker)
    return held, attempt, worker


def newest(tx: Tx, attempt: Attempt) -> Attempt:
    found = tx.newest_attempt(attempt.job, attempt.miner, None)
    assert found is not None
    return found


def test_an_attempt_comes_back_as_it_was_stored(tx: Tx) -> None:
    _, attempt, _ = taken(tx)
    assert newest(tx, attempt) == attempt


def test_each_finds_its_own_newest_attempt_or_the_one_that_it_names(tx: Tx) -> None:
    one, other, current = miner(tx), miner(tx, "miner_2"), job(tx, client(tx))
    given = []
    for worker in (one, other, one, other):
        held, attempt = lease(tx, current, worker)
        tx.end_attempt(held.seq, attempt.number, NOW, "lapsed")
        given.append(msgspec.structs.replace(attempt, ended_at=NOW, outcome="lapsed"))
        current = moved(tx, held, State.QUEUED)
    seq = given[0].job
    assert tx.newest_attempt(seq, one.seq, None) == given[2]
    assert tx.newest_attempt(seq, other.seq, None) == given[3]
    assert tx.newest_attempt(seq, one.seq, given[0].token) == given[0]
    # Another's token opens nothing, nor does one of another job.
    assert tx.newest_attempt(seq, one.seq, given[1].token) is None
    assert tx.newest_attempt(seq + 1, one.seq, given[0].token) is None
    assert tx.newest_attempt(seq + 1, one.seq, None) is None


def test_an_attempt_ends_once(tx: Tx) -> None:
    held, attempt, _ = taken(tx)
    tx.end_attempt(held.seq, 1, NOW + 1, "failed", "error: no luck")
    tx.end_attempt(held.seq, 1, NOW + 2, "lapsed")
    ended = newest(tx, attempt)
    assert (ended.outcome, ended.ended_at) == ("failed", NOW + 1)


def test_two_attempts_of_one_number_cannot_be(tx: Tx) -> None:
    _, attempt, _ = taken(tx)
    with pytest.raises(Exception, match=r"(?i)unique"):
        tx.add_attempt(msgspec.structs.replace(attempt, token="lease_other"))


def test_what_arrived_last_is_the_result(tx: Tx) -> None:
    held, attempt, _ = taken(tx)
    assert tx.result_blob(held.seq, 1) is None
    for digest, size in (("ab", 1), ("cd", 2**40)):
        tx.set_upload(held.seq, 1, digest, size, "blob-" + digest)
    found = newest(tx, attempt)
    assert (found.upload_digest, found.upload_size, found.blob) == ("cd", 2**40, "blob-cd")
    assert tx.result_blob(held.seq, 1) == "blob-cd"
    assert tx.result_blob(held.seq, 2) is None


@pytest.mark.parametrize("before", [None, "lapsed"])
def test_an_attempt_is_settled_also_after_its_lapse(tx: Tx, before: str | None) -> None:
    held, attempt, _ = taken(tx)
    if before:
        tx.end_attempt(held.seq, 1, NOW + 1, before)
    assert tx.settlement(held.seq, 1) is None
    tx.settle(held.seq, 1, NOW + 2, SETTLED)
    assert tx.settlement(held.seq, 1) == SETTLED
    found = newest(tx, attempt)
    assert (found.outcome, found.ended_at) == ("completed", NOW + 2)


@pytest.mark.parametrize("before", ["failed", "released", "cancelled", "expired"])
def test_an_attempt_that_ended_otherwise_is_not_settled(tx: Tx, before: str) -> None:
    held, attempt, _ = taken(tx)
    tx.end_attempt(held.seq, 1, NOW + 1, before)
    tx.settle(held.seq, 1, NOW + 2, SETTLED)
    assert tx.settlement(held.seq, 1) is None
    assert newest(tx, attempt).outcome == before


def test_an_attempt_is_settled_once(tx: Tx) -> None:
    held, _, _ = taken(tx)
    tx.settle(held.seq, 1, NOW, SETTLED)
    tx.settle(held.seq, 1, NOW, msgspec.structs.replace(SETTLED, receipt_id="receipt_2"))
    assert tx.settlement(held.seq, 1) == SETTLED
