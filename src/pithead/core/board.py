"""The queued jobs by what they ask for, in memory: what `available` and `queue_length` read.

Jobs that ask for the same gpu type, model, gpu count and pay the same rate are one *kind*; a miner fits all jobs of a kind
or none. Of each kind the first few dozen jobs are here, and of the rest only how many they are: when the first ones run low
the board is *hungry*, and is filled again from the database. So neither memory nor the cost of an offer grows with the queue.

Miners that fit the same kinds share a *view*: the kinds in the order of their first jobs, and how many jobs there are. It is
kept up to date as jobs come and go, so that an offer is read off it.

The database remains the truth: what is offered here can be gone when it is accepted, and accepting is decided there. The
same rules: a property test holds the board to `matching.misfit`.
"""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pithead.core.jobs import Job
from pithead.core.matching import ANY, avoids
from pithead.core.miners import Miner

#: Order within a kind and between kinds: the highest priority, then the oldest.
Key = tuple[int, int]

#: How many jobs of one kind are read at a time. It is hungry below a third of that, and cut back from four times that.
WINDOW: Final = 256
#: … where there are so many kinds that this would be more jobs altogether, fewer; but no fewer than that.
MOST_READ: Final = 100_000
LEAST: Final = 8
#: Views that are kept; the one that was not asked for the longest goes first.
_VIEWS: Final = 512


class Kind(NamedTuple):
    """What a job asks for, and the rate it pays."""

    gpu_type: str
    model: str
    gpu_count: int
    rate: int


class Before(NamedTuple):
    """The jobs of one kind that stand before a certain one."""

    #: How many are known to, and how many more may: they are only counted.
    known: int
    unsure: int
    #: Seconds that the first one should take.
    seconds: float


def kind_of(job: Job) -> Kind:
    """The kind that a job is of."""
    return Kind(job.gpu_type, job.model, job.gpu_count, job.rate)


def key_of(job: Job) -> Key:
    """Where a job stands among those of its kind."""
    return (-job.priority, job.seq)


class _Queue:
    """The jobs of one kind."""

    __slots__ = ("filling", "gone", "jobs", "keys", "kind", "late", "tail", "views")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        #: The first of them, in order.
        self.keys: list[Key] = []
        self.jobs: dict[Key, Job] = {}
        #: How many more there are in the database, all of them behind these.
        self.tail = 0
        self.views: list[_View] = []
        #: While the next ones are being read: what left the tail and what joined it meanwhile.
        self.filling = False
        self.gone: set[Key] = set()
        self.late: list[Job] = []


class _View:
    """What miners see that fit the same kinds."""

    __slots__ = ("count", "gpu_count", "gpu_type", "heads", "models", "rate")

    def __init__(self, gpu_type: str, gpu_count: int, rate: int, models: frozenset[str] | None) -> None:
        self.gpu_type = gpu_type
        self.gpu_count = gpu_count
        self.rate = rate
        self.models = models
        #: The kinds that fit and have jobs here, in the order of their first ones. No two keys are alike.
        self.heads: list[tuple[Key, _Queue]] = []
        #: How many jobs those kinds have.
        self.count = 0

    def fits(self, kind: Kind) -> bool:
        return (
            kind.gpu_type in (ANY, self.gpu_type)
            and kind.gpu_count <= self.gpu_count
            and kind.rate >= self.rate
            and (self.models is None or kind.model in self.models)
        )

    def move(self, queue: _Queue, before: Key | None, after: Key | None) -> None:
        """The first job of a kind is another one."""
        if before is not None:
            # A tuple of one is less than all that begin with the same.
            del self.heads[bisect_left(self.heads, (before,))]
        if after is not None:
            insort(self.heads, (after, queue), key=_first)


def _first(head: tuple[Key, _Queue]) -> Key:
    return head[0]


def _offered(job: Job, miner: Miner, now: float) -> bool:
    """Whether a miner that the job fits is offered it now."""
    return job.deadline > now and not avoids(job, miner.seq, now)


