"""The exchange as one process runs it: operations in, durable outcomes out, and what is kept in memory beside the database.

In memory are the board of queued jobs, the keys seen so far, and who waits for a job or for an offer. All of it is fed by
the events of committed transactions, on the event loop's thread, and all of it can be rebuilt from the database.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from pithead.core import matching
from pithead.core.board import Board, Kind, window_of
from pithead.core.jobs import Job, State, is_finished
from pithead.core.miners import Miner
from pithead.exchange import jobs, miners, payouts, presence, upkeep, webhooks
from pithead.exchange.events import Event, Heard, HooksChanged, JobChanged, KeysChanged
from pithead.exchange.fleet import Fleet
from pithead.exchange.ids import digest
from pithead.exchange.live import Bell, Live
from pithead.exchange.miners import Beat
from pithead.exchange.newest import Newest
from pithead.exchange.ports import Signer, Tx
from pithead.exchange.presence import Known, Presence
from pithead.exchange.principals import Keys, Principal, read_principal, valid
from pithead.exchange.promises import Promise
from pithead.exchange.rules import Rules
from pithead.exchange.tally import Load, Tally
from pithead.exchange.waiting import Waiting

T = TypeVar("T")

_log = logging.getLogger("pithead")

#: Seconds between two counts of a queue that other coordinators change too.
RECOUNT_EVERY: Final = 15.0


class Database(Protocol):
    """What the coordinator needs of its store."""

    @property
    def shared(self) -> bool:
        """Whether other coordinators may use it too: then events can arrive late, and not in the order of the commits."""

    @property
    def look(self) -> Callable[[Callable[[Tx], Any]], Any] | None:
        """A short read of what is committed, without waiting; `None` where the database is elsewhere."""

    def run(self, operation: Callable[[Tx], T]) -> Awaitable[T]:
        """Run an operation; its outcome once it is durable."""

    def run_into(self, operation: Callable[[Tx], Any], promise: Promise) -> None:
        """Run an operation, and give the promise its outcome once it is durable."""

    def peek(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        """A short read of what is committed."""

    def read(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        """A read of any length, off the event loop."""

    def due(self, now: float) -> Awaitable[bool]:
        """Whether any lease, deadline or miner is due."""

    async def attend(self) -> None:
        """From here on, hear what other coordinators do."""

    def hears(self) -> bool:
        """Whether what others did up to a few seconds ago has been heard."""

    def load(self) -> Load:
        """How it takes what is asked of it."""


class Coordinator:
    """One process's face of the exchange. Lives on one event loop."""

    def __init__(self, rules: Rules, clock: Callable[[], float], signer: Signer) -> None:
        self.rules = rules
        self.signer = signer
        self._clock = clock
        self._database: Database
        #: Whether other coordinators may use it too.
        self._shared = False
        self.board = Board()
        self.presence = Presence(rules)
        self.fleet = Fleet()
        self.tally = Tally()
        #: What happens, for those who watch.
        self.live = Live(clock)
        #: The accounts that have webhooks, and what rings when there may be something to send.
        self.hooked: set[int] = set()
        self.outbox = Bell()
        self._keys = Keys()
        self._client_ids: dict[int, str] = {}
        self._job_waiters: dict[str, set[asyncio.Future[None]]] = {}
        self.waiting = Waiting(self._is_ready)
        self._filling: asyncio.Future[None] | None = None
        #: Where others use the database too: the news of its jobs, those that came while the board is set up, whether some
        #: may have been missed, and when the queue was last counted.
        self._newest = Newest()
        self._meanwhile: list[tuple[Job, bool]] | None = None
        self._gap = False
        self._counted_at = 0.0
        self._stopping = False

    def now(self) -> float:
        """The coordinator's clock, in seconds since the epoch: the only one that judges anything."""
        return self._clock()

    async def start(self, database: Database) -> float:
        """Take up where the last coordinator stopped; the seconds in which none was up."""
        self._database = database
        self._shared = self.presence.shared = database.shared
        away = await self.run(upkeep.resume)
        self._meanwhile = []
        await database.attend()
        await self._set_up_board()
        return away

    async def _set_up_board(self) -> None:
        """Count the queue, read the first jobs of each kind, and then take up what changed meanwhile."""
        self._gap, self._meanwhile = False, self._meanwhile or []
        try:
            now = self._clock()
            kinds, resting, newest, hooked = await self.read(
                lambda tx: (tx.queued_kinds(now), tx.queued_resting(now), tx.newest_job(), tx.hooked_accounts())
            )
            self.hooked = set(hooked)
            board = Board(window=window_of(len(kinds)))
            for kind, count in kinds:
                board.expect(kind, count)
            for job in resting:
                board.add(job, now)
            self.board, self._counted_at = board, now
            self._newest.counted(newest)
        except BaseException:
            self._gap = True
            raise
        finally:
            news, self._meanwhile = self._meanwhile, None
        for job, left in news:
            self._hear(job, now, left)
        await self._fill(self.board.hungry())

    def stop(self) -> None:
        """Let everybody who waits go, so that an orderly stop need not wait for them."""
        self._stopping = True
        self.live.end()
        self.waiting.wake_all()
        for future in [f for waiters in self._job_waiters.values() for f in waiters]:
            _resolve(future)

    def run(self, operation: Callable[[Tx, float], T]) -> Awaitable[T]:
        """Run an operation; its outcome once it is durable. The time is that of its execution."""
        if self.hooked:
            return self._database.run(lambda tx: self._told(tx, operation))
        return self._database.run(lambda tx: operation(tx, self._clock()))

    def run_into(self, operation: Callable[[Tx, float], Any], promise: Promise) -> None:
        """Run an operation, and give the promise its outcome once it is durable."""
        if self.hooked:
            self._database.run_into(lambda tx: self._told(tx, operation), promise)
        else:
            self._database.run_into(lambda tx: operation(tx, self._clock()), promise)

    def _told(self, tx: Tx, operation: Callable[[Tx, float], T]) -> T:
        """Run the operation, and write down in the same transaction what webhooks are to be told of it."""
        now = self._clock()
        outcome = operation(tx, now)
        if tx.events:
            webhooks.record(tx, now, self.hooked)
        return outcome

    def peek(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        """A short read of what is committed."""
        return self._database.peek(read)

    def read(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        """A read of any length, off the event loop."""
        return self._database.read(read)

    def load(self) -> Load:
        """How the database takes what is asked of it."""
        return self._database.load()

    # -- events

    def on_events(self, events: Sequence[Event]) -> None:
        """Let what has become durable take effect in memory."""
        now = self._clock()
        self.tally.count(events)
        self.presence.forget(events)
        self.fleet.note(events)
        if self.live.watched:
            self.live.take(events)
        if self.hooked:
            self.outbox.ring()
        for event in events:
            match event:
                case JobChanged(before, after):
                    if self._shared:
                        self._hear(after, now, before is not None and before.state is State.QUEUED)
                    else:
                        self._job_changed(before, after, now)
                case KeysChanged(owner):
                    self._keys.forget(owner)
                case HooksChanged(account, active):
                    self._hook(account, active)
                case _:
                    pass
        self._feed_if_hungry()

    def on_heard(self, heard: Heard) -> None:
        """Let what other coordinators did take effect in memory."""
        now = self._clock()
        self.presence.hear(heard)
        for job in heard.jobs:
            self._hear(job, now, job.seq in heard.left)
        for owner in heard.keys:
            self._keys.forget(owner)
        for account, active in heard.hooked:
            self._hook(account, active)
        if self.live.watched:
            self.live.hear(heard.jobs, heard.miners, heard.payouts)
        self._feed_if_hungry()

    def _hook(self, account: int, active: bool) -> None:
        (self.hooked.add if active else self.hooked.discard)(account)

    def on_gap(self) -> None:
        """Something may have happened unheard: nothing that is kept in memory is to be believed."""
        self._gap = True
        self._keys.forget_all()
        self.presence.forget_all()
        self.live.gap()

    def _hear(self, job: Job, now: float, left: bool) -> None:
        """A job is like this, as far as is known; it may have been so for a while."""
        for future in self._job_waiters.get(job.id, ()):
            _resolve(future)
        if self._meanwhile is not None:
            self._meanwhile.append((job, left))
            return
        news = self._newest.hear(job, now, left)
        if news.left:
            self.board.remove(job)
        if news.joined:
            self.board.add(job, now)
            if job.not_before <= now:
                self.waiting.wake_for(job, now)

    def _job_changed(self, before: Job | None, after: Job, now: float) -> None:
        if before is not None and before.state is State.QUEUED:
            self.board.remove(before)
        if after.state is State.QUEUED:
            self.board.add(after, now)
            if after.not_before <= now:
                self.waiting.wake_for(after, now)
        if before is None or before.state is not after.state:
            for future in self._job_waiters.get(after.id, ()):
                _resolve(future)

    # -- keys

    def principal(self, key: str) -> Principal | None | Awaitable[Principal | None]:
        """Whose key this is; `None` for one that is unknown, revoked or past its end.

        To be awaited where it has to be looked up first.
        """
        found = self.known_principal(key)
        return self._look_up(digest(key)) if found is None and self._database.look is None else found

    def known_principal(self, key: str) -> Principal | None:
        """Whose key this is, where that is known or can be looked up at once."""
        hashed = digest(key)
        found = self._keys.find(hashed) if self._database.hears() else None
        if found is None and (look := self._database.look) is not None:
            found = look(lambda tx: read_principal(tx, hashed))
            if found is not None:
                self._keys.keep(found, self._keys.changes)
        return None if found is None else valid(found, hashed, self._clock())

    async def _look_up(self, hashed: bytes) -> Principal | None:
        since = self._keys.changes
        found = await self.peek(lambda tx: read_principal(tx, hashed))
        if found is None:
            return None
        self._keys.keep(found, since)
        return valid(found, hashed, self._clock())

    async def still_valid(self, principal: Principal) -> bool:
        """Whether a key that was let in earlier would be let in now, for those whose calls go on for long."""
        found = self._keys.find(principal.digest) if self._database.hears() else None
        if found is None:
            return await self._look_up(principal.digest) is not None
        return valid(found, principal.digest, self._clock()) is not None

    # -- the board's supply

    def _feed_if_hungry(self) -> None:
        if self._filling is None and self.board.is_hungry:
            self._filling = asyncio.ensure_future(self._feed())

    async def _feed(self) -> None:
        """Fill what runs low. What cannot be read now is tried again by the sweep."""
        try:
            before: list[Kind] = []
            # A kind that is as hungry as before, with nothing to be had, is looked after at the next sweep.
            while (kinds := self.board.hungry()) and kinds != before:
                await self._fill(kinds)
                before = kinds
        except Exception:
            _log.exception("could not read the next jobs of the queue")
        finally:
            self._filling = None

    async def _fill(self, kinds: Sequence[Kind], at_least: int = 0) -> None:
        limit = max(self.board.window, at_least)
        for kind in kinds:
            now, after, found, last = self._clock(), self.board.begin_fill(kind), list[Job](), False
            try:
                found = await self.peek(lambda tx, kind=kind, after=after, now=now: tx.queued(kind, after, now, limit))  # type: ignore[misc]
                last = len(found) < limit
            finally:
                self.board.fill(kind, found, last=last)
            if found:
                self.waiting.wake_for(found[0], self._clock())

    async def _keep_count(self) -> None:
        """Set right what came out of count: news of other coordinators can be late, or of what was counted already."""
        if self._gap:
            await self._set_up_board()
        elif self._shared and self._clock() - self._counted_at >= RECOUNT_EVERY:
            now = self._counted_at = self._clock()
            self.board.recount(dict(await self.read(lambda tx: tx.queued_kinds(now))))

    # -- heartbeats

    async def beat(self, miner_id: str, names: Sequence[str], telemetry: bytes | None) -> Beat:
        """The miner is there: renew the leases of the jobs it names, or of all where it names none. Raises `NotFound`."""
        beat = self.beat_now(miner_id, names, telemetry)
        if beat is not None:
            return beat
        since = self.presence.changes
        beat = await self.run(lambda tx, now: miners.heartbeat(tx, now, self.rules, miner_id, names, telemetry))
        if self._shared and {lease.job_id for lease in beat.held}.issuperset(names):
            # The next one need not ask. (Where it names others, what it is told of those is for this once.)
            self.presence.keep(Known(beat.miner, beat.held, beat.stop, self._clock()), since)
        return beat

    def beat_now(self, miner_id: str, names: Sequence[str], telemetry: bytes | None) -> Beat | None:
        """Likewise, from memory; `None` where that is not enough, and nothing has happened."""
        now = self._clock()
        return None if self._known_now(miner_id, now) is None else self.presence.beat(now, miner_id, names, telemetry)

    def _known_now(self, miner_id: str, now: float) -> Known | None:
        """How the miner stands, where that is known or can be read at once. Raises `NotFound`."""
        if not self._database.hears():
            return None
        known = self.presence.known(miner_id, now)
        if known is None and (look := self._database.look) is not None:
            known = look(lambda tx: presence.read(tx, now, miner_id))
            self.presence.keep(known, self.presence.changes)
        return known

    async def known(self, miner_id: str, now: float) -> Known:
        """How the miner stands: from memory where that is fresh. Raises `NotFound`."""
        known = self._known_now(miner_id, now)
        if known is None:
            since = self.presence.changes
            known = await self.peek(lambda tx: presence.read(tx, now, miner_id))
            self.presence.keep(known, since)
        return known

    async def write_down(self, *, everything: bool = False) -> None:
        """Make durable what was heard of miners and is due, or all of it."""
        for batch in self.presence.unwritten(math.inf if everything else self._clock()):
            try:
                await self.run(lambda tx, now, batch=batch: presence.write_down(tx, batch))  # type: ignore[misc]
            except BaseException:
                self.presence.not_written(batch)
                raise

    # -- what is offered

    def queue_length(self, miner: Miner, held: int) -> int:
        """How many queued jobs the miner could take now."""
        return 0 if matching.unready(miner, held) else self.board.count(miner)

    async def available(self, miner_id: str, limit: int, wait: float) -> list[Job]:
        """The best jobs for the miner; where there are none, those that come within `wait` seconds."""
        offered = await self._offers(miner_id, limit)
        if offered or wait <= 0 or self._stopping:
            return offered
        miner = (await self.known(miner_id, self._clock())).miner
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = self.waiting.add(miner, partial(_resolve, future))
        try:
            # Looked at again now that it waits: a job that came since the first look has woken nobody.
            offered = await self._offers(miner_id, limit)
            if offered or self._stopping:
                return offered
            await asyncio.wait([future], timeout=wait)
        finally:
            self.waiting.remove(ticket)
        return await self._offers(miner_id, limit)

    def offers_now(self, miner_id: str, limit: int) -> list[Job] | None:
        """The best jobs for the miner, from memory; `None` where that is not enough."""
        now = self._clock()
        known = self._known_now(miner_id, now)
        if known is None:
            return None
        if matching.unready(known.miner, len(known.held)):
            return []
        offered = self.board.best(known.miner, now, limit)
        return None if len(offered) < limit and self.board.short(known.miner, now, limit) else offered

    def known_client_ids(self, jobs: Sequence[Job]) -> Mapping[int, str] | None:
        """Whose jobs these are, by the clients' numbers; `None` where one is not known."""
        known = self._client_ids
        return known if all(job.client in known for job in jobs) else None

    async def client_ids(self, jobs: Sequence[Job]) -> Mapping[int, str]:
        """Whose jobs these are, by the clients' numbers. An id never changes: it is read once."""
        if missing := {job.client for job in jobs if job.client not in self._client_ids}:
            found = await self.peek(lambda tx: [tx.client_by_seq(seq) for seq in missing])
            self._client_ids.update((client.seq, client.id) for client in found if client is not None)
        return self._client_ids

    def _is_ready(self, miner: Miner) -> bool:
        known = self.presence.known(miner.id, self._clock())
        return known is None or not matching.unready(known.miner, len(known.held))

    async def _offers(self, miner_id: str, limit: int) -> list[Job]:
        known = await self.known(miner_id, self._clock())
        miner = known.miner
        if matching.unready(miner, len(known.held)):
            return []
        offered = self.board.best(miner, self._clock(), limit)
        if len(offered) < limit and (kinds := self.board.short(miner, self._clock(), limit)):
            await self._fill(kinds, limit)
            offered = self.board.best(miner, self._clock(), limit)
        return offered

    async def finished(self, job_id: str, client_id: str | None, wait: float) -> Job:
        """The job, as soon as it is finished or `wait` seconds are over. Raises `NotFound`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            future: asyncio.Future[None] = loop.create_future()
            # Registered before the look, so that a change between the two is not missed.
            waiters = self._job_waiters.setdefault(job_id, set())
            waiters.add(future)
            try:
                job = await self.peek(lambda tx: jobs.find_own(tx, job_id, client_id))
                left = until - loop.time()
                if is_finished(job) or left <= 0 or self._stopping:
                    return job
                await asyncio.wait([future], timeout=left)
            finally:
                waiters.discard(future)
                if not waiters:
                    self._job_waiters.pop(job_id, None)

    # -- what happens by itself

    async def sweep(self) -> None:
        """Let lapse, expire and go offline what is due, and put jobs whose back-off is over up for offer."""
        # First what was heard: a lease that was renewed must not lapse.
        await self.write_down()
        self.live.settle()
        now = self._clock()
        for job in self.board.wake(now):
            self.waiting.wake_for(job, now)
        await self._keep_count()
        await self.fleet.keep(now, self.read)
        if self._filling is None:
            await self._feed()
        # What nobody of those that were woken took.
        self.waiting.recheck(lambda miner: bool(self.board.best(miner, now, 1)))
        while await self._database.due(self._clock()):
            swept = await self.run(lambda tx, at: upkeep.sweep(tx, at, self.rules))
            _report(swept.made_good)
            if not swept.more:
                break

    async def say_alive(self) -> None:
        """Note that this coordinator is up, and forget what is old."""
        await self.write_down()

        def operation(tx: Tx, now: float) -> float:
            made_good = upkeep.say_alive(tx, now)
            upkeep.prune(tx, now, self.rules)
            return made_good

        _report(await self.run(operation))

    async def pay_out(self) -> None:
        """Make the payouts that the schedule wants by now."""
        while await self.run(lambda tx, now: payouts.run_schedule(tx, now, self.rules)):
            pass


def _report(made_good: float) -> None:
    if made_good:
        _log.warning("no coordinator could work for %.0f s; leases were extended by as much", made_good)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
