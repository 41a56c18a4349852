"""Jobs: stored whole, moved on only from where they were, and found by what they are."""

import itertools
from typing import Any

import msgspec
import pytest
from tests.store.scenes import NOW, client, job, lease, miner, moved

from pithead.core.board import key_of, kind_of
from pithead.core.jobs import FINISHED, HELD, Job, State
from pithead.exchange.ports import Details, Held, JobFilter, Settlement, Tx

#: Every field that a job gets after its submission.
AFTERWARDS: dict[str, Any] = {
    "attempts": 3, "failures": 2, "not_before": NOW + 1, "avoid_until": NOW + 2, "lease_token": "lease_x",
    "accepted_at": NOW + 3, "lease_expires_at": NOW + 4, "lease_limit_at": NOW + 5, "progress": 0.5,
    "progress_message": "half", "finished_at": NOW + 6, "completed_attempt": 2, "result_hash": "sha256:ab",
    "result_size": 2**40, "failure_kind": "error", "failure_reason": "no luck", "result_expired_at": NOW + 7,
}  # fmt: skip


def stored(tx: Tx, id: str = "job_1") -> Job:
    found = tx.job_by_id(id)
    assert found is not None
    return found


def test_a_job_comes_back_as_it_was_stored(tx: Tx) -> None:
    whole: dict[str, Any] = {
        "estimated_ms": 31_536_000_000, "price": 10**14, "rate": 2**62, "priority": -1000, "timeout": 0.1,
        "attempt_timeout": 0.2, "max_attempts": 100, "require_result": True, "model": "Grüße – 你好",
    }  # fmt: skip
    made = job(tx, client(tx), **whole)
    assert made.seq > 0
    assert stored(tx) == made
    assert made.require_result is True
    assert tx.job_by_id("job_2") is None


def test_the_input_is_kept_byte_for_byte(tx: Tx) -> None:
    body = b'  {"b":1,"a":[1.50,-0,1e3],"c":"\xc3\xa9"} '
    made = job(tx, client(tx), body=body)
    assert tx.job_work(made.seq) == (body, None)


def test_jobs_are_numbered_in_the_order_of_their_submission(tx: Tx) -> None:
    owner = client(tx)
    numbers = [job(tx, owner, f"job_{i}").seq for i in range(5)]
    assert numbers == sorted(set(numbers))


def test_every_field_that_changes_is_saved(tx: Tx) -> None:
    made = job(tx, client(tx))
    worker = miner(tx)
    after = msgspec.structs.replace(made, state=State.RUNNING, miner=worker.seq, avoid_miner=worker.seq, **AFTERWARDS)
    assert tx.save_job(made, after)
    assert stored(tx) == after
    changed = {name for name in Job.__struct_fields__ if getattr(made, name) != getattr(after, name)}
    fixed = {"seq", "id", "client", "model", "gpu_type", "gpu_count", "estimated_ms", "price", "rate", "priority", "timeout",
             "attempt_timeout", "max_attempts", "require_result", "created_at", "deadline"}  # fmt: skip
    assert changed | fixed == set(Job.__struct_fields__), "a field that no test has saved"


@pytest.mark.parametrize("other", [{"state": State.ASSIGNED}, {"attempts": 1}, {"state": State.RUNNING, "attempts": 2}])
def test_a_job_is_saved_only_where_it_still_is_what_it_was(tx: Tx, other: dict[str, Any]) -> None:
    """Of two that read it, the second to save changes nothing: a claim is one atomic step."""
    made = job(tx, client(tx))
    read_before = msgspec.structs.replace(made, **other)
    after = msgspec.structs.replace(made, state=State.CANCELLED)
    assert not tx.save_job(read_before, after)
    assert stored(tx) == made
    assert tx.save_job(made, after)
    assert not tx.save_job(made, msgspec.structs.replace(made, state=State.EXPIRED))
    assert stored(tx) == after


