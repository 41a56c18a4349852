"""What has to happen by itself: leases lapse, jobs expire, silent miners go offline, old notices are forgotten."""

import msgspec

from pithead.core.jobs import Event
from pithead.exchange.dispatch import lapse
from pithead.exchange.events import MinerChanged
from pithead.exchange.jobs import withdraw
from pithead.exchange.ports import Tx
from pithead.exchange.rules import Rules

#: Seconds without a note that a coordinator is up after which none was. They note it every two seconds.
GRACE = 6.0
#: How many jobs one transaction takes on, so that it does not hold up those who wait for theirs.
BATCH = 200
#: Seconds for which telemetry is kept, a sample a minute: three days.
TELEMETRY_TTL = 3 * 86_400.0
#: Seconds from a job's end for which what its attempts brought forth meanwhile is kept: long enough to read the end of it.
OUTPUT_TTL = 600.0


class Swept(msgspec.Struct, frozen=True):
    """What one sweep did."""

    expired: int = 0
    lapsed: int = 0
    offline: int = 0
    #: Seconds that were made good to all leases before.
    made_good: float = 0.0

    @property
    def more(self) -> bool:
        """Whether it stopped at its bound."""
        return self.expired == BATCH or self.lapsed == BATCH


def sweep(tx: Tx, now: float, rules: Rules) -> Swept:
    """Expire what is overdue, then lapse leases, then mark silent miners; nothing if another coordinator is at it."""
    if not tx.alone("upkeep"):
        return Swept()
    made_good = _make_good(tx, now)
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
    return Swept(len(overdue), len(lapsed), len(silent), made_good)


def prune(tx: Tx, now: float, rules: Rules) -> None:
    """Forget what nobody will ask for any more."""
    tx.prune(now - rules.notice_ttl)
    tx.prune_telemetry(now - TELEMETRY_TTL)
    tx.prune_outputs(now - OUTPUT_TTL, BATCH)


def say_alive(tx: Tx, now: float) -> float:
    """Note that a coordinator is up; the seconds that were made good before."""
    return _make_good(tx, now) if tx.alone("upkeep") else 0.0


def resume(tx: Tx, now: float) -> float:
    """At a coordinator's start: make good the time in which none was up, to the second; how much that was.

    Where others are up, all there can be to make good is what `sweep` makes good too.
    """
    if not tx.alone("upkeep"):
        return 0.0
    return _make_good(tx, now, 0.0 if tx.only_one() else GRACE)


def _make_good(tx: Tx, now: float, grace: float = GRACE) -> float:
    """Time in which no coordinator was up – or none could write, or all stood still – counts against no lease.

    Nor against a miner; and since work that was finished meanwhile can still be delivered, the deadlines of held jobs
    move along. A clock that was set counts as such time, too, and forwards as well as back.
    """
    before = tx.alive_at()
    away = 0.0 if before is None else now - before
    tx.set_alive(now)
    if abs(away) <= grace:
        return 0.0
    tx.extend(away)
    return away
