"""The verdict of the crash campaign can be a bad one: each promise is broken once, by hand."""

from typing import Any

import msgspec
import pytest
from tests.crash.checks import check
from tests.crash.facts import AttemptFact, Facts, JobFact, PayoutFact, TransferFact
from tests.crash.history import Op

DIGEST = "ab" * 32
HASH = f"sha256:{DIGEST}"

JOB = JobFact("job_1", "client_1", 50, "completed", "miner_1", 2, HASH, "key-1", 0)
LAPSED = AttemptFact("job_1", 1, "miner_2", "lease_1", 1.0, 3.0, "lapsed", None)
DONE = AttemptFact("job_1", 2, "miner_1", "lease_2", 3.0, 5.0, "completed", DIGEST)
CREDIT = TransferFact("credit", "issued operator", "client client_1", 90, None, None, "key-2")
HOLD = TransferFact("hold", "client client_1", "escrow client_1", 50, "job_1", None, "")
PAYMENT = TransferFact("payment", "escrow client_1", "miner miner_1", 50, "job_1", None, "")
RESERVED = TransferFact("payout", "miner miner_1", "payouts operator", 20, None, "payout_1", "")
PAYOUT = PayoutFact("payout_1", "miner_1", 20, "approved", "")
GOOD = Facts(
    jobs=[JOB],
    attempts=[LAPSED, DONE],
    transfers=[CREDIT, HOLD, PAYMENT, RESERVED],
    payouts=[PAYOUT],
    balances={
        "issued operator": -90, "client client_1": 40, "escrow client_1": 0, "miner miner_1": 30, "payouts operator": 20
    },
)  # fmt: skip


def op(call: str, at: float, party: str, about: dict[str, Any], said: dict[str, Any], told: Any = "ok") -> Op:
    return Op(f"{party}-{at}", party, call, about, at, at + 0.1, told, said)


SUBMIT = op("submit", 0.0, "client_1", {"key": "key-1", "size": 1}, {"jobs": ["job_1"]})
FIRST = op("accept", 1.0, "miner_2", {"job": "job_1"}, {"token": "lease_1"})
SECOND = op("accept", 3.0, "miner_1", {"job": "job_1"}, {"token": "lease_2"})
UPLOAD = op("upload", 3.5, "miner_1", {"job": "job_1", "token": "lease_2", "digest": DIGEST}, {})
COMPLETE = op("complete", 4.0, "miner_1", {"job": "job_1", "token": "lease_2", "hash": HASH}, {"earned": 50})
FENCED = op("complete", 4.5, "miner_2", {"job": "job_1", "token": "lease_1", "hash": HASH}, {"status": 409}, "refused")
GIVE = op("credit", 0.0, "operator", {"key": "key-2", "client": "client_1", "amount": 90}, {})
ASK = op("payout", 6.0, "miner_1", {"key": "key-3", "amount": 20}, {"payout": "payout_1"})
APPROVE = op("approve", 7.0, "operator", {"payout": "payout_1", "reference": "x"}, {})
HISTORY = [SUBMIT, FIRST, SECOND, UPLOAD, COMPLETE, FENCED, GIVE, ASK, APPROVE]


