"""What happened, in the past tense. A transaction collects these; they take effect in memory once it is durable."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from pithead.core.jobs import Job, State, is_held
from pithead.core.payouts import Payout
from pithead.exchange.webhook_ports import Webhook


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
    #: Whether those who watch it have something to see: not with the next of many heartbeats.
    seen: bool = True


class LeaseLapsed(msgspec.Struct, frozen=True):
    """The job's change just before this one was a lapse."""

    job: int


class PayoutChanged(msgspec.Struct, frozen=True):
    """A payout was requested or moved to another state."""

    payout: Payout


class HooksChanged(msgspec.Struct, frozen=True):
    """Webhooks of an account were made, changed or ended."""

    account: int
    #: Whether it has any that is not disabled.
    active: bool
    #: The one that was disabled since nothing that was sent to it was taken: its account has to hear of it.
    disabled: Webhook | None = None


Event = JobChanged | KeysChanged | MinerChanged | LeaseLapsed | PayoutChanged | HooksChanged


class Heard(msgspec.Struct, frozen=True):
    """What other coordinators did."""

    #: Jobs as they stand now, and the numbers of those that left the queue.
    jobs: Sequence[Job] = ()
    left: AbstractSet[int] = frozenset()
    #: Whose keys changed.
    keys: Sequence[str] = ()
    #: Miners that were changed, or lost a job.
    miners: Sequence[int] = ()
    #: Payouts as they stand now.
    payouts: Sequence[Payout] = ()
    #: Accounts that have webhooks now, or have none any more.
    hooked: Sequence[tuple[int, bool]] = ()


def lost_by(before: Job | None, after: Job) -> int | None:
    """The miner that held the job and does so no longer, though it did not complete it."""
    if before is None or not is_held(before) or after.state is State.COMPLETED:
        return None
    return (
        None if is_held(after) and after.miner == before.miner and after.attempts == before.attempts else before.miner
    )