def test_a_state_that_there_is_not_is_refused(tx: Tx) -> None:
    made = job(tx, client(tx))
    with pytest.raises(Exception, match=r"(?i)check"):
        tx.save_job(made, msgspec.structs.replace(made, state="lost"))
    assert stored(tx) == made


# -- pages


@pytest.fixture
def filled(tx: Tx) -> list[Job]:
    """Three clients' jobs in every state and of two models, in the order of their submission."""
    owners = [client(tx, f"client_{i}") for i in range(3)]
    jobs = []
    for number in range(48):
        made = job(tx, owners[number % 3], f"job_{number}", model=("gpt2", "llama")[number // 3 % 2])
        jobs.append(moved(tx, made, list(State)[number // 6 % 8]))
    return jobs


def test_pages_of_jobs(tx: Tx, filled: list[Job]) -> None:
    for state, model, whose in itertools.product([None, *State], [None, "gpt2", "none"], [None, 0, 2]):
        owner = None if whose is None else tx.client_by_id(f"client_{whose}")
        wanted = [
            one
            for one in reversed(filled)
            if (state is None or one.state is state)
            and (model is None or one.model == model)
            and (owner is None or one.client == owner.seq)
        ]
        where = JobFilter(owner.seq if owner else None, state.value if state else None, model)
        assert tx.jobs_page(where, None, 100) == wanted
        # Page by page it is the same.
        paged: list[Job] = []
        while page := tx.jobs_page(where, paged[-1].seq if paged else None, 3):
            paged += page
        assert paged == wanted


def test_unfinished_jobs_are_counted_by_state(tx: Tx, filled: list[Job]) -> None:
    counted = tx.jobs_by_state()
    assert counted == {state.value: 6 for state in State if state not in FINISHED}
    assert {type(number) for number in counted.values()} == {int}


# -- who has a job, and what came of it


def test_what_a_miner_holds(tx: Tx) -> None:
    owner, one, other = client(tx), miner(tx), miner(tx, "miner_2")
    held = []
    for number, state in enumerate([*HELD, *FINISHED]):
        taken, _ = lease(tx, job(tx, owner, f"job_{number}"), one)
        after = moved(tx, taken, state)
        if state in HELD:
            held.append(after)
    job(tx, owner, "queued")
    lease(tx, job(tx, owner, "another's"), other)
    assert sorted(tx.held_jobs(one.seq), key=lambda j: j.seq) == held
    assert sorted(tx.held(one.seq), key=lambda h: h.job_id) == [Held(j.id, NOW + 120, NOW + 1000) for j in held]
    assert [other.job_id for other in tx.held(other.seq)] == ["another's"]
    assert (tx.held_count(one.seq), tx.held_count(other.seq)) == (len(held), 1)


def test_the_details_of_a_job(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx)
    queued, (taken, _) = job(tx, owner), lease(tx, job(tx, owner, "job_2"), worker)
    settled, attempt = lease(tx, job(tx, owner, "job_3"), worker)
    tx.settle(settled.seq, attempt.number, NOW, Settlement("receipt_3", "key", "signed", 5, b'{"tokens":9}'))
    done = moved(tx, settled, State.COMPLETED, completed_attempt=1)
    assert tx.job_details(queued) == Details(None, None, None)
    assert tx.job_details(taken) == Details("miner_1", "rig", None)
    assert tx.job_details(done) == Details("miner_1", "rig", b'{"tokens":9}')


def test_how_many_of_a_kind_stand_before_a_job(tx: Tx) -> None:
    owner = client(tx)
    stored = [job(tx, owner, f"job_{number}", priority=(0, 5, 0, -5)[number % 4]) for number in range(8)]
    job(tx, owner, "job_other", model="another")
    lease(tx, stored[0], miner(tx))
    before = {one.id: tx.queued_before(kind_of(one), key_of(one)) for one in stored[1:]}
    assert before == {
        "job_1": 0, "job_5": 1, "job_2": 2, "job_4": 3, "job_6": 4, "job_3": 5, "job_7": 6,
    }  # fmt: skip
