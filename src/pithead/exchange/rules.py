"""What the operator sets that the operations go by."""

from typing import Literal

import msgspec

from pithead.core.leases import Policy
from pithead.core.payouts import Schedule

Enrollment = Literal["open", "approval", "token"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, where a length of time is meant."""

    leases: Policy = msgspec.field(default_factory=Policy)
    #: `open`: the first heartbeat admits a miner. `approval`: an operator does. `token`: registering needs a token.
    enrollment: Enrollment = "open"
    #: A miner without a heartbeat for this long is offline.
    offline_after: float = 180.0
    #: A job's `timeout` when the client names none.
    job_timeout: float = 86_400.0
    #: A job's `max_attempts` when the client names none.
    max_attempts: int = 3
    #: The operator's share of a payment, in hundredths of a per cent.
    fee_basis_points: int = 0
    #: The least that is paid out, in millionths.
    payout_minimum: int = 0
    payout_schedule: Schedule = "off"
    #: How long an answer under an `Idempotency-Key` is kept; 0: for ever.
    keep_answers: float = 172_800.0
    #: How long the bytes of a result are kept from the completion on, and what else is known of a finished job; 0: for ever.
    keep_results: float = 0.0
    keep_jobs: float = 0.0
    #: How long an input file is kept since it was last uploaded or named by a job; 0: for ever.
    keep_files: float = 0.0
    #: Bytes of input files that a client may have; 0: any number.
    file_quota: int = 0
    #: How long a miner is told of a job it lost.
    notice_ttl: float = 600.0
