"""Server-sent events: what a line of `data:` holds, by the line of `event:` before it. `id:` is where to go on from."""

from pithead.wire.base import Answer, Instant
from pithead.wire.jobs import JobView
from pithead.wire.miners import MinerStatus
from pithead.wire.payouts import PayoutView
from pithead.wire.webhooks import WebhookView


class OutputPiece(Answer):
    """`event: output`. What a job's attempt brought forth, as it arrives. What counts is the result."""

    job_id: str
    #: With another number than before, what came before is void: the job begins anew.
    attempt: int
    #: How many characters (code points) of this attempt came before it.
    offset: int
    text: str


class JobStream(Answer):
    """The events of one job."""

    #: `event: job`. The job as it now stands. Of changes that follow each other fast, the last one is told.
    job: JobView
    output: OutputPiece


class Sync(Answer):
    """`event: sync`. The first of every stream of an account."""

    #: Whether it goes on behind the `Last-Event-ID`. If not, read anew what you show, and take the events as they come.
    resumed: bool


class JobEvent(JobView, kw_only=True):
    """`event: job`. A job of the account changed: as it then stood."""

    client_id: str
    #: When the coordinator heard of it.
    at: Instant


class MinerEvent(Answer):
    """`event: miner`. A miner's state or registration changed; told to itself and to the operator."""

    miner_id: str
    name: str
    status: MinerStatus
    at: Instant


class PayoutEvent(PayoutView):
    """`event: payout`. A payout was requested, or decided on; told to its miner and to the operator."""

    at: Instant


class AccountStream(Answer):
    """The events of an account. The operator's are of everybody, but for words about progress alone."""

    sync: Sync
    job: JobEvent
    miner: MinerEvent
    payout: PayoutEvent
    #: `event: webhook`. A webhook of the account was disabled, since nothing that was sent to it was taken.
    webhook: WebhookView
