"""The calls about webhooks, which whoever has a key can make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pithead.client.calls import answered, once
from pithead.client.core import Call
from pithead.wire import webhooks as wire


def create(url: str, events: Sequence[str], description: str, key: str | None) -> Call[wire.WebhookCreated]:
    body = {"url": url, "events": list(events), "description": description}
    return answered(wire.WebhookCreated, "create_webhook", body=body, headers=once(key))


def list_all() -> Call[wire.Webhooks]:
    return answered(wire.Webhooks, "list_webhooks")


def get(webhook_id: str) -> Call[wire.WebhookView]:
    return answered(wire.WebhookView, "get_webhook", webhook_id=webhook_id)


def update(webhook_id: str, changes: dict[str, Any]) -> Call[wire.WebhookView]:
    body = {name: value for name, value in changes.items() if value is not None}
    return answered(wire.WebhookView, "update_webhook", body=body, webhook_id=webhook_id)


def delete(webhook_id: str) -> Call[wire.WebhookView]:
    return answered(wire.WebhookView, "delete_webhook", webhook_id=webhook_id)


def rotate(webhook_id: str, key: str | None) -> Call[wire.WebhookCreated]:
    return answered(wire.WebhookCreated, "rotate_webhook_secret", headers=once(key), webhook_id=webhook_id)


def test(webhook_id: str, key: str | None) -> Call[wire.DeliveryView]:
    return answered(wire.DeliveryView, "test_webhook", headers=once(key), webhook_id=webhook_id)


def deliveries(webhook_id: str, status: str | None, limit: int | None, cursor: str | None) -> Call[wire.DeliveryPage]:
    query = {"status": status, "limit": limit, "cursor": cursor}
    return answered(wire.DeliveryPage, "list_deliveries", query=query, webhook_id=webhook_id)


def replay(webhook_id: str, delivery_id: str, key: str | None) -> Call[wire.DeliveryView]:
    return answered(
        wire.DeliveryView, "replay_delivery", headers=once(key), webhook_id=webhook_id, delivery_id=delivery_id
    )