def window_of(kinds: int) -> int:
    """How many jobs of each kind to read at a time, where a queue has so many kinds."""
    return max(LEAST, min(WINDOW, MOST_READ // max(1, kinds)))


class Board:
    """Queued jobs by kind. Not thread-safe: one thread owns it."""

    def __init__(self, jobs: Iterable[Job] = (), now: float = 0.0, window: int = WINDOW) -> None:
        self.window = window
        #: gpu type -> model -> kind -> its jobs
        self._queues: dict[str, dict[str, dict[Kind, _Queue]]] = {}
        self._views: OrderedDict[tuple[str, int, int, frozenset[str] | None], _View] = OrderedDict()
        #: The rates that are paid, and by how many kinds: miners whose prices lie between the same two see the same.
        self._rates: list[int] = []
        self._paid_by: dict[int, int] = {}
        #: Jobs in back-off, by when they may be taken. Entries of jobs gone meanwhile are dropped as they come up.
        self._resting: list[tuple[float, int]] = []
        self._resting_jobs: dict[int, Job] = {}
        self._size = 0
        self._hungry: set[Kind] = set()
        for job in jobs:
            self.add(job, now)

    def __len__(self) -> int:
        """How many jobs are queued, those in back-off included."""
        return self._size + len(self._resting_jobs)

    def __contains__(self, job: Job) -> bool:
        """Whether the job itself is here, and not only counted."""
        queue = self._find(kind_of(job))
        return job.seq in self._resting_jobs or (queue is not None and key_of(job) in queue.jobs)

    def has_all_of(self, kind: Kind) -> bool:
        """Whether every queued job of the kind is here, and none only counted."""
        queue = self._find(kind)
        return queue is None or not (queue.tail or queue.filling)

    # -- jobs come and go

    def add(self, job: Job, now: float) -> None:
        """A job was queued."""
        if job.not_before > now:
            heapq.heappush(self._resting, (job.not_before, job.seq))
            self._resting_jobs[job.seq] = job
            return
        queue, key = self._queue(kind_of(job)), key_of(job)
        if key in queue.jobs:
            queue.jobs[key] = job
            return
        self._resize(queue, 1)
        if queue.tail and (not queue.keys or key > queue.keys[-1]):
            queue.tail += 1
            if queue.filling:
                queue.gone.discard(key)
                queue.late.append(job)
        else:
            self._insert(queue, key, job)
        self._look_after(queue)

    def remove(self, job: Job) -> None:
        """A job left the queue. One that is not here is no error."""
        if self._resting_jobs.pop(job.seq, None) is not None:
            return
        queue, key = self._find(kind_of(job)), key_of(job)
        if queue is None:
            return
        if queue.jobs.pop(key, None) is not None:
            at = bisect_left(queue.keys, key)
            del queue.keys[at]
            if at == 0:
                self._head_moved(queue, key)
        elif queue.tail:
            queue.tail -= 1
            if queue.filling:
                queue.gone.add(key)
        else:
            return
        self._resize(queue, -1)
        self._look_after(queue)

    def lengths(self) -> Iterator[tuple[Kind, int, float]]:
        """Each kind with how many jobs of it may be taken, and since when the first of them waits."""
        for models in self._queues.values():
            for kinds in models.values():
                for kind, queue in kinds.items():
                    since = min((job.created_at for job in queue.jobs.values()), default=0.0)
                    yield kind, len(queue.keys) + queue.tail, since

    def wake(self, now: float) -> list[Job]:
        """Put the jobs whose back-off is over into the queue, and return them."""
        woken = []
        while self._resting and self._resting[0][0] <= now:
            job = self._resting_jobs.get(heapq.heappop(self._resting)[1])
            # A job that failed again meanwhile has a later entry of its own.
            if job is not None and job.not_before <= now:
                del self._resting_jobs[job.seq]
                self.add(job, now)
                woken.append(job)
        return woken

    # -- filling it from the database

    def expect(self, kind: Kind, count: int) -> None:
        """There are so many more queued jobs of this kind than are here."""
        queue = self._queue(kind)
        queue.tail += count
        self._resize(queue, count)
        self._look_after(queue)

    def recount(self, counts: Mapping[Kind, int]) -> None:
        """There are so many queued jobs of each kind that can be taken, those that are here included."""
        for queue in [q for models in self._queues.values() for kinds in models.values() for q in kinds.values()]:
            if queue.filling:
                continue  # What is being read now knows better.
            tail = max(0, counts.get(queue.kind, 0) - len(queue.keys))
            self._resize(queue, tail - queue.tail)
            queue.tail = tail
            self._look_after(queue)
        for kind, count in counts.items():
            if self._find(kind) is None:
                self.expect(kind, count)

    @property
    def is_hungry(self) -> bool:
        """Whether there are kinds of which the next jobs are to be read."""
        return bool(self._hungry)

    def hungry(self) -> list[Kind]:
        """The kinds of which the next jobs are to be read."""
        return list(self._hungry)

    def short(self, miner: Miner, now: float, limit: int) -> list[Kind]:
        """The kinds that fit the miner and of which there are more jobs than are here, where it is offered less than `limit`."""
        view = self._view(miner)
        if view is None:
            return []

        def offered(queue: _Queue) -> int:
            # Those that it avoids, and those that end, are in its way and still do not count.
            return sum(_offered(job, miner, now) for job in queue.jobs.values())

        return [q.kind for q in self._fitting(view) if q.tail and not q.filling and offered(q) < limit]

    def begin_fill(self, kind: Kind) -> Key | None:
        """The next jobs of a hungry kind are about to be read: those behind this key, or from the start."""
        queue = self._queue(kind)
        queue.filling = True
        self._hungry.discard(kind)
        return queue.keys[-1] if queue.keys else None

    def fill(self, kind: Kind, jobs: Iterable[Job], *, last: bool) -> None:
        """The next jobs of the kind, as they were read in order since `begin_fill`; `last`: there were no more.

        Without those in back-off: they are told of by `add`, at the start too.
        """
        queue = self._queue(kind)
        undisturbed = not (queue.gone or queue.late)
        head = queue.keys[0] if queue.keys else None
        for job in jobs:
            key = key_of(job)
            if key in queue.gone or key in queue.jobs:
                continue
            if self._resting_jobs.pop(job.seq, None) is None and queue.tail:
                queue.tail -= 1
            else:
                # Its rest is over and nobody woke it yet, or it was queued and nobody told of it yet.
                self._resize(queue, 1)
            insort(queue.keys, key)
            queue.jobs[key] = job
        for job in queue.late:
            key = key_of(job)
            if key in queue.jobs:
                queue.jobs[key] = job
            elif key not in queue.gone and queue.keys and key < queue.keys[-1]:
                # Everything in the tail has to be behind what is here.
                queue.tail -= 1
                insort(queue.keys, key)
                queue.jobs[key] = job
        queue.filling = False
        queue.gone, queue.late = set(), []
        if last and undisturbed and queue.tail:
            # Counted and not there: however that came about, now it is known.
            self._resize(queue, -queue.tail)
            queue.tail = 0
        if queue.keys and queue.keys[0] != head:
            self._head_moved(queue, head)
        self._look_after(queue)

    # -- what is offered

    def best(self, miner: Miner, now: float, limit: int) -> list[Job]:
        """The `limit` first jobs that fit the miner: by priority, then age."""
        view = self._view(miner)
        if view is None:
            return []
        found: list[Job] = []
        heads, at = view.heads, 0
        #: The next jobs of the kinds that were looked into, with their places.
        following: list[tuple[Key, int, _Queue]] = []
        while len(found) < limit:
            if at < len(heads) and not (following and following[0][0] < heads[at][0]):
                key, queue = heads[at]
                at += 1
                place = 1
                if place < len(queue.keys):
                    heapq.heappush(following, (queue.keys[place], place, queue))
            elif following:
                key, place, queue = following[0]
                place += 1
                if place < len(queue.keys):
                    heapq.heapreplace(following, (queue.keys[place], place, queue))
                else:
                    heapq.heappop(following)
            else:
                break
            job = queue.jobs[key]
            if _offered(job, miner, now):
                found.append(job)
        return found

    def count(self, miner: Miner) -> int:
        """How many queued jobs fit the miner."""
        view = self._view(miner)
        return 0 if view is None else view.count

    def _view(self, miner: Miner) -> _View | None:
        """What the miner sees; `None` where nothing pays its price."""
        at = bisect_left(self._rates, miner.price_per_hour)
        if at == len(self._rates):
            return None
        named = (miner.gpu_type, miner.gpu_count, self._rates[at], miner.models)
        view = self._views.get(named)
        if view is None:
            view = self._views[named] = _View(*named)
            for queue in self._fitting(view):
                queue.views.append(view)
                view.count += len(queue.keys) + queue.tail
                if queue.keys:
                    view.heads.append((queue.keys[0], queue))
            view.heads.sort(key=_first)
            if len(self._views) > _VIEWS:
                _, old = self._views.popitem(last=False)
                for queue in self._fitting(old):
                    queue.views.remove(old)
        else:
            self._views.move_to_end(named)
        return view

    def _fitting(self, view: _View) -> Iterator[_Queue]:
        for gpu_type in {view.gpu_type, ANY}:
            models = self._queues.get(gpu_type)
            if models is None:
                continue
            # The shorter side leads: a miner may list a thousand models, a queue ask for a thousand.
            names: Iterable[str] = models
            if view.models is not None:
                names = view.models if len(view.models) < len(models) else models.keys() & view.models
            for name in names:
                for kind, queue in models.get(name, {}).items():
                    if view.fits(kind):
                        yield queue

    # -- what `why` reads

    def kinds(self) -> list[Kind]:
        """The kinds that there are queued jobs of."""
        return [kind for models in self._queues.values() for kinds in models.values() for kind in kinds]

    @property
    def resting(self) -> int:
        """How many jobs are in back-off."""
        return len(self._resting_jobs)

    def depth(self, kind: Kind) -> int:
        """How many queued jobs of the kind can be taken."""
        queue = self._find(kind)
        return 0 if queue is None else len(queue.keys) + queue.tail

    def avoiding(self, kind: Kind, miner: Miner, now: float) -> int:
        """How many jobs of the kind the miner is not offered for now, among those that are here."""
        queue = self._find(kind)
        return 0 if queue is None else sum(not _offered(job, miner, now) for job in queue.jobs.values())

    def before(self, kind: Kind, key: Key) -> Before:
        """What of a kind stands before a job with this key."""
        queue = self._find(kind)
        if queue is None or not queue.keys:
            return Before(0, 0 if queue is None else queue.tail, 0.0)
        first = queue.jobs[queue.keys[0]]
        behind = queue.tail if key > queue.keys[-1] else 0
        return Before(bisect_left(queue.keys, key), behind, first.estimated_ms / 1000)

    # -- keeping it together

    def _find(self, kind: Kind) -> _Queue | None:
        return self._queues.get(kind.gpu_type, {}).get(kind.model, {}).get(kind)

    def _queue(self, kind: Kind) -> _Queue:
        """The jobs of the kind; a new kind is made known to the views that it fits."""
        queues = self._queues.setdefault(kind.gpu_type, {}).setdefault(kind.model, {})
        queue = queues.get(kind)
        if queue is None:
            queue = queues[kind] = _Queue(kind)
            queue.views = [view for view in self._views.values() if view.fits(kind)]
            paid_by = self._paid_by.get(kind.rate, 0)
            if not paid_by:
                insort(self._rates, kind.rate)
            self._paid_by[kind.rate] = paid_by + 1
        return queue

    def _drop(self, queue: _Queue) -> None:
        # Empty kinds go at once: nothing must pay for prices nobody asks any more.
        kind = queue.kind
        models = self._queues[kind.gpu_type]
        del models[kind.model][kind]
        if not models[kind.model]:
            del models[kind.model]
            if not models:
                del self._queues[kind.gpu_type]
        self._paid_by[kind.rate] -= 1
        if not self._paid_by[kind.rate]:
            del self._paid_by[kind.rate]
            del self._rates[bisect_left(self._rates, kind.rate)]

    def _insert(self, queue: _Queue, key: Key, job: Job) -> None:
        keys = queue.keys
        head = keys[0] if keys else None
        if head is None or key > keys[-1]:
            keys.append(key)
        else:
            insort(keys, key)
        queue.jobs[key] = job
        if head is None or key < head:
            self._head_moved(queue, head)
        if len(keys) > 4 * self.window and not queue.filling:
            for cut in keys[self.window :]:
                del queue.jobs[cut]
            queue.tail += len(keys) - self.window
            del keys[self.window :]

    def _head_moved(self, queue: _Queue, before: Key | None) -> None:
        after = queue.keys[0] if queue.keys else None
        for view in queue.views:
            view.move(queue, before, after)

    def _resize(self, queue: _Queue, by: int) -> None:
        self._size += by
        for view in queue.views:
            view.count += by

    def _look_after(self, queue: _Queue) -> None:
        if queue.tail and 3 * len(queue.keys) < self.window and not queue.filling:
            self._hungry.add(queue.kind)
        else:
            self._hungry.discard(queue.kind)
            if not queue.keys and not queue.tail and not queue.filling:
                self._drop(queue)
