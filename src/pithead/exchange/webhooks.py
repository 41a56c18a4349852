"""Webhooks: what an account is told, written down with what happened, and sent until it is taken or given up.

What is to be told is recorded by the transaction that it is about, and only of accounts that have a webhook: `Coordinator.run`
looks at what a transaction emitted. Who sends a message takes it under a lease first, in a transaction of its own; so of
several coordinators one sends it, and if that one dies, another does. A receiver may hear of the same message twice, under the
same id.
"""

from collections.abc import Container, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from pithead.core.errors import Conflict, NotFound
from pithead.core.jobs import FINISHED, Job
from pithead.core.money import units
from pithead.core.payouts import Payout
from pithead.core.webhooks import TEST, Policy, pause
from pithead.exchange.events import HooksChanged, JobChanged, PayoutChanged
from pithead.exchange.ids import new_id
from pithead.exchange.ports import Tx
from pithead.exchange.webhook_ports import Delivery, Webhook

#: The operator's account.
OPERATOR: Final = 0
#: Webhooks of one account.
MOST: Final = 20
#: Messages that are sent to one webhook at the same time.
AT_ONCE: Final = 4
#: Seconds for which a message is the sender's; after that it is sent again, by whomever.
LEASE: Final = 60.0
#: Seconds for which a secret that was replaced still signs.
GRACE: Final = 86_400.0
#: Seconds for which nothing is sent to a webhook that just failed, doubling up to the longest.
_FIRST_REST: Final = 2.0
_LONGEST_REST: Final = 600.0
#: Of what went wrong, so many characters are kept.
_LONGEST_ERROR: Final = 200

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class Due(msgspec.Struct, frozen=True):
    """A message to be sent now."""

    delivery: Delivery
    webhook: Webhook


