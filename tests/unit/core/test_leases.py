"""Leases: who may act on a job, what each end of an attempt leaves, and how long a job then rests."""

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from tests.unit.core.examples import NOW, POLICY, held, job

from pithead.core.errors import Conflict, Fenced, JobFinished, JobTaken, NotHolder, Refusal
from pithead.core.jobs import FINISHED, HELD, Attempt, Event, Job, State
from pithead.core.leases import (
    FINAL_FAILURES,
    Policy,
    Standing,
    after_failure,
    back_off,
    check_fence,
    completed,
    end_attempt,
    lease_end,
    released,
    standing,
    take,
)

seconds = st.floats(0, 1e6, allow_nan=False)

#: What a lease puts on a job, and its end takes off again.
OF_A_LEASE = ("miner", "lease_token", "lease_expires_at", "lease_limit_at", "progress")


def unchanged(before: Job, after: Job, *but: str) -> None:
    """The two are the same in every field but these, and in those of a lease."""
    changed = {name for name in Job.__struct_fields__ if getattr(before, name) != getattr(after, name)}
    assert changed <= {"state", "progress_message", *OF_A_LEASE, *but}


# -- taking


def test_taking_gives_a_lease_and_an_attempt() -> None:
    taken, attempt = take(job(attempts=2, progress_message="old"), 200, "lease_3", NOW, POLICY)
    unchanged(job(), taken, "attempts", "accepted_at")
    assert (taken.state, taken.attempts, taken.miner, taken.lease_token) == (State.ASSIGNED, 3, 200, "lease_3")
    assert (taken.accepted_at, taken.lease_expires_at, taken.lease_limit_at) == (NOW, NOW + 120, NOW + 1000)
    assert (taken.progress, taken.progress_message) == (None, "")
    assert attempt == Attempt(7, 3, 200, "lease_3", NOW)
    assert attempt.outcome is None


@pytest.mark.parametrize("state", HELD)
def test_a_held_job_is_not_taken(state: State) -> None:
    with pytest.raises(JobTaken):
        take(held(state)[0], 201, "lease_2", NOW, POLICY)


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_job_is_not_taken(state: State) -> None:
    with pytest.raises(JobFinished):
        take(job(state=state), 201, "lease_2", NOW, POLICY)


@given(
    now=seconds,
    left=st.floats(0.001, 1e6),
    attempt_timeout=st.none() | st.floats(0.001, 1e6),
    ttl=st.floats(0.001, 1e6),
)
def test_a_lease_runs_beyond_neither_the_job_nor_the_attempt(
    now: float, left: float, attempt_timeout: float | None, ttl: float
) -> None:
    deadline = now + left
    one = job(deadline=deadline, attempt_timeout=attempt_timeout)
    taken, _ = take(one, 200, "lease_1", now, Policy(lease_ttl=ttl))
    assert taken.lease_limit_at is not None
    assert taken.lease_expires_at is not None
    bounds = [deadline] if attempt_timeout is None else [deadline, now + attempt_timeout]
    assert taken.lease_limit_at == min(bounds)
    assert taken.lease_expires_at == min(now + ttl, *bounds)


@given(now=seconds, ttl=seconds, limit=seconds)
def test_a_renewal_ends_at_its_limit(now: float, ttl: float, limit: float) -> None:
    end = lease_end(now, ttl, limit)
    assert end in (now + ttl, limit)
    assert end <= limit
    assert end <= now + ttl


# -- standing


def attempt(number: int, outcome: str | None = None, miner: int = 200) -> Attempt:
    return Attempt(7, number, miner, f"lease_{number}", NOW, outcome=outcome)


