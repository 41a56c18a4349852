"""What coordinators tell each other through PostgreSQL's LISTEN and NOTIFY, with the commit that it is about."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from pithead.core.jobs import State
from pithead.exchange.events import Event, HooksChanged, JobChanged, KeysChanged, MinerChanged, PayoutChanged, lost_by

T = TypeVar("T")

#: So many to a note, which may have 8000 bytes: a job's number has at most 19 digits and may be there twice, an owner's id
#: some forty characters.
_JOBS: Final = 170
_KEYS: Final = 100
_MINERS: Final = 300


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One notification."""

    #: Who tells it.
    by: str
    #: The numbers of jobs that changed: whoever wants to know how asks the database, which cannot be out of order.
    jobs: Sequence[int] = ()
    #: Those of them that left the queue: who never heard that one was in it has to count it out all the same.
    left: Sequence[int] = ()
    #: Whose keys changed.
    keys: Sequence[str] = ()
    #: The numbers of miners that have something to hear: they were changed, or lost a job.
    miners: Sequence[int] = ()
    #: The ids of payouts that changed.
    payouts: Sequence[str] = ()
    #: Accounts that have webhooks now, or have none any more.
    hooked: Sequence[tuple[int, bool]] = ()
    #: A word to oneself, to see that words arrive.
    echo: int = 0


def payloads_of(by: str, events: Iterable[Event]) -> Iterator[str]:
    """What a batch has to tell."""
    jobs, left, keys = dict[int, None](), set[int](), dict[str, None]()
    miners, payouts, hooked = dict[int, None](), dict[str, None](), dict[int, bool]()
    for event in events:
        match event:
            case JobChanged(before, after):
                jobs[after.seq] = None
                if (loser := lost_by(before, after)) is not None:
                    miners[loser] = None
                if before is not None and before.state is State.QUEUED:
                    left.add(after.seq)
            case KeysChanged(owner):
                keys[owner] = None
            case MinerChanged(miner, seen=seen):
                if seen:
                    miners[miner] = None
            case PayoutChanged(payout):
                payouts[payout.id] = None
            case HooksChanged(account, active):
                hooked[account] = active
    for some in _portions(list(jobs), _JOBS):
        yield encode(Note(by, jobs=some, left=[seq for seq in some if seq in left]))
    for owners in _portions(list(keys), _KEYS):
        yield encode(Note(by, keys=owners))
    for some in _portions(list(miners), _MINERS):
        yield encode(Note(by, miners=some))
    for ids in _portions(list(payouts), _KEYS):
        yield encode(Note(by, payouts=ids))
    for accounts in _portions(list(hooked.items()), _KEYS):
        yield encode(Note(by, hooked=accounts))


def _portions(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))


def encode(note: Note) -> str:
    """The note as it travels."""
    return msgspec.json.encode(note).decode()


#: The note that travelled. Raises `msgspec.DecodeError`.
decode: Final = msgspec.json.Decoder(Note).decode
