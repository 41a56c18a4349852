"""Heartbeats without a transaction each: how miners stand is kept in memory, and written down now and then.

A heartbeat changes two things: when a miner counts as offline, and when its leases lapse. Both are only ever judged by
the sweep, which writes down first what was heard and is due: what is stored of a miner always has two thirds of its time
left, and of a lease that was renewed three quarters. If this process dies before, the renewals of that while are lost, and
with them nothing else: time in which no coordinator was up counts against no lease and no miner (`upkeep.resume`), and
what was stored lasts for several heartbeats more.

Whatever else a heartbeat can change – a miner's admission, its coming back from being offline – is an operation as ever
(`miners.heartbeat`).

Where several coordinators share a database, each of them judges, by what is stored. So each writes down in time what it
heard, as above, and answers from memory only where what is stored lasts for long enough to be written before anybody could
judge: half of the time is still there. What the others do is heard of a moment later, and then read anew.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final

import msgspec

from pithead.core.jobs import Job, is_held
from pithead.core.leases import lease_end
from pithead.core.miners import Admission, Miner
from pithead.exchange import miners
from pithead.exchange.events import Event, JobChanged, MinerChanged
from pithead.exchange.events import Heard as News
from pithead.exchange.miners import Beat
from pithead.exchange.ports import Held, Tx
from pithead.exchange.rules import Rules

#: Seconds after which what is kept of a miner is read anew, whether or not anybody said that it changed.
_FRESH_FOR: Final = 120.0
#: For how long a heartbeat may go unwritten: this share of the time for which a miner counts as online, and of a lease's,
_ONLINE_SHARE: Final = 1 / 3
_LEASE_SHARE: Final = 1 / 4
#: and no more seconds than this; with telemetry than that.
_LONGEST: Final = 60.0
_LONGEST_WITH_TELEMETRY: Final = 50.0
#: Where others judge too: the share of the time that has to be left for an answer from memory.
_SHARED_LEFT: Final = 1 / 2
#: … and how many seconds one may be overdue to be written down. From then on each has to show that the database takes it.
_OVERDUE: Final = 5.0
#: How many heartbeats one operation writes down, so that it does not hold up those who wait for theirs.
BATCH: Final = 250


class Heard(msgspec.Struct, frozen=True):
    """A heartbeat that is not written down yet."""

    miner: int
    at: float
    offline_at: float
    #: The jobs whose leases it renews; empty: all.
    names: tuple[str, ...]
    renew_to: float
    renews: bool
    telemetry: bytes | None
    #: When it is to be written down at the latest.
    due: float


class Known:
    """How a miner stands, as it was read at some time."""

    __slots__ = ("held", "miner", "read_at", "stop")

    def __init__(self, miner: Miner, held: list[Held], stop: list[tuple[str, str]], read_at: float) -> None:
        self.miner = miner
        self.held = {lease.job_id: lease for lease in held}
        self.stop = stop
        self.read_at = read_at


def read(tx: Tx, now: float, miner_id: str) -> Known:
    """How the miner stands. Raises `NotFound`."""
    miner = miners.find(tx, miner_id)
    held = tx.held(miner.seq)
    return Known(miner, held, miners.to_stop(tx, miner, held, ()), now)


class Presence:
    """The miners that this coordinator hears of. Lives on the event loop's thread."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        ttl, online = rules.leases.lease_ttl, rules.offline_after
        #: The least that is left of a stored lease before it is written down anew, and of a stored time online.
        self._lease_left = ttl - min(ttl * _LEASE_SHARE, _LONGEST)
        self._online_for = min(online * _ONLINE_SHARE, _LONGEST)
        #: Whether other coordinators use the database too.
        self.shared = False
        self._least_lease, self._least_online = ttl * _SHARED_LEFT, online * _SHARED_LEFT
        #: Counts what was told of changes, and knows for each miner when: what was read meanwhile may be older.
        self.changes = 0
        self._changed_at: dict[int, int] = {}
        self._all_changed_at = 0
        self._known: dict[str, Known] = {}
        self._ids: dict[int, str] = {}
        self._heard: dict[int, Heard] = {}
        #: When which miner is due; what is no longer so is passed over.
        self._due: list[tuple[float, int]] = []

    def beat(self, now: float, miner_id: str, names: Sequence[str], telemetry: bytes | None) -> Beat | None:
        """How the miner stands after this heartbeat; `None` where it takes an operation."""
        known = self._known.get(miner_id)
        if known is None:
            return None
        miner, held = known.miner, known.held
        if miner.admission is Admission.PENDING or not miner.online or miner.offline_at <= now:
            return None
        if self.shared and not self._lasts(known, now):
            return None
        # Each miner in a time of its own, so that a fleet that came at once is not written down at once ever after.
        share = 0.4 + 0.6 * (miner.seq * 0.618034 % 1)
        due = miner.offline_at - self._rules.offline_after + self._online_for * share
        renewed: Sequence[str] = ()
        if held:
            if names:
                if not all(name in held for name in names):
                    return None  # Somebody has to be told of a job that was lost: the database knows why.
                renewed = names
            else:
                renewed = tuple(held)
            ttl = self._rules.leases.lease_ttl
            for name in renewed:
                lease = held[name]
                if lease.lease_expires_at < lease.lease_limit_at:
                    due = min(due, lease.lease_expires_at - self._lease_left)
                end = max(lease.lease_expires_at, lease_end(now, ttl, lease.lease_limit_at))
                held[name] = Held(lease.job_id, end, lease.lease_limit_at)
        elif names:
            return None
        if telemetry is not None:
            due = min(due, now + _LONGEST_WITH_TELEMETRY)
        self._note(now, miner.seq, tuple(names), bool(renewed), telemetry, due)
        return Beat(miner, list(held.values()), known.stop)

    def _lasts(self, known: Known, now: float) -> bool:
        """Whether nobody can judge the miner or a lease before it is written down that it is there."""
        unwritten = self._heard.get(known.miner.seq)
        if unwritten is not None and now > unwritten.due + _OVERDUE:
            return False
        return known.miner.offline_at - now >= self._least_online and all(
            lease.lease_expires_at - now >= self._least_lease
            # One that is at its limit is not renewed by anybody.
            or now < lease.lease_expires_at == lease.lease_limit_at
            for lease in known.held.values()
        )

    def known(self, miner_id: str, now: float) -> Known | None:
        """How the miner stands; `None` where that has to be read anew."""
        known = self._known.get(miner_id)
        return known if known is not None and now - known.read_at <= _FRESH_FOR else None

    def keep(self, known: Known, since: int) -> None:
        """Keep how a miner stands, as it was read after so many changes; not where it may have changed since."""
        seq = known.miner.seq
        if max(self._all_changed_at, self._changed_at.get(seq, 0)) > since:
            return
        self._known[known.miner.id] = known
        self._ids[seq] = known.miner.id
        heard = self._heard.get(seq)
        if heard is not None:
            # What it said already, and is not written down, still holds.
            known.miner = msgspec.structs.replace(known.miner, offline_at=max(heard.offline_at, known.miner.offline_at))
            for name in heard.names or tuple(known.held) if heard.renews else ():
                if lease := known.held.get(name):
                    end = max(lease.lease_expires_at, min(heard.renew_to, lease.lease_limit_at))
                    known.held[name] = Held(lease.job_id, end, lease.lease_limit_at)

    def _note(
        self, now: float, miner: int, names: tuple[str, ...], renews: bool, telemetry: bytes | None, due: float
    ) -> None:
        before = self._heard.get(miner)
        if before is not None:
            if before.renews and not (renews and not names):
                # Both are renewed: the one that named some, and this one. To the later time, which harms nobody.
                names = tuple({*before.names, *names}) if before.names and (names or not renews) else ()
                renews = True
            telemetry = before.telemetry if telemetry is None else telemetry
            due = min(due, before.due)
        if before is None or due < before.due:
            heappush(self._due, (due, miner))
        until, renew_to = now + self._rules.offline_after, now + self._rules.leases.lease_ttl
        self._heard[miner] = Heard(miner, now, until, names, renew_to, renews, telemetry, due)

    def seen(self, miner: Miner) -> Miner:
        """The miner as read from the database, with what was heard of it since."""
        heard = self._heard.get(miner.seq)
        if heard is None or not miner.online:
            return miner
        return msgspec.structs.replace(miner, last_seen_at=heard.at, offline_at=heard.offline_at)

    def telemetry(self, miner: Miner) -> bytes | None:
        """The telemetry that it sent since the database was told."""
        heard = self._heard.get(miner.seq)
        return None if heard is None else heard.telemetry

    def forget(self, events: Sequence[Event]) -> None:
        """Read anew what these events changed."""
        self.changes += 1
        for event in events:
            match event:
                case JobChanged(before, after):
                    if self.shared:
                        # What others did to the job since may have been heard already.
                        self._drop_all((after.miner, None if before is None else before.miner))
                    else:
                        self._job_changed(before, after)
                case MinerChanged(miner, seen=seen):
                    # Of one that was there and is there, nothing that is kept is wrong.
                    if seen or not self.shared:
                        self._drop(miner)
                case _:
                    pass

    def hear(self, heard: News) -> None:
        """Read anew what other coordinators changed."""
        self.changes += 1
        self._drop_all(heard.miners)
        self._drop_all(job.miner for job in heard.jobs)

    def _drop_all(self, some: Iterable[int | None]) -> None:
        for miner in some:
            if miner is not None:
                self._drop(miner)

    def forget_all(self) -> None:
        """Read everything anew: nobody knows what changed meanwhile."""
        self.changes += 1
        self._all_changed_at = self.changes
        self._changed_at.clear()
        self._known.clear()
        self._ids.clear()

    def _job_changed(self, before: Job | None, after: Job) -> None:
        old = before.miner if before is not None and is_held(before) else None
        new = after.miner
        if old is not None and old != new:
            self._drop(old)  # It has to be told, and the database knows of what.
        if new is None:
            return
        known = self._known.get(self._ids.get(new, ""))
        if known is None or any(job_id == after.id for job_id, _ in known.stop):
            self._drop(new)
            return
        # The common ways are followed without asking: taken, reported on, completed.
        self._changed_at[new] = self.changes
        if is_held(after):
            assert after.lease_expires_at is not None
            assert after.lease_limit_at is not None
            lease = known.held.get(after.id)
            end = after.lease_expires_at if lease is None else max(lease.lease_expires_at, after.lease_expires_at)
            known.held[after.id] = Held(after.id, end, after.lease_limit_at)
        else:
            known.held.pop(after.id, None)

    def _drop(self, miner: int) -> None:
        self._changed_at[miner] = self.changes
        miner_id = self._ids.pop(miner, None)
        if miner_id is not None:
            self._known.pop(miner_id, None)

    def not_written(self, batch: Sequence[Heard]) -> None:
        """Writing it down failed: it is to be tried again, with what was heard since."""
        for heard in batch:
            newer = self._heard.get(heard.miner)
            self._heard[heard.miner] = heard
            heappush(self._due, (heard.due, heard.miner))
            if newer is not None:
                self._note(newer.at, newer.miner, newer.names, newer.renews, newer.telemetry, newer.due)

    def unwritten(self, now: float = math.inf) -> Iterator[list[Heard]]:
        """What is due by now (all there is, without a time), in batches; a batch that is given out is no longer here."""
        batch: list[Heard] = []
        while self._due and self._due[0][0] <= now:
            due, miner = heappop(self._due)
            heard = self._heard.get(miner)
            if heard is None or heard.due != due:
                continue
            del self._heard[miner]
            known = self._known.get(self._ids.get(miner, ""))
            if known is not None:
                known.miner = msgspec.structs.replace(
                    known.miner, last_seen_at=heard.at, offline_at=max(heard.offline_at, known.miner.offline_at)
                )
            batch.append(heard)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def write_down(tx: Tx, batch: Sequence[Heard]) -> None:
    """Make heartbeats durable. A miner that went offline meanwhile, or lost its leases, is not brought back by them."""
    # In one order, so that two coordinators that heard of the same miners do not wait for each other.
    for heard in sorted(batch, key=attrgetter("miner")):
        tx.heard(heard.miner, heard.at, heard.offline_at)
        if heard.renews:
            tx.renew(heard.miner, heard.names or None, heard.renew_to)
        if heard.telemetry is not None:
            tx.set_telemetry(heard.miner, heard.at, heard.telemetry)
