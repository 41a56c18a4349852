"""Webhooks: where an account wants to be told what happens, in the format of Standard Webhooks (standardwebhooks.com)."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pithead.wire.base import Answer, Instant, Line, StrictRequest

#: A client is told of its jobs, a miner of those that it completed and of its payouts, the operator of all.
WebhookEvent = Literal[
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "payout.requested",
    "payout.approved",
    "payout.paid",
    "payout.rejected",
]
DeliveryStatus = Literal["pending", "delivered", "failed"]
Url = Annotated[
    str, Meta(min_length=1, max_length=2000, pattern=r"^[\u0021-\u007e]+$(?!\n)", description="An `https://` URL.")
]
Events = Annotated[list[WebhookEvent], Meta(max_length=50)]


class CreateWebhook(StrictRequest):
    """Where to send what, from now on."""

    url: Url
    #: Empty: all that concern the account.
    events: Events = msgspec.field(default_factory=list)
    description: Line = ""


class UpdateWebhook(StrictRequest):
    """What is absent stays."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    description: Line | UnsetType = UNSET
    #: False: send nothing. True: send again, also what is pending.
    enabled: bool | UnsetType = UNSET


class WebhookView(Answer, kw_only=True):
    """A webhook as it stands."""

    webhook_id: str
    url: str
    events: list[str]
    description: str
    created_at: Instant
    enabled: bool
    #: Why it is disabled: by its owner, or since everything that was sent to it failed for days.
    disabled_reason: str
    #: Since when everything that was sent to it failed; `null` where the last of it was taken.
    failing_since: Instant | None


class WebhookCreated(WebhookView, kw_only=True):
    """The new webhook, or its new secret."""

    #: What messages are signed with, shown this once.
    secret: str


class Webhooks(Answer):
    """All webhooks of the account."""

    webhooks: list[WebhookView]


class DeliveryView(Answer):
    """A message, and how it went. It is signed anew each time, and its id stays the same."""

    #: The message's `webhook-id`.
    delivery_id: str
    event: str
    status: DeliveryStatus
    #: How often it was sent.
    attempts: int
    created_at: Instant
    #: When it was sent last.
    attempted_at: Instant | None
    #: When it is sent next.
    next_attempt_at: Instant | None
    #: What the receiver answered last; `null` where it answered nothing.
    response_status: int | None
    error: str


class DeliveryPage(Answer):
    """Some messages, the newest first."""

    deliveries: list[DeliveryView]
    next_cursor: str | None
