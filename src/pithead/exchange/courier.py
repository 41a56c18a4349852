"""Sends what is to be told to webhooks, some at a time, for as long as the coordinator runs."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from pithead.core.webhooks import Policy, signatures
from pithead.exchange import webhooks
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.webhooks import Due, Outcome

_log = logging.getLogger("pithead.webhooks")

#: Messages on their way at the same time.
SLOTS: Final = 16
#: Seconds between two looks whether something is due, where nobody says so.
_LOOK_EVERY: Final = 1.0
#: Messages of the log that are forgotten at a turn.
_BATCH: Final = 500

#: Sends a body with these headers to a URL, once. Raises nothing.
Send = Callable[[str, Mapping[str, str], bytes], Awaitable[Outcome]]
#: [0, 1), seldom the same for two coordinators.
draw: Callable[[], float] = random.SystemRandom().random


class Vault(Protocol):
    """Keeps secrets that have to be read again."""

    def seal(self, secret: str, name: str) -> bytes:
        """The secret of what is called so, as it is stored."""

    def open(self, stored: bytes, name: str) -> str:
        """The secret. Raises."""


class Courier:
    """Of several coordinators each has one; what one has taken the others leave."""

    def __init__(self, coordinator: Coordinator, send: Send, vault: Vault, policy: Policy) -> None:
        self._coordinator, self._send, self._vault, self._policy = coordinator, send, vault, policy
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send, until cancelled. What is under way then is sent again after its lease, by whomever."""
        try:
            while True:
                try:
                    await self._send_some()
                except Exception:
                    # The database may be away: it is looked after elsewhere, and so is the word about it.
                    _log.debug("could not look for what is to be sent", exc_info=True)
                await self._coordinator.outbox.heard(_LOOK_EVERY)
        finally:
            for task in self._under_way:
                task.cancel()
            if self._under_way:
                await asyncio.wait(self._under_way)

    async def turn(self) -> int:
        """Send what is due now, and wait for what comes of it; how many."""
        tasks = await self._send_some()
        if tasks:
            await asyncio.wait(tasks)
        return len(tasks)

    async def prune(self) -> None:
        """Forget what the log need not know any more."""
        if self._coordinator.hooked:
            policy = self._policy
            await self._coordinator.run(lambda tx, now: tx.prune_deliveries(now - policy.keep_log, _BATCH))

    async def _send_some(self) -> list["asyncio.Task[None]"]:
        coordinator, free = self._coordinator, SLOTS - len(self._under_way)
        if not coordinator.hooked or free <= 0:
            return []
        if not await coordinator.peek(lambda tx: tx.has_due_delivery(coordinator.now())):
            return []
        due = await coordinator.run(lambda tx, now: webhooks.claim(tx, now, free))
        tasks = [asyncio.create_task(self._deliver(one), name=one.delivery.id) for one in due]
        for task in tasks:
            self._under_way.add(task)
            task.add_done_callback(self._done)
        return tasks

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        # There may be more for the same webhook.
        self._coordinator.outbox.ring()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("what came of %s could not be written down, and it is sent again: %s", task.get_name(), error)

    async def _deliver(self, due: Due) -> None:
        message, webhook, now = due.delivery, due.webhook, self._coordinator.now()
        try:
            kept = [webhook.secret]
            if webhook.old_secret is not None and webhook.old_until > now:
                kept.append(webhook.old_secret)
            secrets = [self._vault.open(one, webhook.id) for one in kept]
        except Exception as error:
            _log.error("the secret of webhook %s cannot be read (%s): rotate it", webhook.id, error)
            outcome = Outcome(None, "the coordinator cannot read the webhook's secret; rotate it")
        else:
            timestamp = int(now)
            headers = {
                "content-type": "application/json",
                "webhook-id": message.id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signatures(secrets, message.id, timestamp, message.body),
            }
            outcome = await self._send(webhook.url, headers, message.body)
        policy, spread = self._policy, draw()
        disabled = await self._coordinator.run(lambda tx, at: webhooks.settle(tx, at, policy, due, outcome, spread))
        if disabled is not None:
            _log.warning("webhook %s is disabled: %s", disabled.id, disabled.disabled_reason)
