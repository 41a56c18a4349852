"""Webhooks and the messages to them: a part of a transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from pithead.exchange.webhook_ports import Delivery, Webhook
from pithead.store.ledger import TOP


def _webhook(row: Sequence[Any]) -> Webhook:
    found = Webhook(*row)
    old = None if found.old_secret is None else bytes(found.old_secret)
    return msgspec.structs.replace(found, secret=bytes(found.secret), old_secret=old)


def _delivery(row: Sequence[Any]) -> Delivery:
    found = Delivery(*row)
    return msgspec.structs.replace(found, body=bytes(found.body))


class WebhooksSql:
    """Mixed into a transaction. Implements `exchange.webhook_ports.WebhooksTx`."""

    def _one(self, query: str, **values: Any) -> Any:
        raise NotImplementedError

    def _all(self, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def _do(self, query: str, **values: Any) -> int:
        raise NotImplementedError

    def _put(self, query: str, **values: Any) -> None:
        raise NotImplementedError

    def add_webhook(self, webhook: Webhook) -> Webhook:
        row = msgspec.structs.asdict(webhook)
        del row["seq"]
        return msgspec.structs.replace(webhook, seq=int(self._one("add_webhook", **row)[0]))

    def webhook(self, account: int, webhook_id: str) -> Webhook | None:
        row = self._one("webhook", account=account, id=webhook_id)
        return _webhook(row) if row else None

    def webhook_by_seq(self, seq: int) -> Webhook | None:
        row = self._one("webhook_by_seq", seq=seq)
        return _webhook(row) if row else None

    def webhooks_of(self, account: int) -> list[Webhook]:
        return [_webhook(row) for row in self._all("webhooks_of", account=account)]

    def all_webhooks(self) -> list[Webhook]:
        return [_webhook(row) for row in self._all("all_webhooks")]

    def hooked_accounts(self) -> list[int]:
        return [int(row[0]) for row in self._all("hooked_accounts")]

    def save_webhook(self, webhook: Webhook) -> None:
        row = msgspec.structs.asdict(webhook)
        for name in ("id", "account", "created_at"):
            del row[name]
        self._put("save_webhook", **row)

    def delete_webhook(self, seq: int) -> None:
        self._put("delete_webhook", seq=seq)
        self._put("delete_deliveries", webhook=seq)

    def add_delivery(self, delivery: Delivery) -> None:
        row = msgspec.structs.asdict(delivery)
        del row["seq"]
        self._put("add_delivery", **row)

    def delivery(self, webhook: int, delivery_id: str) -> Delivery | None:
        row = self._one("delivery", webhook=webhook, id=delivery_id)
        return _delivery(row) if row else None

    def deliveries_page(self, webhook: int, state: str | None, before: int | None, limit: int) -> list[Delivery]:
        rows = self._all("deliveries_page", webhook=webhook, state=state, before=before or TOP, limit=limit)
        return [_delivery(row) for row in rows]

    def due_deliveries(self, now: float, each: int, limit: int) -> list[Delivery]:
        found: list[Delivery] = []
        for (webhook,) in self._all("ready_webhooks", now=now, limit=limit):
            most = min(each, limit - len(found))
            found += [_delivery(row) for row in self._all("due_deliveries", webhook=webhook, now=now, limit=most)]
            if len(found) == limit:
                break
        return found

    def has_due_delivery(self, now: float) -> bool:
        return bool(self._all("ready_webhooks", now=now, limit=1))

    def save_delivery(self, before: Delivery, after: Delivery) -> bool:
        row = {
            name: getattr(after, name)
            for name in ("state", "due_at", "attempts", "started_at", "status", "error", "since")
        }
        row |= {"seq": before.seq, "was_state": before.state, "was_attempts": before.attempts}
        return self._do("save_delivery", **row) == 1

    def prune_deliveries(self, before: float, limit: int) -> int:
        return self._do("prune_deliveries", before=before, limit=limit)

    def names_of(self, accounts: Sequence[int]) -> dict[int, str]:
        rows = {seq: self._one("name_of_account", seq=seq) for seq in accounts}
        return {seq: str(row[0]) for seq, row in rows.items() if row}
