"""What coordinators tell each other fits into a notification, and says what the others need."""

import msgspec
from tests.unit.core import examples

from pithead.core.jobs import Job, State
from pithead.core.payouts import Payout
from pithead.core.payouts import State as PayoutState
from pithead.exchange.events import Event, JobChanged, KeysChanged, MinerChanged, PayoutChanged
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
        MinerChanged(3, seen=False),
    ]
    assert [decode(payload) for payload in payloads_of("me", events)] == [Note("me", jobs=[1, 2], left=[1])]


def test_miners_that_have_something_to_hear_and_payouts_are_named() -> None:
    held = msgspec.structs.replace(job(1, State.RUNNING), miner=7)
    payout = Payout(1, "payout_1", 9, 5, "bank", PayoutState.REQUESTED, None, 0.0)
    events: list[Event] = [
        MinerChanged(3),
        JobChanged(held, job(1, State.CANCELLED)),
        # Its own doing is nothing to be told of.
        JobChanged(held, msgspec.structs.replace(held, progress=0.5)),
        JobChanged(held, msgspec.structs.replace(held, state=State.COMPLETED)),
        PayoutChanged(payout),
    ]
    assert [decode(payload) for payload in payloads_of("me", events)] == [
        Note("me", jobs=[1], left=[]), Note("me", miners=[3, 7]), Note("me", payouts=["payout_1"]),
    ]  # fmt: skip


def test_nothing_is_said_of_nothing() -> None:
    assert list(payloads_of("me", [])) == []
