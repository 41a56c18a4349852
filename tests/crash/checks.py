"""Whether what the parties were told and what the database says can both be true. Pure: histories in, violations out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from tests.crash.facts import AttemptFact, Facts, JobFact, TransferFact
from tests.crash.history import Op

FINAL: Final = {"completed", "failed", "cancelled", "expired"}
#: Seconds by which two coordinators may read the database's clock differently.
SLACK: Final = 0.5
#: The note of the credit that a client begins with.
OPENING: Final = "opening credit"
#: The writes of a miner that carry its lease's token.
UNDER_LEASE: Final = {"accept", "progress", "upload", "complete", "fail", "release"}


class Violation(msgspec.Struct, frozen=True):
    """A promise that was broken, and the calls and facts that show it."""

    promise: str
    subject: str
    evidence: list[str]


def check(history: Sequence[Op], facts: Facts) -> list[Violation]:
    """Every promise that was broken."""
    return [
        *_outcomes(facts),
        *_submits(history, facts),
        *_answers(history, facts),
        *_completions(history, facts),
        *_uploads(history, facts),
        *_money(history, facts),
        *_payouts(history, facts),
        *_leases(history, facts),
    ]


def _show(*evidence: object) -> list[str]:
    return [repr(one) for one in evidence]


def _outcomes(facts: Facts) -> Iterator[Violation]:
    """Every job ended in one outcome, and its money went where that outcome says, once and in full."""
    postings: defaultdict[str, list[TransferFact]] = defaultdict(list)
    for transfer in facts.transfers:
        if transfer.job is not None:
            postings[transfer.job].append(transfer)
    completed = Counter(attempt.job for attempt in facts.attempts if attempt.outcome == "completed")
    for job in facts.jobs:
        if job.state not in FINAL:
            yield Violation("every job ends in one outcome", job.id, _show(job))
            continue
        client, escrow = f"client {job.client}", f"escrow {job.client}"
        ended = ("payment", escrow, f"miner {job.miner}") if job.state == "completed" else ("refund", escrow, client)
        wanted = [("hold", client, escrow, job.price), (*ended, job.price)]
        found = postings[job.id]
        if [(one.cause, one.debit, one.credit, one.amount) for one in found] != wanted:
            yield Violation("every job is paid or given back exactly once, in full", job.id, _show(job, *found))
        if completed[job.id] != (job.state == "completed"):
            yield Violation("a job is completed at most once", job.id, _show(job))


def _submits(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """Every acknowledged submit is there, every refused one is not, and none acted twice."""
    by_key: defaultdict[str, list[JobFact]] = defaultdict(list)
    for job in facts.jobs:
        by_key[job.key].append(job)
    known = {op.about["key"] for op in history if op.call == "submit"}
    told: dict[str, Op] = {}
    for op in history:
        if op.call != "submit":
            continue
        key = op.about["key"]
        stored = {job.number: job for job in by_key[key]}
        if op.told == "refused" and stored:
            yield Violation("what was refused did not happen", key, _show(op, *stored.values()))
        if op.told != "ok":
            continue
        ids = op.said["jobs"]
        if [stored[n].id if n in stored else None for n in range(len(ids))] != ids:
            yield Violation("no acknowledged submit is missing", key, _show(op, *stored.values()))
        if told.setdefault(key, op).said != op.said:
            yield Violation("the same idempotency key has the same answer", key, _show(told[key], op))
    for key, jobs in by_key.items():
        if len({job.number for job in jobs}) != len(jobs):
            yield Violation("no idempotency key acts twice", key, _show(*jobs))
        if key not in known:
            yield Violation("no job comes from nowhere", key, _show(*jobs))


def _answers(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """Acknowledged cancels, accepts, failures and releases stand."""
    jobs = {job.id: job for job in facts.jobs}
    leases = {attempt.token: attempt for attempt in facts.attempts}
    for op in history:
        if op.told != "ok":
            continue
        if op.call == "cancel":
            job = jobs.get(op.about["job"])
            if job is None or job.state != "cancelled":
                yield Violation("no acknowledged cancel is missing", op.about["job"], _show(op, job))
        elif op.call in ("accept", "fail", "release"):
            lease = leases.get(op.said["token"] if op.call == "accept" else op.about["token"])
            if (
                lease is None
                or (lease.job, lease.miner) != (op.about["job"], op.party)
                or (
                    op.call != "accept" and lease.outcome not in ("lapsed", {"fail": "failed"}.get(op.call, "released"))
                )
            ):
                yield Violation(f"no acknowledged {op.call} is missing", op.about["job"], _show(op, lease))


def _completions(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """A job was completed by the miner that was told so, with the hash that it gave, for the price."""
    jobs = {job.id: job for job in facts.jobs}
    delivered: defaultdict[str, list[Op]] = defaultdict(list)
    for op in history:
        if op.call == "complete":
            delivered[op.about["job"]].append(op)
    for job_id, ops in delivered.items():
        job = jobs.get(job_id)
        for op in ops:
            mine = job is not None and (job.state, job.miner, job.result_hash) == (
                "completed",
                op.party,
                op.about["hash"],
            )
            if op.told == "ok" and not (mine and job is not None and op.said["earned"] == job.price):
                yield Violation("no acknowledged completion is missing", job_id, _show(op, job))
    for job in facts.jobs:
        if job.state != "completed":
            continue
        by_holder = [op for op in delivered[job.id] if (op.party, op.about["hash"]) == (job.miner, job.result_hash)]
        if not by_holder:
            yield Violation("a job is completed by the miner that delivered it", job.id, _show(job, *delivered[job.id]))
        elif all(op.told == "refused" for op in by_holder):
            yield Violation("what was refused did not happen", job.id, _show(job, *by_holder))


def _uploads(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """The bytes of an attempt are those of the last acknowledged upload, or of one that nobody was told the end of."""
    leases = {attempt.token: attempt for attempt in facts.attempts}
    by_token: defaultdict[str, list[Op]] = defaultdict(list)
    for op in history:
        if op.call == "upload":
            by_token[op.about["token"]].append(op)
    for token, ops in by_token.items():
        acknowledged = [op for op in ops if op.told == "ok"]
        if not acknowledged:
            continue
        last = max(acknowledged, key=lambda op: op.answered_at or 0.0)
        possible = {last.about["digest"]}
        possible |= {op.about["digest"] for op in ops if op.told == "unknown" or (op.answered_at or 0) > last.asked_at}
        lease = leases.get(token)
        if lease is None or lease.digest not in possible:
            yield Violation("no acknowledged upload is missing", last.about["job"], _show(last, lease))


def _money(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """All accounts together hold 0, each what its postings say; every credit was given once."""
    if sum(facts.balances.values()):
        yield Violation("all accounts together hold 0", "ledger", _show(facts.balances))
    sums: Counter[str] = Counter()
    for transfer in facts.transfers:
        sums[transfer.debit] -= transfer.amount
        sums[transfer.credit] += transfer.amount
    for account, balance in facts.balances.items():
        if balance != sums[account]:
            yield Violation("a balance is the sum of its postings", account, _show(balance, sums[account]))
    for fault in facts.ledger_faults:
        yield Violation("the ledger check finds no fault", "ledger", [fault])
    given = Counter(
        (one.note, one.credit, one.amount) for one in facts.transfers if one.cause == "credit" and one.note != OPENING
    )
    asked: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    for op in history:
        if op.call == "credit":
            what = (op.about["key"], f"client {op.about['client']}", op.about["amount"])
            asked[what].add(op.told)
            if op.told == "ok" and given[what] != 1:
                yield Violation("every acknowledged credit is given once", op.about["key"], _show(op, given[what]))
    for what, times in given.items():
        if times != 1 or not asked[what] - {"refused"}:
            yield Violation("no idempotency key acts twice", what[0], _show(what, times))


def _payouts(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """Every acknowledged payout is there once; what was decided of it stands."""
    stored = {payout.id: payout for payout in facts.payouts}
    #: The parties ask for amounts that they ask for only once: so a payout is known by its amount.
    number = Counter((payout.miner, payout.amount) for payout in facts.payouts)
    told: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for op in history:
        if op.call == "payout":
            told[op.party, op.about["amount"]].add(op.told)
    decided = {"approve": {"approved", "paid"}, "pay": {"paid"}, "reject": {"rejected"}}
    for op in history:
        if op.call == "payout":
            which = op.party, op.about["amount"]
            times = number[which]
            if times > 1 or (times and told[which] == {"refused"}):
                yield Violation("no idempotency key acts twice", op.about["key"], _show(op, times))
            if op.told == "ok" and op.said["payout"] not in stored:
                yield Violation("no acknowledged payout is missing", op.said["payout"], _show(op))
        elif op.call in decided and op.told == "ok":
            payout = stored.get(op.about["payout"])
            wrong = payout is None or payout.state not in decided[op.call]
            if wrong or (payout is not None and op.call == "pay" and payout.reference != op.about["reference"]):
                yield Violation(f"no acknowledged {op.call} is missing", op.about["payout"], _show(op, payout))


def _leases(history: Sequence[Op], facts: Facts) -> Iterator[Violation]:
    """No two miners held a job at a time, and no write under an older lease was taken after one under a newer lease."""
    by_job: defaultdict[str, list[AttemptFact]] = defaultdict(list)
    for attempt in facts.attempts:
        by_job[attempt.job].append(attempt)
    for job_id, attempts in by_job.items():
        for earlier, later in pairwise(attempts):
            if earlier.ended_at is None or earlier.ended_at > later.accepted_at + SLACK:
                yield Violation("one miner at a time holds a job", job_id, _show(earlier, later))
    numbers = {attempt.token: attempt.number for attempt in facts.attempts}
    writes: defaultdict[str, list[tuple[int, Op]]] = defaultdict(list)
    for op in history:
        if op.call in UNDER_LEASE and op.told == "ok":
            token = op.said["token"] if op.call == "accept" else op.about["token"]
            if token in numbers:
                writes[op.about["job"]].append((numbers[token], op))
    for job_id, done in writes.items():
        for number, op in done:
            for newer, before in done:
                if newer > number and before.answered_at is not None and before.answered_at < op.asked_at:
                    yield Violation("a write under an older lease is refused", job_id, _show(before, op))