def but(record: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(record, **changes)


def facts(**changes: Any) -> Facts:
    return msgspec.structs.replace(GOOD, **changes)


CANCELLED = but(JOB, state="cancelled", miner=None, completed_attempt=None, result_hash=None)
REFUND = TransferFact("refund", "escrow client_1", "client client_1", 50, "job_1", None, "")


def test_a_history_that_is_true_breaks_no_promise() -> None:
    assert check(HISTORY, GOOD) == []


def test_what_nobody_was_told_of_may_have_happened_or_not() -> None:
    unknown = [but(one, told="unknown", said={}, answered_at=None) if one.told == "ok" else one for one in HISTORY]
    assert check(unknown, GOOD) == []
    nothing = [one for one in unknown if one.call in ("submit", "credit")]
    assert check(nothing, Facts([], [], [], [], {})) == []


@pytest.mark.parametrize(
    ("promise", "history", "found"),
    [
        ("every job ends in one outcome", [], facts(jobs=[but(JOB, state="assigned")])),
        ("paid or given back exactly once", [], facts(transfers=[CREDIT, HOLD, PAYMENT, PAYMENT, RESERVED])),
        ("paid or given back exactly once", [], facts(transfers=[CREDIT, HOLD, but(PAYMENT, amount=49), RESERVED])),
        ("paid or given back exactly once", [], facts(transfers=[CREDIT, HOLD, RESERVED])),
        ("paid or given back exactly once", [], facts(transfers=[CREDIT, HOLD, PAYMENT, REFUND, RESERVED])),
        ("paid or given back exactly once", [], facts(transfers=[CREDIT, HOLD, but(PAYMENT, credit="miner miner_2")])),
        ("completed at most once", [], facts(attempts=[but(LAPSED, outcome="completed"), DONE])),
        ("no acknowledged submit", [], facts(jobs=[])),
        ("no acknowledged submit", [but(SUBMIT, said={"jobs": ["job_2"]})], GOOD),
        ("the same idempotency key", [but(SUBMIT, op="again", said={"jobs": ["job_2"]})], GOOD),
        ("no idempotency key acts twice", [], facts(jobs=[JOB, but(JOB, id="job_2")])),
        ("no job comes from nowhere", [], facts(jobs=[JOB, but(JOB, id="job_2", key="key-9")])),
        ("what was refused did not happen", [but(SUBMIT, told="refused")], GOOD),
        ("no acknowledged cancel", [op("cancel", 2.0, "client_1", {"job": "job_1"}, {})], GOOD),
        ("no acknowledged accept", [], facts(attempts=[DONE])),
        ("no acknowledged accept", [but(SECOND, party="miner_3")], GOOD),
        ("no acknowledged fail", [op("fail", 3.6, "miner_1", {"job": "job_1", "token": "lease_2"}, {})], GOOD),
        ("no acknowledged release", [op("release", 3.6, "miner_1", {"job": "job_1", "token": "lease_2"}, {})], GOOD),
        ("no acknowledged completion", [], facts(jobs=[CANCELLED], transfers=[CREDIT, HOLD, REFUND])),
        ("no acknowledged completion", [but(COMPLETE, said={"earned": 49})], GOOD),
        ("no acknowledged completion", [but(COMPLETE, party="miner_2")], GOOD),
        ("by the miner that delivered it", [], facts(jobs=[but(JOB, result_hash="sha256:cd")])),
        ("no acknowledged upload", [], facts(attempts=[LAPSED, but(DONE, digest=None)])),
        ("no acknowledged upload", [], facts(attempts=[LAPSED, but(DONE, digest="cd" * 32)])),
        ("all accounts together hold 0", [], facts(balances=GOOD.balances | {"fees operator": 1})),
        ("the sum of its postings", [], facts(balances=GOOD.balances | {"client client_1": 41})),
        ("the ledger check finds no fault", [], facts(ledger_faults=["job job_1: paid twice"])),
        ("every acknowledged credit", [], facts(transfers=[HOLD, PAYMENT, RESERVED])),
        ("no idempotency key acts twice", [], facts(transfers=[CREDIT, CREDIT, HOLD, PAYMENT, RESERVED])),
        ("no idempotency key acts twice", [], facts(payouts=[PAYOUT, but(PAYOUT, id="payout_2")])),
        ("no acknowledged payout", [], facts(payouts=[])),
        ("no acknowledged approve", [], facts(payouts=[but(PAYOUT, state="requested")])),
        ("no acknowledged pay", [but(APPROVE, call="pay")], facts(payouts=[but(PAYOUT, state="paid", reference="y")])),
        ("one miner at a time", [], facts(attempts=[but(LAPSED, ended_at=4.0), DONE])),
        ("one miner at a time", [], facts(attempts=[but(LAPSED, ended_at=None, outcome=None), DONE])),
        ("a write under an older lease", [but(FENCED, call="progress", told="ok")], GOOD),
    ],
)  # fmt: skip
def test_a_broken_promise_is_seen(promise: str, history: list[Op], found: Facts) -> None:
    """`history`: calls beside the good ones, or in the place of the one with the same number."""
    numbers = {one.op for one in history}
    broken = check([one for one in HISTORY if one.op not in numbers] + history, found)
    assert [one for one in broken if promise in one.promise], broken
    assert all(one.evidence for one in broken)


def test_a_completion_that_was_refused_cannot_have_happened() -> None:
    history = [but(one, told="refused", said={"status": 409}) if one is COMPLETE else one for one in HISTORY]
    assert [one.promise for one in check(history, GOOD)] == ["what was refused did not happen"]
