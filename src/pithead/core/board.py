"""The queued jobs by what they ask for, in memory: what `available` reads.

Jobs that ask for the same gpu type, model, gpu count and pay the same rate are one *kind*; a miner fits all jobs of a kind
or none. Finding the best jobs for a miner is a merge over the kinds that fit, so its cost grows with the number of kinds
and not with the queue. The database remains the truth: what is offered here can be gone when it is accepted, and accepting
is decided there. The same rules: a property test holds the board to `matching.misfit`.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice

from sortedcontainers import SortedDict

from pithead.core.jobs import Job
from pithead.core.matching import ANY, avoids
from pithead.core.miners import Miner

#: Order within a kind and between kinds: the highest priority, then the oldest.
_Key = tuple[int, int]
#: gpu_count, rate.
_Size = tuple[int, int]


def _key(job: Job) -> _Key:
    return (-job.priority, job.seq)


class Board:
    """Queued jobs by kind. Not thread-safe: one thread owns it."""

    def __init__(self, jobs: Iterable[Job] = (), now: float = 0.0) -> None:
        #: gpu type -> model -> (gpu_count, rate) -> jobs in order
        self._kinds: dict[str, dict[str, dict[_Size, SortedDict]]] = {}
        #: Jobs in back-off, by when they may be taken. Entries of jobs gone meanwhile are dropped as they come up.
        self._resting: list[tuple[float, int]] = []
        self._resting_jobs: dict[int, Job] = {}
        self._size = 0
        # Filling a sorted container in one go is several times as fast as one by one: a start with a long queue.
        fresh: dict[tuple[str, str, _Size], list[tuple[_Key, Job]]] = {}
        for job in jobs:
            if job.not_before > now:
                self.add(job, now)
            else:
                fresh.setdefault((job.gpu_type, job.model, (job.gpu_count, job.rate)), []).append((_key(job), job))
        for (gpu_type, model, size), items in fresh.items():
            self._kinds.setdefault(gpu_type, {}).setdefault(model, {})[size] = SortedDict(items)
            self._size += len(items)

    def __len__(self) -> int:
        """How many jobs are queued, those in back-off included."""
        return self._size + len(self._resting_jobs)

    def add(self, job: Job, now: float) -> None:
        """A job was queued."""
        if job.not_before > now:
            heapq.heappush(self._resting, (job.not_before, job.seq))
            self._resting_jobs[job.seq] = job
            return
        models = self._kinds.setdefault(job.gpu_type, {})
        sizes = models.setdefault(job.model, {})
        size = (job.gpu_count, job.rate)
        if size not in sizes:
            sizes[size] = SortedDict()
        kind = sizes[size]
        if _key(job) not in kind:
            self._size += 1
        kind[_key(job)] = job

    def remove(self, job: Job) -> None:
        """A job left the queue. One that is not here is no error."""
        if self._resting_jobs.pop(job.seq, None) is not None:
            return
        models = self._kinds.get(job.gpu_type, {})
        sizes = models.get(job.model, {})
        kind = sizes.get((job.gpu_count, job.rate))
        if kind is None or kind.pop(_key(job), None) is None:
            return
        self._size -= 1
        # Empty kinds go at once: a merge must not pay for prices nobody asks any more.
        if not kind:
            del sizes[(job.gpu_count, job.rate)]
            if not sizes:
                del models[job.model]
                if not models:
                    del self._kinds[job.gpu_type]

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

    def best(self, miner: Miner, now: float, limit: int) -> list[Job]:
        """The `limit` first jobs that fit the miner: by priority, then age."""
        merged = heapq.merge(*(kind.items() for kind in self._fitting(miner)), key=lambda item: item[0])
        return list(islice((job for _, job in merged if job.deadline > now and not avoids(job, miner.seq, now)), limit))

    def count(self, miner: Miner) -> int:
        """How many queued jobs fit the miner."""
        return sum(len(kind) for kind in self._fitting(miner))

    def _fitting(self, miner: Miner) -> Iterator[SortedDict]:
        for gpu_type in {miner.gpu_type, ANY}:
            models = self._kinds.get(gpu_type)
            if models is None:
                continue
            if miner.models is None:
                wanted: Iterable[dict[_Size, SortedDict]] = models.values()
            else:
                # The shorter side leads: a miner may list a thousand models, a queue ask for a thousand.
                names = miner.models if len(miner.models) < len(models) else models.keys() & miner.models
                wanted = [models[name] for name in names if name in models]
            for sizes in wanted:
                for (gpu_count, rate), kind in sizes.items():
                    if gpu_count <= miner.gpu_count and rate >= miner.price_per_hour:
                        yield kind
