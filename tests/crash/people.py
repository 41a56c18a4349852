"""The clients and the operator of a campaign: they submit, cancel, repeat, credit and pay, and write all of it down."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.crash.history import Recorder

from pithead.client import AdminClient, AsyncClient
from pithead.client.errors import PitheadError
from pithead.wire.jobs import Submitted

#: Clients hold back while so many jobs are unfinished.
ENOUGH: Final = 80
#: The longest that anybody waits before trying again, in seconds: the SDK's own back-off would leave little load.
IMPATIENCE: Final = 0.25


async def shortly(seconds: float) -> None:
    """What the SDK sleeps with, for those who are impatient."""
    await asyncio.sleep(min(seconds, IMPATIENCE))


def briefly(seconds: float) -> None:
    """The same in a thread."""
    time.sleep(min(seconds, IMPATIENCE))


class Person:
    """Somebody who makes calls until told to stop."""

    def __init__(self, folder: Path, party: str, seed: int) -> None:
        self.random = Random(seed)
        self.recorder = Recorder(folder / f"{party}.jsonl", party)
        self.stopping = asyncio.Event()

    def new_key(self) -> str:
        """An idempotency key that nobody has used."""
        return f"{self.random.getrandbits(128):032x}"

    async def pause(self, shortest: float, longest: float) -> None:
        """Some seconds, or until told to stop."""
        try:
            await asyncio.wait_for(self.stopping.wait(), self.random.uniform(shortest, longest))
        except TimeoutError:
            return


class SimulatedClient(Person):
    """Submits jobs, alone and in batches, cancels some, and asks for some again under the same key."""

    def __init__(self, folder: Path, party: str, seed: int, client: AsyncClient, unfinished: Callable[[], int]) -> None:
        super().__init__(folder, party, seed)
        self._client, self._unfinished = client, unfinished
        #: What was acknowledged, by its key.
        self._orders: dict[str, list[dict[str, Any]]] = {}
        self._recent: list[str] = []

    async def run(self) -> None:
        """Until told to stop."""
        while not self.stopping.is_set():
            chance = self.random.random()
            if self._unfinished() > ENOUGH or (chance < 0.2 and self._recent):
                await self._cancel()
            elif chance < 0.3 and self._orders:
                await self._submit(self.random.choice(sorted(self._orders)))
            elif chance < 0.5:
                await self._submit(self.new_key(), size=self.random.randint(2, 6))
            else:
                await self._submit(self.new_key())
            await self.pause(0.01, 0.15)
        self.recorder.close()

    async def _submit(self, key: str, size: int = 1) -> None:
        orders = self._orders.get(key) or [self._order(key, number) for number in range(size)]
        about = {"key": key, "size": len(orders)}
        answer = await self.recorder.call(
            "submit", about, self._ask(orders, key), lambda jobs: {"jobs": [job.job_id for job in jobs]}
        )
        if answer is not None:
            self._orders[key] = orders
            self._recent = [*self._recent, *(job.job_id for job in answer)][-20:]

    async def _ask(self, orders: list[dict[str, Any]], key: str) -> list[Submitted]:
        if len(orders) == 1:
            return [await self._client.submit(**orders[0], idempotency_key=key)]
        return (await self._client.submit_batch(orders, idempotency_key=key)).jobs

    def _order(self, key: str, number: int) -> dict[str, Any]:
        return {
            "model": "simulated",
            "input": {"key": key, "number": number},
            "price": Decimal(self.random.randint(1, 50_000)) / 1_000_000 + Decimal("0.001"),
            "gpu_type": "cpu",
            "estimated_time": 1,
            "priority": self.random.randint(-2, 2),
            "timeout": 120,
            "max_attempts": 4,
            "require_result": self.random.random() < 0.5,
        }

    async def _cancel(self) -> None:
        if not self._recent:
            return
        job = self._recent.pop(self.random.randrange(len(self._recent)))
        await self.recorder.call("cancel", {"job": job}, self._client.cancel(job), lambda view: {"status": view.status})


class SimulatedOperator(Person):
    """Gives credit, decides on payouts, and looks how much is unfinished."""

    def __init__(self, folder: Path, seed: int, admin: AdminClient, clients: list[str]) -> None:
        super().__init__(folder, "operator", seed)
        self._admin, self._clients = admin, clients
        self.unfinished = 0

    async def run(self) -> None:
        """Until told to stop."""
        while not self.stopping.is_set():
            try:
                await self.look()
                requested = await asyncio.to_thread(lambda: self._admin.payouts(status="requested").payouts)
                approved = await asyncio.to_thread(lambda: self._admin.payouts(status="approved").payouts)
            except PitheadError:
                continue
            await self._credit()
            for payout in requested[:3]:
                await self._decide("reject" if self.random.random() < 0.3 else "approve", payout.payout_id)
            for payout in approved[:3]:
                await self._decide("pay", payout.payout_id)
            await self.pause(0.1, 0.5)
        self.recorder.close()

    async def look(self) -> None:
        """See how much is unfinished. Raises `PitheadError`."""
        overview = await asyncio.to_thread(self._admin.overview)
        self.unfinished = sum(overview.jobs.values())

    async def _credit(self) -> None:
        client, key, amount = self.random.choice(self._clients), self.new_key(), self.random.randint(1, 100_000)
        for _ in range(self.random.choice((1, 1, 2))):
            doing = asyncio.to_thread(
                self._admin.credit, client, Decimal(amount) / 1_000_000, key, idempotency_key=key
            )  # The key is the note as well: so the posting can be told from all others.
            about = {"key": key, "client": client, "amount": amount}
            await self.recorder.call("credit", about, doing, lambda _: {})

    async def _decide(self, what: str, payout: str) -> None:
        admin, reference = self._admin, f"transfer of {payout}"
        doing = {
            "approve": lambda: admin.approve_payout(payout),
            "reject": lambda: admin.reject_payout(payout),
            "pay": lambda: admin.mark_payout_paid(payout, reference),
        }[what]
        about = {"payout": payout, "reference": reference}
        await self.recorder.call(what, about, asyncio.to_thread(doing), lambda view: {"status": view.status})
