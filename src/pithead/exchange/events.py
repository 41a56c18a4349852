"""What happened, in the past tense. A transaction collects these; they take effect in memory once it is durable."""

import msgspec

from pithead.core.jobs import Job


class JobChanged(msgspec.Struct, frozen=True):
    """A job was submitted (`before` is `None`) or moved to another state."""

    before: Job | None
    after: Job


class KeysChanged(msgspec.Struct, frozen=True):
    """Keys of this owner were made or ended, or what they allow has changed."""

    owner: str


class MinerChanged(msgspec.Struct, frozen=True):
    """A miner's registration, admission or liveness changed."""

    miner: int
    #: Whether what matching looks at may be another now: it registered, changed its registration, or was decided about.
    profile: bool = False


class LeaseLapsed(msgspec.Struct, frozen=True):
    """The job's change just before this one was a lapse."""

    job: int


Event = JobChanged | KeysChanged | MinerChanged | LeaseLapsed
