"""What the agent offers now: keeps the owner's rules in force, and the registration true to them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pithead.agent.cache import Cache
from pithead.agent.gpus import Inventory
from pithead.agent.line import Line, Pace
from pithead.agent.owner.decide import Standing, refusal, withheld
from pithead.agent.owner.governor import Governor
from pithead.agent.record import Record
from pithead.agent.runners.base import About, Runner
from pithead.agent.service import notify
from pithead.client import ApiError, AsyncMinerClient, Unauthorized
from pithead.wire.miners import MinerView, Offer

log = logging.getLogger(__name__)

Telemetry = Callable[[], Awaitable[dict[str, Any]]]
#: Offers asked for where the owner passes some by: behind them may be others.
_MANY_OFFERS: Final = 100


class Duty:
    """Looks at machine and settings once in a while. `changed` is called when more or less may be taken than before."""

    def __init__(
        self,
        client: AsyncMinerClient,
        line: Line,
        runner: Runner,
        governor: Governor,
        record: Record,
        *,
        models: list[str],
        about: Mapping[str, About],
        machine: Inventory | None,
        telemetry: Telemetry | None,
        pace: Pace,
        speeds: Mapping[str, float],
        registered: Mapping[str, Any],
        changed: Callable[[], None],
        cache: Cache | None = None,
    ) -> None:
        self._client, self._line, self._runner, self._pace = client, line, runner, pace
        self._governor, self._record, self._cache = governor, record, cache
        self._models, self._machine, self._telemetry, self._changed = models, machine, telemetry, changed
        self._speeds, self._about, self._registered = dict(speeds), about, registered
        #: What the coordinator was last told of this miner; empty before the first time.
        self._told: dict[str, Any] = {}
        self._to_tell = asyncio.Event()
        self._begun = asyncio.Event()
        self._view: MinerView
        self._gpus: list[str] | None = None
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES")

    @property
    def standing(self) -> Standing:
        """Whether work may be taken now."""
        return self._governor.standing

    @property
    def models(self) -> list[str]:
        """The models that are offered now."""
        owner = self._governor.owner
        return [name for name in self._models if not withheld(owner, name, self._about.get(name))]

    async def begin(self) -> None:
        """Tell the coordinator what is offered, however long it takes."""
        await self._look()
        await self._tell()
        if self._machine is not None:
            _compare(self._machine, self._view)
        log.info("at work as %s for %s", self._view.miner_id, ", ".join(self.models) or "no model")
        self._begun.set()

    def room(self, held: int) -> int:
        """How many jobs more may be taken, where so many are held."""
        standing, most = self._governor.standing, self._view.max_concurrent
        # Asked while it still has us for draining, the coordinator would let us wait for nothing.
        if not standing.may or self._told["draining"]:
            return 0
        return (most if standing.at_once is None else min(most, standing.at_once)) - held

    def asks_for(self, offers: int) -> int:
        """How many offers to ask for, where so many would be of use."""
        owner = self._governor.owner
        picky = owner.minimum_price or owner.clients_refused or owner.clients_allowed is not None
        return _MANY_OFFERS if picky else offers

    def refuses(self, offer: Offer) -> bool:
        """Whether the owner's rules pass it by."""
        model, price = offer.model, float(offer.price)
        about = self._about.get(model)
        why = refusal(self._governor.owner, model=model, client_id=offer.client_id, price=price, about=about)
        if why is not None:
            self._record.refused(why)
            log.debug("%s is passed by: %s", offer.job_id, why)
        return why is not None

    async def watch(self) -> None:
        """Look on, for good; the manager of services is told that all is well each time."""
        notify("READY=1")
        while True:
            await asyncio.sleep(self._pace.look)
            await self._look()
            notify("WATCHDOG=1", f"STATUS={self._record.state.nothing_because() or 'at work'}")
            self._record.state.away = self._line.away
            await asyncio.to_thread(self._record.write) if self._record.is_kept else self._record.write()

    async def keep_told(self) -> None:
        """Tell the coordinator of every change, for good."""
        await self._begun.wait()
        while True:
            await self._to_tell.wait()
            self._to_tell.clear()
            try:
                await self._tell()
            except Unauthorized:
                raise
            except ApiError as error:
                # The owner's mistake, most likely: what is wrong stands in the answer, and the next change is told anew.
                log.warning("the coordinator does not take what the owner set: %s", error)
                self._told = self._offered()

    async def _look(self) -> None:
        sample = await self._telemetry() if self._telemetry else {}
        if self._governor.look(sample):
            self._changed()
        await self._choose_gpus()
        if self._cache is not None:
            await self._cache.trim()
        if self._offered() != self._told:
            self._to_tell.set()

    async def _tell(self) -> None:
        while (offered := self._offered()) != self._told:
            self._view = await self._line.insist(lambda offered=offered: self._client.update(**offered))  # type: ignore[misc]
            self._told = offered
            self._runner.prepare(self._view.max_concurrent)
            self._record.state.max_concurrent = self._view.max_concurrent
            self._changed()

    def _offered(self) -> dict[str, Any]:
        owner = self._governor.owner
        offered: dict[str, Any] = {"models": self.models, "draining": not self._governor.standing.may}
        if self._speeds:
            offered["speeds"] = {model: speed for model, speed in self._speeds.items() if model in self._models}
        for name, value in (("max_concurrent", owner.max_concurrent), ("price_per_hour", owner.price_per_hour)):
            if value is not None:
                offered[name] = value
            elif name in self._told and name in self._registered:
                # Taken back: the coordinator would stay with what it was told last.
                offered[name] = self._registered[name]
        if owner.gpus is not None and self._machine is not None and self._machine.has_gpu:
            offered["gpu_count"] = max(1, len(owner.gpus))
        return offered

    async def _choose_gpus(self) -> None:
        """Show the runners' processes the GPUs that are offered, and no others."""
        chosen = self._governor.owner.gpus
        if chosen == self._gpus:
            return
        self._gpus = chosen
        if chosen is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
        elif self._visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._visible
        else:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        # What is kept warm has the others open.
        await self._runner.close()


def _compare(machine: Inventory, view: MinerView) -> None:
    """Say where the machine is not what it was registered as: only its owner knows which of the two is meant."""
    if machine.note:
        log.warning("%s", machine.note)
    # The slots of a processor are for its owner to say.
    if machine.gpu_type != view.gpu_type or (machine.has_gpu and machine.count < view.gpu_count):
        registered, found = f"{view.gpu_count} × {view.gpu_type}", f"{machine.count} × {machine.gpu_type}"
        log.warning("registered with %s, but what is found here is %s", registered, found)
