"""What happens, for those who watch: clients, miners and the operator over HTTP, and whoever runs in this process.

Two ways, both fed by what became durable, here or at another coordinator:

- A *bell* says that something about one job or one miner may be different. Whoever hears it looks at the database. It
  holds nothing back and loses nothing, however slow its owner is.
- A *feed* brings what happened to an account – a client's jobs, a miner's jobs and payouts – or to all of them, in order. It
  is bounded: a reader that falls behind by more is cut off, and goes on from the id of the last event it has seen. What
  happened lately is kept for that, as long as somebody watches and some minutes after.

Nothing is kept, and nothing done, while nobody watches. Within the process:

    with exchange.live.feed() as feed:                    # or feed(miner.seq), feed(client.seq)
        while not feed.cut_off:
            for happened in await feed.next(15.0):        # none, once the seconds are over
                ...                                       # happened.what: a Job, a Payout, or a miner's number
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from pithead.core.jobs import Job, State
from pithead.core.payouts import Payout
from pithead.exchange.events import Event, HooksChanged, JobChanged, MinerChanged, PayoutChanged, lost_by
from pithead.exchange.webhook_ports import Webhook

#: Events that one reader may be behind.
BEHIND: Final = 1_000
#: Events that are kept for those who come back, and for how many seconds once nobody watches any more.
KEPT: Final = 20_000
KEPT_FOR: Final = 600.0
#: Streams that one account may have open at one coordinator.
STREAMS: Final = 200
#: Seconds by which two coordinators may hear of the same at different times.
SLACK: Final = 5.0
#: Jobs of which is known how they stood.
_KNOWN: Final = 50_000

#: What a bell is for: a job's id or a miner's number.
Subject = str | int


class Happened(msgspec.Struct, frozen=True):
    """Something that happened."""

    #: Names it, on every coordinator: what comes after it is what came after it here, or a little more.
    id: str
    at: float
    #: A job or a payout as it stands now, a webhook that was disabled, or the number of a miner whose state changed.
    what: Job | Payout | Webhook | int
    #: Whose it is: the numbers of clients and miners.
    accounts: frozenset[int]
    #: Whether it is no more than a word about a job's progress.
    minor: bool = False


class Bell:
    """Rings when something about its subject may be different."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Somebody looks, or will."""
        self._rung.set()

    async def heard(self, seconds: float) -> bool:
        """Whether it rang since it was last heard, or does within so many seconds."""
        if not self._rung.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._rung.wait()
        rung = self._rung.is_set()
        self._rung.clear()
        return rung


class Feed:
    """What one reader has not read yet."""

    def __init__(self, account: int | None, mark: str, resumed: bool) -> None:
        self.account = account
        #: The id to come back with, while it has read nothing.
        self.mark = mark
        #: Whether it goes on where it was. If not, what it shows has to be read anew.
        self.resumed = resumed
        #: Whether it fell behind, or the coordinator stops: nothing more comes.
        self.cut_off = False
        self._waiting: deque[Happened] = deque()
        self._bell = Bell()

    def wants(self, happened: Happened) -> bool:
        """Whether it is about the account. Who watches all of them is not told of every word of progress."""
        return not happened.minor if self.account is None else self.account in happened.accounts

    def put(self, happened: Happened) -> None:
        """Something more."""
        if len(self._waiting) >= BEHIND:
            self.cut_off = True
        else:
            self._waiting.append(happened)
        self._bell.ring()

    def end(self) -> None:
        """Nothing more comes."""
        self.cut_off = True
        self._bell.ring()

    @property
    def has_more(self) -> bool:
        """Whether something waits to be read."""
        return bool(self._waiting)

    async def next(self, seconds: float, most: int = 100) -> Sequence[Happened]:
        """What happened, the oldest first; nothing where nothing does within so many seconds, or it is cut off."""
        if not self._waiting and not self.cut_off:
            await self._bell.heard(seconds)
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]


