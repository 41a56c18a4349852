"""Webhooks in the format of Standard Webhooks (standardwebhooks.com): what is told, how it is signed, when it is told again."""

import base64
import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal

import msgspec

#: What an account can be told of. A client is told of its jobs, a miner of those that it completed and of its payouts, the
#: operator of all.
EventType = Literal[
    "job.completed", "job.failed", "job.cancelled", "job.expired",
    "payout.requested", "payout.approved", "payout.paid", "payout.rejected",
]  # fmt: skip
#: What is sent to try a webhook out.
TEST: Final = "webhook.test"

#: Seconds before the second try; each further pause is three times as long, up to the longest.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 6 * 3600.0
#: Before a secret, so that it is known for one.
PREFIX: Final = "whsec_"


class Policy(msgspec.Struct, frozen=True):
    """Seconds after which something is given up."""

    #: One message, from when it was to be told first.
    give_up_after: float = 3 * 86_400.0
    #: A webhook at which every message failed for so long.
    disable_after: float = 5 * 86_400.0
    #: How long the log of deliveries is kept.
    keep_log: float = 30 * 86_400.0


def pause(tries: int, draw: float) -> float:
    """Seconds until a message is told again that was told so often in vain; `draw` in [0, 1) spreads them."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 3.0 ** min(tries - 1, 20)) * (0.8 + 0.4 * draw)


def secret_of(random: bytes) -> str:
    """The secret as it is shown: 24 to 64 random bytes."""
    return PREFIX + base64.b64encode(random).decode()


def signatures(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one for each secret that holds, separated by blanks."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(base64.b64decode(secret.removeprefix(PREFIX)), signed, sha256)).decode()
        for secret in secrets
    )