#: The job's state and its newest attempt; the number and outcome of the caller's own; then what it is to the job without
#: a token, and with that attempt's token.
STANDINGS: list[tuple[State, int, int, str | None, Standing | type[Refusal], Standing | type[Refusal]]] = [
    *((state, 1, 1, None, Standing.HOLDS, Standing.HOLDS) for state in HELD),
    # Its lease lapsed, and nobody has taken the job since.
    (State.QUEUED, 1, 1, "lapsed", Standing.LATE, Standing.LATE),
    # Its lease lapsed, another miner took the job, and lost it too: without a token it is the late one all the same.
    (State.QUEUED, 2, 1, "lapsed", Standing.LATE, Fenced),
    # Another one has it.
    *((state, 2, 1, "lapsed", JobTaken, Fenced) for state in HELD),
    # The job is over: by another's hand, or by anybody's.
    *((state, 1, 1, "lapsed", JobFinished, JobFinished) for state in FINISHED),
    *((state, 2, 1, "lapsed", JobFinished, Fenced) for state in FINISHED),
    *((state, 1, 1, str(state), JobFinished, JobFinished) for state in (State.CANCELLED, State.EXPIRED)),
    # Its own word ended the attempt: a repeat is answered alike, whatever became of the job since.
    *((state, 1, 1, "failed", Standing.SETTLED, Standing.SETTLED) for state in State),
    *((state, 2, 1, "failed", Standing.SETTLED, Standing.SETTLED) for state in State),
    *((state, 2, 1, "released", Standing.SETTLED, Standing.SETTLED) for state in State),
    (State.COMPLETED, 1, 1, "completed", Standing.SETTLED, Standing.SETTLED),
    (State.COMPLETED, 2, 1, "completed", Standing.SETTLED, Standing.SETTLED),
]


@pytest.mark.parametrize(("state", "newest", "number", "outcome", "bare", "fenced"), STANDINGS)
def test_what_a_miner_is_to_a_job(
    state: State,
    newest: int,
    number: int,
    outcome: str | None,
    bare: Standing | type[Refusal],
    fenced: Standing | type[Refusal],
) -> None:
    for token, wanted in ((None, bare), (f"lease_{number}", fenced)):
        one = job(state=state, attempts=newest)
        if isinstance(wanted, Standing):
            assert standing(one, attempt(number, outcome), token) is wanted
        else:
            with pytest.raises(wanted) as refused:
                standing(one, attempt(number, outcome), token)
            assert type(refused.value) is wanted


@pytest.mark.parametrize("token", [None, "lease_unknown"])
@pytest.mark.parametrize("state", State)
def test_one_who_never_had_it_is_nobody(state: State, token: str | None) -> None:
    with pytest.raises(JobFinished if state in FINISHED else NotHolder):
        standing(job(state=state, attempts=1), None, token)


@given(
    state=st.sampled_from(sorted(State)),
    newest=st.integers(1, 5),
    number=st.integers(1, 5),
    outcome=st.sampled_from([None, "lapsed", "cancelled", "expired"]),
)
def test_an_older_lease_s_token_opens_nothing(state: State, newest: int, number: int, outcome: str | None) -> None:
    """Whatever the state: once a later lease exists, only an attempt that its own miner ended is still answered."""
    if number >= newest:
        return
    with pytest.raises(Fenced):
        standing(job(state=state, attempts=newest), attempt(number, outcome), f"lease_{number}")


def test_a_fence_is_the_newest_lease() -> None:
    one = job(attempts=2)
    check_fence(one, attempt(2, "lapsed"))
    with pytest.raises(Fenced):
        check_fence(one, attempt(1, "lapsed"))
    with pytest.raises(NotHolder):
        check_fence(one, None)


# -- back-off


def test_back_off_by_example() -> None:
    assert [back_off(failures, POLICY) for failures in range(10)] == [0, 0, 5, 10, 20, 40, 80, 160, 300, 300]


@given(failures=st.integers(0, 10_000), base=st.just(0.0) | st.floats(0.001, 1e6), cap=st.floats(0, 1e6))
def test_back_off_by_its_formula(failures: int, base: float, cap: float) -> None:
    policy = Policy(retry_base=base, retry_cap=cap)
    wait, more = back_off(failures, policy), back_off(failures + 1, policy)
    assert 0 <= wait <= more <= cap
    if failures < 2:
        assert wait == 0
    elif more < cap:
        assert more == 2 * wait
    assert isinstance(wait, float)


# -- the ends of an attempt


