"""The operator's side: clients and their credit, miners, keys, limits, enrolment, and the audit log."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from pithead.wire.base import MAX_AMOUNT, Amount, Answer, Instant, Line, Name, PriceIn, Seconds, StrictRequest
from pithead.wire.jobs import ClientView
from pithead.wire.miners import MinerView, Stats

Limit = Annotated[int, Meta(ge=0, le=1_000_000)]


class CreateClient(StrictRequest):
    """A new client, with some credit if wanted."""

    name: Name
    credit: PriceIn = 0.0


class ClientCreated(Answer):
    """The new client. Its key is shown this once."""

    client_id: str
    api_key: str
    balance: Amount


class ClientPage(Answer):
    """Some clients, the newest first."""

    clients: list[ClientView]
    next_cursor: str | None


class Credit(StrictRequest):
    """An amount to add to a client's balance; negative takes away, at most what is there."""

    amount: Annotated[float, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
    note: Line = ""


class MinerDetail(MinerView):
    """A miner, with what only the operator sees."""

    #: Jobs that it holds.
    jobs_assigned: int
    stats: Stats
    telemetry: dict[str, Any] | None
    #: Tokens a second that it measured, by model.
    speeds: dict[str, float]


class TelemetrySample(Answer):
    """What a miner reported of itself."""

    #: To the minute.
    at: Instant
    telemetry: dict[str, Any]


class TelemetryHistory(Answer):
    """The first report of each minute of the last three days, the oldest first."""

    samples: list[TelemetrySample]


class MinerPage(Answer):
    """Some miners, the newest first."""

    miners: list[MinerView]
    next_cursor: str | None


class SetLimits(StrictRequest):
    """Limits for one miner: a number, 0 for none, `null` for the coordinator's setting."""

    requests_per_minute: Limit | None = None
    job_operations_per_minute: Limit | None = None


class Suspend(StrictRequest):
    """Why; kept in the audit log."""

    reason: Line = ""


class RotateKey(StrictRequest):
    """A new key for an account."""

    #: Seconds for which the old keys go on working, so that a running machine can be moved over. 0: they end now.
    grace: Annotated[float, Meta(ge=0, le=2_592_000)] = 0.0


class NewKey(Answer):
    """The new key, shown this once."""

    account_id: str
    api_key: str


class Revoked(Answer):
    """How many keys ended."""

    account_id: str
    revoked: int


class CreateEnrollmentToken(StrictRequest):
    """A token that lets somebody register, where the coordinator's `enrollment` is `token`."""

    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    #: Seconds for which it works.
    expires_in: Seconds = 604_800.0


class EnrollmentToken(Answer):
    """The token, shown this once."""

    enrollment_token: str
    uses: int
    expires_at: Instant


class AuditEntry(Answer):
    """Something that an operator did."""

    at: Instant
    actor: str
    action: str
    subject: str
    detail: str


class AuditPage(Answer):
    """Some entries, the newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None


class Overview(Answer):
    """The exchange in numbers."""

    version: str
    #: Miners by status.
    miners: dict[str, int]
    #: Unfinished jobs by status.
    jobs: dict[str, int]
    #: The sum of each class of account; together they are 0.
    ledger: dict[str, Amount]
    #: The coordinator's clock.
    now: Instant


class Health(Answer):
    """Whether the coordinator serves."""

    status: Literal["ok"]
