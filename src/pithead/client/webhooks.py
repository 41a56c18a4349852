"""What whoever has a key can do about webhooks, blocking."""

from __future__ import annotations

from collections.abc import Sequence

from pithead.client import webhook_calls as calls
from pithead.client.drivers import SyncDriver
from pithead.wire.webhooks import DeliveryPage, DeliveryView, WebhookCreated, Webhooks, WebhookView


class Hooks(SyncDriver):
    """Mixed into every face with a key."""

    def create_webhook(
        self, url: str, events: Sequence[str] = (), description: str = "", *, idempotency_key: str | None = None
    ) -> WebhookCreated:
        """Be told at `url` of these events (none: of all). Its secret, by which messages are checked, is shown this once."""
        return self._run(calls.create(url, events, description, idempotency_key))

    def webhooks(self) -> Webhooks:
        """The account's webhooks."""
        return self._run(calls.list_all())

    def webhook(self, webhook_id: str) -> WebhookView:
        """A webhook as it stands."""
        return self._run(calls.get(webhook_id))

    def update_webhook(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> WebhookView:
        """Change what is given; `enabled=True` sends again to one that was disabled."""
        wanted = None if events is None else list(events)
        changes = {"url": url, "events": wanted, "description": description, "enabled": enabled}
        return self._run(calls.update(webhook_id, changes))

    def delete_webhook(self, webhook_id: str) -> WebhookView:
        """No more of it, its log included."""
        return self._run(calls.delete(webhook_id))

    def rotate_webhook_secret(self, webhook_id: str, *, idempotency_key: str | None = None) -> WebhookCreated:
        """Another secret, shown this once; the one before signs too for a day."""
        return self._run(calls.rotate(webhook_id, idempotency_key))

    def test_webhook(self, webhook_id: str, *, idempotency_key: str | None = None) -> DeliveryView:
        """Have a message sent that tells of nothing."""
        return self._run(calls.test(webhook_id, idempotency_key))

    def deliveries(
        self, webhook_id: str, *, status: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> DeliveryPage:
        """What was sent, and how that went, the newest first; `status`: `pending`, `delivered` or `failed`."""
        return self._run(calls.deliveries(webhook_id, status, limit, cursor))

    def replay_delivery(self, webhook_id: str, delivery_id: str, *, idempotency_key: str | None = None) -> DeliveryView:
        """Have a message sent again, under its id."""
        return self._run(calls.replay(webhook_id, delivery_id, idempotency_key))
