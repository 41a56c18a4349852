"""Clients, keys, enrolment tokens, idempotency, the audit log."""

import pytest
from tests.store.conftest import Store
from tests.store.scenes import NOW, client, miner

from pithead.exchange.ports import AuditRecord, Client, Kept, Key, Tx


def key(name: str, owner: str = "client_1", ends: float | None = None) -> Key:
    return Key(name.encode() * 8, "client", owner, NOW, ends)


def test_a_client_by_id_and_by_number(tx: Tx) -> None:
    made = client(tx)
    assert made == Client(made.seq, "client_1", "lab", NOW)
    assert tx.client_by_id("client_1") == made
    assert tx.client_by_seq(made.seq) == made
    assert (tx.client_by_id("client_2"), tx.client_by_seq(made.seq + 1)) == (None, None)


def test_pages_of_clients(tx: Tx) -> None:
    made = [client(tx, f"client_{i}") for i in range(5)]
    assert tx.clients_page(None, 10) == made[::-1]
    assert tx.clients_page(None, 2) == [made[4], made[3]]
    assert tx.clients_page(made[3].seq, 2) == [made[2], made[1]]
    assert tx.clients_page(made[0].seq, 2) == []


@pytest.mark.parametrize("ends", [None, NOW + 5])
def test_a_key_is_found_by_its_digest_only(tx: Tx, ends: float | None) -> None:
    tx.add_key(key("a", ends=ends))
    assert tx.key(b"a" * 8) == key("a", ends=ends)
    assert tx.key(b"A" * 8) is None


def test_ending_keys_moves_no_end_back(tx: Tx) -> None:
    for one in (key("a"), key("b", ends=NOW + 5), key("c", ends=NOW + 50), key("d", "client_2")):
        tx.add_key(one)
    assert tx.end_keys("client_1", NOW + 10) == 2
    found = [tx.key(name * 8) for name in (b"a", b"b", b"c", b"d")]
    assert [one and one.expires_at for one in found] == [NOW + 10, NOW + 5, NOW + 10, None]
    assert tx.end_keys("client_1", NOW + 10) == 0
    assert tx.end_keys("client_3", NOW) == 0


def test_the_same_key_again_has_a_new_end(tx: Tx) -> None:
    """As when an operator's key from the settings was rotated away and is set once more."""
    tx.add_key(key("a", ends=NOW))
    tx.add_key(key("a"))
    found = tx.key(b"a" * 8)
    assert found is not None
    assert found.expires_at is None


def test_whether_the_operator_has_a_key(tx: Tx) -> None:
    has = [tx.has_operator_key()]
    tx.add_key(key("client"))
    has.append(tx.has_operator_key())
    tx.add_key(Key(b"ends", "operator", "operator", NOW, NOW + 5))
    has.append(tx.has_operator_key())
    tx.add_key(Key(b"stays", "operator", "operator", NOW, None))
    has.append(tx.has_operator_key())
    assert has == [False, False, False, True]


def test_an_enrolment_token_has_its_uses_and_its_end(tx: Tx) -> None:
    tx.add_enrollment_token(b"token", 2, NOW + 10)
    assert not tx.use_enrollment_token(b"other", NOW)
    assert not tx.use_enrollment_token(b"token", NOW + 10)
    assert [tx.use_enrollment_token(b"token", NOW + 9) for _ in range(3)] == [True, True, False]


def test_an_answer_is_kept_for_its_owner(tx: Tx) -> None:
    assert tx.claim_answer("client_1", "order", NOW, b"\x00fingerprint") is None
    tx.keep_answer("client_1", "order", 201, b'{"job_id":"job_1"}')
    for fingerprint in (b"\x00fingerprint", b"another"):
        kept = tx.claim_answer("client_1", "order", NOW + 5, fingerprint)
        assert kept == Kept(b"\x00fingerprint", 201, b'{"job_id":"job_1"}')
    assert tx.claim_answer("client_2", "order", NOW, b"") is None
    assert tx.claim_answer("client_1", "other", NOW, b"") is None


def test_a_claim_goes_with_its_transaction(store: Store) -> None:
    def fails(tx: Tx) -> None:
        assert tx.claim_answer("client_1", "order", NOW, b"") is None
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            store.do(fails)


def test_old_answers_and_notices_are_forgotten(tx: Tx) -> None:
    worker = miner(tx)
    for at in (NOW, NOW + 1, NOW + 2):
        tx.claim_answer("client_1", f"order {at}", at, b"")
        tx.add_notice(worker.seq, f"job {at}", "lost", at)
    tx.prune(notices_before=NOW + 1)
    assert tx.forget_answers(NOW + 2, 1) == 1
    assert tx.forget_answers(NOW + 2, 5) == 1
    assert tx.forget_answers(NOW + 2, 5) == 0
    assert [notice.job_id for notice in tx.notices(worker.seq)] == [f"job {at}" for at in (NOW + 1, NOW + 2)]
    free = [tx.claim_answer("client_1", f"order {at}", NOW + 3, b"") is None for at in (NOW, NOW + 1, NOW + 2)]
    assert free == [True, True, False]


def test_the_audit_log_from_its_end(tx: Tx) -> None:
    for number in range(5):
        tx.audit(NOW + number, "operator", "act", f"it {number}", "so")
    whole = tx.audit_page(None, 10)
    assert [record.subject for record in whole] == [f"it {n}" for n in (4, 3, 2, 1, 0)]
    assert whole[0] == AuditRecord(whole[0].seq, NOW + 4, "operator", "act", "it 4", "so")
    assert tx.audit_page(whole[1].seq, 2) == whole[2:4]
