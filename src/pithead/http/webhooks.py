"""Webhooks of whoever has a key."""

import os

from msgspec import UNSET

from pithead.core.webhooks import secret_of
from pithead.exchange import jobs, miners, webhooks
from pithead.exchange.ids import new_id
from pithead.exchange.ports import Tx
from pithead.exchange.principals import Principal
from pithead.exchange.webhook_ports import Delivery, Webhook
from pithead.http.api import Call, Operation, handles
from pithead.wire import webhooks as wire


def account_of(tx: Tx, caller: Principal) -> int:
    """The number of the caller's account. Raises `NotFound`."""
    match caller.kind:
        case "client":
            return jobs.client(tx, caller.id).seq
        case "miner":
            return miners.find(tx, caller.id).seq
        case _:
            return webhooks.OPERATOR


def _fields(webhook: Webhook) -> dict[str, object]:
    return {
        "webhook_id": webhook.id,
        "url": webhook.url,
        "events": webhook.events.split(),
        "description": webhook.description,
        "created_at": webhook.created_at,
        "enabled": webhook.disabled_at is None,
        "disabled_reason": webhook.disabled_reason,
        "failing_since": webhook.failing_since,
    }


def view(webhook: Webhook) -> wire.WebhookView:
    """The webhook as it stands, without its secret."""
    return wire.WebhookView(**_fields(webhook))  # type: ignore[arg-type]


def _with_secret(webhook: Webhook, secret: str) -> wire.WebhookCreated:
    return wire.WebhookCreated(**_fields(webhook), secret=secret)  # type: ignore[arg-type]


def _delivery(found: Delivery) -> wire.DeliveryView:
    return wire.DeliveryView(
        delivery_id=found.id,
        event=found.event,
        status=found.state,
        attempts=found.attempts,
        created_at=found.created_at,
        attempted_at=found.started_at,
        next_attempt_at=found.due_at if found.state == "pending" else None,
        response_status=found.status,
        error=found.error,
    )


@handles("create_webhook")
async def create(call: Call) -> Operation:
    body: wire.CreateWebhook = call.body
    url, webhook_id, secret = call.services.guard.check(body.url), new_id("webhook"), secret_of(os.urandom(32))
    sealed, caller = call.services.vault.seal(secret, webhook_id), call.caller

    def operation(tx: Tx, now: float) -> wire.WebhookCreated:
        new = Webhook(
            0,
            webhook_id,
            account_of(tx, caller),
            url,
            " ".join(dict.fromkeys(body.events)),
            body.description,
            sealed,
            now,
        )
        return _with_secret(webhooks.create(tx, new), secret)

    return operation


@handles("list_webhooks")
async def list_all(call: Call) -> wire.Webhooks:
    caller = call.caller
    found = await call.exchange.peek(lambda tx: tx.webhooks_of(account_of(tx, caller)))
    return wire.Webhooks(webhooks=[view(one) for one in found])


@handles("get_webhook")
async def get(call: Call) -> wire.WebhookView:
    caller, webhook_id = call.caller, call.path["webhook_id"]
    return view(await call.exchange.peek(lambda tx: webhooks.find(tx, account_of(tx, caller), webhook_id)))


@handles("update_webhook")
async def update(call: Call) -> wire.WebhookView:
    caller, webhook_id, body = call.caller, call.path["webhook_id"], call.body
    url = None if body.url is UNSET else call.services.guard.check(body.url)
    events = None if body.events is UNSET else " ".join(dict.fromkeys(body.events))
    description = None if body.description is UNSET else body.description
    enabled = None if body.enabled is UNSET else body.enabled
    return view(
        await call.exchange.run(
            lambda tx, now: webhooks.update(
                tx, now, account_of(tx, caller), webhook_id,
                url=url, events=events, description=description, enabled=enabled,
            )
        )
    )  # fmt: skip


@handles("delete_webhook")
async def delete(call: Call) -> wire.WebhookView:
    caller, webhook_id = call.caller, call.path["webhook_id"]
    return view(await call.exchange.run(lambda tx, now: webhooks.delete(tx, account_of(tx, caller), webhook_id)))


@handles("rotate_webhook_secret")
async def rotate(call: Call) -> Operation:
    caller, webhook_id, secret = call.caller, call.path["webhook_id"], secret_of(os.urandom(32))
    sealed = call.services.vault.seal(secret, webhook_id)
    return lambda tx, now: _with_secret(webhooks.rotate(tx, now, account_of(tx, caller), webhook_id, sealed), secret)


@handles("test_webhook")
async def test(call: Call) -> Operation:
    caller, webhook_id = call.caller, call.path["webhook_id"]
    return lambda tx, now: _delivery(webhooks.test(tx, now, account_of(tx, caller), webhook_id))


@handles("list_deliveries")
async def deliveries(call: Call) -> wire.DeliveryPage:
    caller, webhook_id, state = call.caller, call.path["webhook_id"], call.query.get("status")
    before, limit = call.cursor, call.limit

    def read(tx: Tx) -> wire.DeliveryPage:
        webhook = webhooks.find(tx, account_of(tx, caller), webhook_id)
        found = tx.deliveries_page(webhook.seq, state, before, limit + 1)
        return wire.DeliveryPage(
            deliveries=[_delivery(one) for one in found[:limit]],
            next_cursor=str(found[limit - 1].seq) if len(found) > limit else None,
        )

    return await call.exchange.read(read)


@handles("replay_delivery")
async def replay(call: Call) -> Operation:
    caller, webhook_id, delivery_id = call.caller, call.path["webhook_id"], call.path["delivery_id"]
    return lambda tx, now: _delivery(webhooks.replay(tx, now, account_of(tx, caller), webhook_id, delivery_id))
