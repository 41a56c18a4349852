"""A job's states: the whole table, once more and by hand."""

import itertools
from typing import Final

import pytest
from tests.unit.core.examples import job

from pithead.core.errors import Conflict
from pithead.core.jobs import FINISHED, HELD, TRANSITIONS, Event, State, apply, is_finished, is_held

#: Every state and every event. `-` is refused.
TABLE: Final = """
            accept    start      upload     complete   requeue  fail    cancel     expire
queued      assigned  -          -          completed  -        -       cancelled  expired
assigned    -         running    uploading  completed  queued   failed  cancelled  expired
running     -         running    uploading  completed  queued   failed  cancelled  expired
uploading   -         uploading  uploading  completed  queued   failed  cancelled  expired
completed   -         -          -          -          -        -       -          -
failed      -         -          -          -          -        -       -          -
cancelled   -         -          -          -          -        -       -          -
expired     -         -          -          -          -        -       -          -
"""


def cells() -> list[tuple[State, Event, State | None]]:
    header, *rows = (line.split() for line in TABLE.strip().splitlines())
    return [
        (State(row[0]), Event(event), None if cell == "-" else State(cell))
        for row in rows
        for event, cell in zip(header, row[1:], strict=True)
    ]


def test_the_table_has_every_state_and_every_event() -> None:
    pairs = [(state, event) for state, event, _ in cells()]
    assert sorted(pairs) == sorted(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event", "after"), cells(), ids=str)
def test_a_transition(state: State, event: Event, after: State | None) -> None:
    if after is not None:
        assert apply(job(state=state), event) is after
        return
    with pytest.raises(Conflict, match=f"^job job_7 is {state}: it cannot {event} now$"):
        apply(job(state=state), event)


def test_held_and_finished_states() -> None:
    assert {State.ASSIGNED, State.RUNNING, State.UPLOADING} == HELD
    assert {State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED} == FINISHED
    for state in State:
        assert is_held(job(state=state)) == (state in HELD)
        assert is_finished(job(state=state)) == (state in FINISHED)
    # Between them they leave the queue alone.
    assert set(State) - HELD - FINISHED == {State.QUEUED}


def test_every_state_can_be_reached_and_every_job_can_end() -> None:
    reached, edge = {State.QUEUED}, [State.QUEUED]
    while edge:
        edge = [after for state in edge for after in TRANSITIONS[state].values() if after not in reached]
        reached.update(edge)
    assert reached == set(State)
    for state in set(State) - FINISHED:
        assert {Event.CANCEL, Event.EXPIRE} <= TRANSITIONS[state].keys()
