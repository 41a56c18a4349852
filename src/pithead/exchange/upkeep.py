"""What has to happen by itself: leases lapse, jobs expire, silent miners go offline, old notices are forgotten."""

import msgspec

from pithead.core.jobs import Event
from pithead.exchange.dispatch import lapse
from pithead.exchange.events import MinerChanged
from pithead.exchange.jobs import withdraw
from pithead.exchange.ports import Tx
from pithead.exchange.rules import Rules

#: How many jobs one transaction takes on, so that it does not hold up those who wait for theirs.
BATCH = 200


class Swept(msgspec.Struct, frozen=True):
    """What one sweep did."""

    expired: int
    lapsed: int
    offline: int

    @property
    def more(self) -> bool:
        """Whether it stopped at its bound."""
        return self.expired == BATCH or self.lapsed == BATCH


def sweep(tx: Tx, now: float, rules: Rules) -> Swept:
    """Expire what is overdue, then lapse leases, then mark silent miners."""
    # First the deadlines: a lease never runs beyond its job's, and an overdue job must not be queued again.
    overdue = tx.overdue(now, BATCH)
    for job in overdue:
        withdraw(tx, now, job, Event.EXPIRE, "expired")
    lapsed = tx.lapsed(now, BATCH)
    for job in lapsed:
        lapse(tx, now, rules, job)
    silent = tx.mark_offline(now)
    for miner in silent:
        tx.emit(MinerChanged(miner))
    return Swept(len(overdue), len(lapsed), len(silent))


def prune(tx: Tx, now: float, rules: Rules) -> None:
    """Forget what nobody will ask for any more."""
    tx.prune(now - rules.notice_ttl)


def say_alive(tx: Tx, now: float) -> None:
    """Note that a coordinator is up; `resume` counts the time since."""
    tx.set_alive(now)


def resume(tx: Tx, now: float) -> float:
    """At the start: the seconds in which no coordinator was up count against no lease and no miner. Returns them.

    Work that was finished meanwhile can still be delivered: the deadlines of held jobs move along.
    """
    before = tx.alive_at()
    away = max(0.0, now - before) if before is not None else 0.0
    if away:
        tx.extend(away)
    tx.set_alive(now)
    return away