@pytest.mark.parametrize("state", HELD)
@pytest.mark.parametrize(
    ("event", "after"),
    [(Event.REQUEUE, State.QUEUED), (Event.FAIL, State.FAILED), (Event.CANCEL, State.CANCELLED), (Event.EXPIRE, State.EXPIRED)],
)  # fmt: skip
def test_nothing_of_a_lease_outlives_it(state: State, event: Event, after: State) -> None:
    before = msgspec.structs.replace(held(state)[0], progress=0.5, progress_message="half")
    ended = end_attempt(before, event, NOW + 5)
    unchanged(before, ended, "finished_at")
    assert ended.state is after
    assert [getattr(ended, name) for name in OF_A_LEASE] == [None] * len(OF_A_LEASE)
    assert ended.progress_message == ""
    assert ended.finished_at == (None if after is State.QUEUED else NOW + 5)


@pytest.mark.parametrize("state", set(State) - HELD)
def test_without_an_attempt_there_is_none_to_fail(state: State) -> None:
    with pytest.raises(Conflict):
        after_failure(job(state=state), "error", "", NOW, POLICY)


@given(
    failures=st.integers(0, 6),
    max_attempts=st.integers(1, 7),
    kind=st.sampled_from(["error", "lapsed", "timeout", *sorted(FINAL_FAILURES)]),
    state=st.sampled_from(sorted(HELD)),
)
def test_after_a_failure(failures: int, max_attempts: int, kind: str, state: State) -> None:
    if failures >= max_attempts:
        return
    before, _ = held(state, failures=failures, max_attempts=max_attempts)
    after = after_failure(before, kind, "no luck", NOW + 1, POLICY)
    assert after.failures == failures + 1
    if kind in FINAL_FAILURES or failures + 1 == max_attempts:
        unchanged(before, after, "failures", "finished_at", "failure_kind", "failure_reason")
        assert (after.state, after.finished_at) == (State.FAILED, NOW + 1)
        assert (after.failure_kind, after.failure_reason) == (kind, "no luck")
    else:
        unchanged(before, after, "failures", "not_before", "avoid_miner", "avoid_until")
        assert (after.state, after.failure_kind) == (State.QUEUED, None)
        assert after.not_before == NOW + 1 + back_off(failures + 1, POLICY)
        # Back to anybody but the one where it failed.
        assert (after.avoid_miner, after.avoid_until) == (200, NOW + 61)


@pytest.mark.parametrize("state", HELD)
def test_handing_back_counts_nothing(state: State) -> None:
    before, _ = held(state, failures=1)
    after = released(before, NOW + 1, POLICY)
    unchanged(before, after, "avoid_miner", "avoid_until")
    assert (after.state, after.failures, after.not_before) == (State.QUEUED, 1, 0.0)
    assert (after.avoid_miner, after.avoid_until) == (200, NOW + 61)


@pytest.mark.parametrize("state", [*HELD, State.QUEUED])
def test_completing_names_who_did_it(state: State) -> None:
    """Also late, from the queue: the attempt says who it was and when it began, not the job."""
    lease: dict[str, Any] = {"attempts": 3, "state": state}
    before = msgspec.structs.replace(held()[0], **lease)
    late = Attempt(7, 2, 201, "lease_2", NOW - 50, outcome="lapsed")
    done = completed(before, late, "sha256:ab", 5, NOW + 10)
    unchanged(before, done, "accepted_at", "finished_at", "completed_attempt", "result_hash", "result_size")
    assert done.state is State.COMPLETED
    assert (done.miner, done.completed_attempt, done.accepted_at, done.finished_at) == (201, 2, NOW - 50, NOW + 10)
    assert (done.result_hash, done.result_size) == ("sha256:ab", 5)
    assert (done.lease_token, done.lease_expires_at, done.lease_limit_at, done.progress) == (None,) * 4


@pytest.mark.parametrize("state", FINISHED)
def test_what_is_finished_is_not_completed(state: State) -> None:
    with pytest.raises(Conflict):
        completed(job(state=state), attempt(1), "sha256:ab", None, NOW)
