"""How the whole exchange stands, in numbers: what the database says, the same at every coordinator over it."""

import heapq
from collections.abc import Sequence
from typing import Final

import msgspec

from pithead.exchange.ports import Tx
from pithead.exchange.tally import OTHER

#: Queues – a gpu type and a model – that are shown one by one, the longest; clients name models, so the rest is one.
QUEUES: Final = 50


class Queue(msgspec.Struct, frozen=True):
    """The queued jobs that ask for one gpu type and model."""

    gpu_type: str
    model: str
    jobs: int
    #: Seconds since the oldest of them was submitted.
    age: float


class Figures(msgspec.Struct, frozen=True):
    """What was read at one instant."""

    queues: list[Queue]
    #: Unfinished jobs by state.
    jobs: dict[str, int]
    miners: dict[str, int]
    #: Millionths, by class of account; together they are 0.
    ledger: dict[str, int]


def read(tx: Tx, now: float) -> Figures:
    """The figures. Of any length: the queue's index is read."""
    queues = [Queue(gpu_type, model, jobs, max(0.0, now - at)) for gpu_type, model, jobs, at in tx.queue_by_model()]
    return Figures(
        bounded(queues),
        {"queued": sum(queue.jobs for queue in queues)} | tx.held_by_state(),
        tx.miners_by_status(),
        tx.balances_by_kind(),
    )


def bounded(queues: Sequence[Queue], most: int = QUEUES) -> list[Queue]:
    """The longest queues, and all others taken together as one."""
    if len(queues) <= most:
        return list(queues)
    shown = heapq.nlargest(most, queues, key=lambda queue: queue.jobs)
    kept = {(queue.gpu_type, queue.model) for queue in shown}
    rest = [queue for queue in queues if (queue.gpu_type, queue.model) not in kept]
    return [*shown, Queue(OTHER, OTHER, sum(queue.jobs for queue in rest), max(queue.age for queue in rest))]