class Live:
    """Lives on the event loop's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._run = secrets.token_hex(4)
        self._number = 0
        self._bells: dict[Subject, set[Bell]] = {}
        #: By account; under `None` those of all accounts.
        self._feeds: dict[int | None, set[Feed]] = {}
        self._recent: deque[Happened] = deque()
        #: From when on, and behind which number, nothing is missing of what is kept; `None` while nothing is.
        self._whole_from: float | None = None
        self._whole_behind = 0
        self._left_at = 0.0
        #: How jobs stood when they were last heard of: by that a word about progress is told from the rest.
        self._stood: dict[int, tuple[State, int]] = {}
        self._ended = False
        #: How many streams each account has open here.
        self._open: dict[str, int] = {}
        #: Whether anybody watches, or did so lately: else there is nothing to be told to anybody.
        self.watched = False

    # -- who watches

    @contextlib.contextmanager
    def stream(self, owner: str) -> Iterator[bool]:
        """One more stream of this account; whether it may have that."""
        there = self._open.get(owner, 0)
        if there >= STREAMS:
            yield False
            return
        self._open[owner] = there + 1
        try:
            yield True
        finally:
            left = self._open[owner] - 1
            if left:
                self._open[owner] = left
            else:
                del self._open[owner]

    @contextlib.contextmanager
    def bell(self, subject: Subject) -> Iterator[Bell]:
        """Hear of this job, by its id, or of this miner, by its number."""
        bell = Bell()
        self._bells.setdefault(subject, set()).add(bell)
        self.watched = True
        if self._ended:
            bell.ring()
        try:
            yield bell
        finally:
            bells = self._bells[subject]
            bells.discard(bell)
            if not bells:
                del self._bells[subject]
            self._settle()

    @contextlib.contextmanager
    def feed(self, account: int | None = None, after: str | None = None) -> Iterator[Feed]:
        """Hear of all that happens to this client or miner, or (`None`) to anybody; from behind the event `after` on."""
        now = self._clock()
        if self._whole_from is None:
            self._whole_from, self._whole_behind = now, self._number
        self.watched = True
        missed = None if after is None else self._behind(after)
        feed = Feed(account, self._id(self._number, now) if missed is None else after or "", missed is not None)
        for happened in missed or ():
            if feed.wants(happened):
                feed.put(happened)
        self._feeds.setdefault(account, set()).add(feed)
        if self._ended:
            feed.end()
        try:
            yield feed
        finally:
            self._feeds[account].discard(feed)
            if not self._feeds[account]:
                del self._feeds[account]
            self._left_at = self._clock()

    def _behind(self, after: str) -> list[Happened] | None:
        """What happened after this event, or at about its time at another coordinator; `None` where some may be missing."""
        try:
            number, at, run = after.split("-")
            since, count = int(at) / 1000, int(number)
        except ValueError:
            return None
        assert self._whole_from is not None
        if run == self._run:
            return None if count < self._whole_behind else [h for h in self._recent if _number(h) > count]
        since -= SLACK
        return None if since < self._whole_from else [h for h in self._recent if h.at >= since]

    def settle(self) -> None:
        """Forget what nobody comes back for any more. Called now and then."""
        if not self._feeds and self._clock() - self._left_at > KEPT_FOR:
            self._recent.clear()
            self._stood.clear()
            self._whole_from = None
        self._settle()

    def _settle(self) -> None:
        self.watched = bool(self._bells) or self._whole_from is not None

    def end(self) -> None:
        """The coordinator stops: let everybody go."""
        self._ended = True
        self._cut_off()
        self.ring_all()

    def _cut_off(self) -> None:
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.end()

    def ring_all(self) -> None:
        """Anything may be different."""
        for bells in self._bells.values():
            for bell in bells:
                bell.ring()

    @property
    def ended(self) -> bool:
        """Whether the coordinator stops."""
        return self._ended

    def gap(self) -> None:
        """Something may have happened unheard: whoever reads a feed has to begin anew."""
        self._recent.clear()
        if self._whole_from is not None:
            self._whole_from, self._whole_behind = self._clock(), self._number
        self._cut_off()
        self.ring_all()

    # -- what happens

    def take(self, events: Iterable[Event]) -> None:
        """What became durable here."""
        for event in events:
            match event:
                case JobChanged(before, after):
                    loser = lost_by(before, after)
                    if loser is not None:
                        self._ring(loser)
                    self._job(after, loser)
                case MinerChanged(miner, seen=seen):
                    if seen:
                        self._miner(miner)
                case PayoutChanged(payout):
                    self._happened(payout, frozenset((payout.miner,)))
                case HooksChanged(account, _, webhook):
                    if webhook is not None:
                        self._happened(webhook, frozenset((account,)))
                case _:
                    pass

    def hear(self, jobs: Iterable[Job], miners: Iterable[int], payouts: Iterable[Payout]) -> None:
        """What other coordinators did: jobs and payouts as they stand, and the miners that were changed or lost a job."""
        for job in jobs:
            self._job(job, None)
        for miner in miners:
            self._miner(miner)
        for payout in payouts:
            self._happened(payout, frozenset((payout.miner,)))

    def _job(self, job: Job, loser: int | None) -> None:
        self._ring(job.id)
        if self._whole_from is None:
            return
        stands = (job.state, job.attempts)
        minor = self._stood.get(job.seq) == stands
        if not minor:
            if len(self._stood) >= _KNOWN:
                self._stood.clear()
            self._stood[job.seq] = stands
        self._happened(job, frozenset({job.client, job.miner, loser} - {None}), minor)  # type: ignore[arg-type]

    def _miner(self, miner: int) -> None:
        self._ring(miner)
        self._happened(miner, frozenset((miner,)))

    def _ring(self, subject: Subject) -> None:
        for bell in self._bells.get(subject, ()):
            bell.ring()

    def _happened(self, what: Job | Payout | Webhook | int, accounts: frozenset[int], minor: bool = False) -> None:
        if self._whole_from is None:
            return
        self._number += 1
        now = self._clock()
        happened = Happened(self._id(self._number, now), now, what, accounts, minor)
        self._recent.append(happened)
        if len(self._recent) > KEPT:
            oldest = self._recent.popleft()
            self._whole_from, self._whole_behind = oldest.at, _number(oldest)
        for account in (None, *accounts):
            for feed in self._feeds.get(account, ()):
                if not feed.cut_off and feed.wants(happened):
                    feed.put(happened)

    def _id(self, number: int, at: float) -> str:
        return f"{number}-{int(at * 1000)}-{self._run}"


def _number(happened: Happened) -> int:
    return int(happened.id.partition("-")[0])