class Outcome(msgspec.Struct, frozen=True):
    """What came of sending."""

    #: What the receiver answered; `None`: nothing.
    status: int | None
    error: str = ""

    @property
    def taken(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300


# -- the account's side


def find(tx: Tx, account: int, webhook_id: str) -> Webhook:
    """The webhook, if it is the account's. Raises `NotFound`."""
    found = tx.webhook(account, webhook_id)
    if found is None:
        raise NotFound(f"there is no webhook {webhook_id}")
    return found


def create(tx: Tx, webhook: Webhook) -> Webhook:
    """A new webhook. Raises `Conflict` where the account has as many as it may."""
    if len(tx.webhooks_of(webhook.account)) >= MOST:
        raise Conflict(f"an account has {MOST} webhooks at the most; delete one first")
    return _changed(tx, tx.add_webhook(webhook))


def update(
    tx: Tx,
    now: float,
    account: int,
    webhook_id: str,
    *,
    url: str | None = None,
    events: str | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> Webhook:
    """Change what is given. Enabling one that was disabled sends what is still pending. Raises `NotFound`."""
    webhook = find(tx, account, webhook_id)
    given = {"url": url, "events": events, "description": description}
    after = msgspec.structs.replace(webhook, **{name: value for name, value in given.items() if value is not None})
    if enabled is False and webhook.disabled_at is None:
        after = msgspec.structs.replace(after, disabled_at=now, disabled_reason="its owner disabled it")
    elif enabled or (url is not None and url != webhook.url):
        after = msgspec.structs.replace(after, failing_since=None, failures=0, resume_at=0.0)
        if enabled:
            after = msgspec.structs.replace(after, disabled_at=None, disabled_reason="")
    tx.save_webhook(after)
    return _changed(tx, after)


def rotate(tx: Tx, now: float, account: int, webhook_id: str, secret: bytes) -> Webhook:
    """Another secret; the one before signs too for a day. Raises `NotFound`."""
    webhook = find(tx, account, webhook_id)
    after = msgspec.structs.replace(webhook, secret=secret, old_secret=webhook.secret, old_until=now + GRACE)
    tx.save_webhook(after)
    return after


def delete(tx: Tx, account: int, webhook_id: str) -> Webhook:
    """No more of it, its log included. Raises `NotFound`."""
    webhook = find(tx, account, webhook_id)
    tx.delete_webhook(webhook.seq)
    return _changed(tx, webhook)


def _changed(tx: Tx, webhook: Webhook, *, tell: bool = False) -> Webhook:
    active = any(one.disabled_at is None for one in tx.webhooks_of(webhook.account))
    tx.emit(HooksChanged(webhook.account, active, webhook if tell else None))
    return webhook


def test(tx: Tx, now: float, account: int, webhook_id: str) -> Delivery:
    """Have a message sent that tells of nothing. Raises `NotFound`, `Conflict` where it is disabled."""
    webhook = find(tx, account, webhook_id)
    if webhook.disabled_at is not None:
        raise Conflict(f"webhook {webhook.id} is disabled; enable it first")
    message = _message(webhook, new_id("msg"), TEST, _body(TEST, now, {"webhook_id": webhook.id}), now)
    tx.add_delivery(message)
    return message


def replay(tx: Tx, now: float, account: int, webhook_id: str, delivery_id: str) -> Delivery:
    """Have a message sent again, from the beginning, under its id. Raises `NotFound`, `Conflict` where it is disabled."""
    webhook = find(tx, account, webhook_id)
    if webhook.disabled_at is not None:
        raise Conflict(f"webhook {webhook.id} is disabled; enable it first")
    before = tx.delivery(webhook.seq, delivery_id)
    if before is None:
        raise NotFound(f"webhook {webhook.id} has no delivery {delivery_id}; its log is kept for a limited time")
    after = msgspec.structs.replace(before, state="pending", due_at=now, since=now)
    if not tx.save_delivery(before, after):
        raise Conflict(f"delivery {delivery_id} is on its way; ask again")
    return after


# -- what is to be told


def record(tx: Tx, now: float, hooked: Container[int]) -> None:
    """Write down what those who have webhooks are to be told of this transaction. To be called at its end."""
    for event in tuple(tx.events):
        match event:
            case JobChanged(before, after) if after.state in FINISHED and (
                before is None or before.state != after.state
            ):
                accounts = [OPERATOR, after.client]
                if after.completed_attempt is not None and after.miner is not None:
                    accounts.append(after.miner)
                told = [account for account in accounts if account in hooked]
                if told:
                    _tell(tx, now, told, f"job.{after.state}", _of_job(tx, after))
            case PayoutChanged(payout):
                told = [account for account in (OPERATOR, payout.miner) if account in hooked]
                if told:
                    _tell(tx, now, told, f"payout.{payout.state}", _of_payout(tx, payout))
            case _:
                pass


def _tell(tx: Tx, now: float, accounts: Sequence[int], event: str, data: dict[str, Any]) -> None:
    body = _body(event, now, data)
    for account in accounts:
        for webhook in tx.webhooks_of(account):
            if webhook.disabled_at is None and (not webhook.events or event in webhook.events.split()):
                tx.add_delivery(_message(webhook, new_id("msg"), event, body, now))


def _message(webhook: Webhook, message_id: str, event: str, body: bytes, now: float) -> Delivery:
    return Delivery(0, message_id, webhook.seq, event, body, now, "pending", now, since=now)


def _body(event: str, now: float, data: dict[str, Any]) -> bytes:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _encode({"type": event, "timestamp": at, "data": data})


def _of_job(tx: Tx, job: Job) -> dict[str, Any]:
    names = tx.names_of([job.client, *([] if job.miner is None else [job.miner])])
    failure = None if job.failure_kind is None else {"kind": job.failure_kind, "reason": job.failure_reason or ""}
    return {
        "job_id": job.id,
        "status": job.state.value,
        "model": job.model,
        "price": _amount(job.price),
        "client_id": names.get(job.client),
        "miner_id": None if job.miner is None else names.get(job.miner),
        "attempts": job.attempts,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "result_hash": job.result_hash,
        "result_size": job.result_size,
        "failure": failure,
    }


def _of_payout(tx: Tx, payout: Payout) -> dict[str, Any]:
    return {
        "payout_id": payout.id,
        "status": payout.state.value,
        "miner_id": tx.names_of([payout.miner]).get(payout.miner),
        "amount": _amount(payout.amount),
        "destination": payout.destination,
        "requested_at": payout.requested_at,
        "decided_at": payout.decided_at,
        "paid_at": payout.paid_at,
        "reference": payout.reference,
        "note": payout.note,
    }


def _amount(amount: int) -> Decimal:
    return units(amount)


# -- sending


def claim(tx: Tx, now: float, limit: int) -> list[Due]:
    """Take some messages to be sent, for as long as the lease."""
    due = []
    for message in tx.due_deliveries(now, AT_ONCE, limit):
        webhook = tx.webhook_by_seq(message.webhook)
        taken = msgspec.structs.replace(message, due_at=now + LEASE, attempts=message.attempts + 1, started_at=now)
        if webhook is not None and tx.save_delivery(message, taken):
            due.append(Due(taken, webhook))
    return due


def settle(tx: Tx, now: float, policy: Policy, due: Due, outcome: Outcome, draw: float) -> Webhook | None:
    """What came of a message: taken, to be sent again, or given up. The webhook, where that disabled it.

    Where somebody else has sent it meanwhile, because that took longer than the lease, this changes nothing.
    """
    before, error = due.delivery, outcome.error[:_LONGEST_ERROR]
    after = msgspec.structs.replace(before, status=outcome.status, error=error)
    if outcome.taken:
        after = msgspec.structs.replace(after, state="delivered", error="")
    else:
        due_at = now + pause(before.attempts, draw)
        late = due_at - before.since > policy.give_up_after
        after = msgspec.structs.replace(after, state="failed" if late else "pending", due_at=due_at)
    if not tx.save_delivery(before, after):
        return None
    webhook = tx.webhook_by_seq(due.webhook.seq)
    if webhook is None:
        return None
    if outcome.taken:
        if webhook.failures:
            tx.save_webhook(msgspec.structs.replace(webhook, failing_since=None, failures=0, resume_at=0.0))
        return None
    return _failed(tx, now, policy, webhook, outcome)


def _failed(tx: Tx, now: float, policy: Policy, webhook: Webhook, outcome: Outcome) -> Webhook | None:
    since = now if webhook.failing_since is None else webhook.failing_since
    rest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(webhook.failures, 20))
    after = msgspec.structs.replace(webhook, failing_since=since, failures=webhook.failures + 1, resume_at=now + rest)
    reason = ""
    if outcome.status == 410:
        reason = "its receiver answered 410: it is gone"
    elif now - since >= policy.disable_after:
        reason = f"everything sent to it failed for {(now - since) / 86_400:.1f} days"
    if not reason or webhook.disabled_at is not None:
        tx.save_webhook(after)
        return None
    after = msgspec.structs.replace(after, disabled_at=now, disabled_reason=reason)
    tx.save_webhook(after)
    return _changed(tx, after, tell=True)
