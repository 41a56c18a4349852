"""What the operations on webhooks need of a store; part of `ports.Tx`."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

DeliveryState = Literal["pending", "delivered", "failed"]


class Webhook(msgspec.Struct, frozen=True):
    """Where an account wants to be told what happens."""

    seq: int
    id: str
    account: int  #: The number of a client or miner; 0 is the operator.
    url: str
    events: str  #: The types that it wants, separated by blanks; empty: all.
    description: str
    secret: bytes  #: As the vault gave it.
    created_at: float
    old_secret: bytes | None = None  #: The one before, which signs too
    old_until: float = 0.0  #: until then.
    disabled_at: float | None = None
    disabled_reason: str = ""
    failing_since: float | None = None  #: Since when everything failed.
    failures: int = 0  #: How often in a row.
    resume_at: float = 0.0  #: Nothing is sent there before that.


class Delivery(msgspec.Struct, frozen=True):
    """A message to one webhook: what is to be told, and how that went."""

    seq: int
    id: str  #: Its `webhook-id`: the same however often it is sent.
    webhook: int
    event: str
    body: bytes
    created_at: float
    state: DeliveryState
    due_at: float  #: When it is to be sent, or sent again; who sends it moves this on first.
    attempts: int = 0
    started_at: float | None = None  #: When it was sent last.
    status: int | None = None  #: What the receiver answered then.
    error: str = ""  #: Why nothing was answered, or why it was not taken.
    #: From when on its time runs.
    since: float = 0.0


class WebhooksTx(Protocol):
    """Webhooks and deliveries."""

    def add_webhook(self, webhook: Webhook) -> Webhook:
        """Store a new webhook; the same with its number."""

    def webhook(self, account: int, webhook_id: str) -> Webhook | None: ...
    def webhook_by_seq(self, seq: int) -> Webhook | None: ...
    def webhooks_of(self, account: int) -> list[Webhook]:
        """All of an account, the oldest first."""

    def hooked_accounts(self) -> list[int]:
        """Those that have a webhook which is not disabled."""

    def all_webhooks(self) -> list[Webhook]: ...
    def save_webhook(self, webhook: Webhook) -> None: ...
    def delete_webhook(self, seq: int) -> None:
        """And its log."""

    def add_delivery(self, delivery: Delivery) -> None: ...
    def delivery(self, webhook: int, delivery_id: str) -> Delivery | None: ...
    def deliveries_page(self, webhook: int, state: str | None, before: int | None, limit: int) -> list[Delivery]: ...
    def due_deliveries(self, now: float, each: int, limit: int) -> list[Delivery]:
        """Messages that are due, the oldest first, some for each webhook; none that another transaction is at."""

    def save_delivery(self, before: Delivery, after: Delivery) -> bool:
        """Save it where it is still at the attempt and in the state of `before`; false if it is not."""

    def prune_deliveries(self, before: float, limit: int) -> int:
        """Forget messages older than this instant that are not pending; how many."""

    def has_due_delivery(self, now: float) -> bool: ...
    def names_of(self, accounts: Sequence[int]) -> dict[int, str]:
        """The ids of clients and miners, by their numbers."""
