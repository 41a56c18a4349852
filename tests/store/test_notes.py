"""What coordinators tell each other fits into a notification, and says what the others need."""

import msgspec
from tests.unit.core import examples

from pithead.core.jobs import Job, State
from pithead.exchange.events import Event, JobChanged, KeysChanged, MinerChanged
from pithead.store.notes import Note, decode, payloads_of


def job(seq: int, state: State = State.QUEUED) -> Job:
    return msgspec.structs.replace(examples.job(), seq=seq, state=state)


def test_however_much_a_batch_changed_every_note_fits() -> None:
    numbers = [2**62 + n for n in range(1000)]
    owners = [f"miner_{n:032}" for n in range(500)]
    events = [JobChanged(job(n), job(n, State.ASSIGNED)) for n in numbers]
    payloads = list(payloads_of("a" * 12, [*events, *map(KeysChanged, owners)]))
    assert all(len(payload.encode()) < 8000 for payload in payloads)
    notes = [decode(payload) for payload in payloads]
    assert [seq for note in notes for seq in note.jobs] == [seq for note in notes for seq in note.left] == numbers
    assert [owner for note in notes for owner in note.keys] == owners
    assert {note.by for note in notes} == {"a" * 12}


def test_a_job_that_changed_twice_is_named_once_and_that_it_left_the_queue_is_said() -> None:
    taken, submitted = job(1, State.ASSIGNED), job(2)
    events: list[Event] = [
        JobChanged(None, job(1)),
        JobChanged(job(1), taken),
        JobChanged(None, submitted),
        MinerChanged(3),
    ]
    assert [decode(payload) for payload in payloads_of("me", events)] == [Note("me", jobs=[1, 2], left=[1])]


def test_nothing_is_said_of_nothing() -> None:
    assert list(payloads_of("me", [])) == []
