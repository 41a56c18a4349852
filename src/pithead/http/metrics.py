"""`GET /metrics`: what this process counted and how the exchange stands, in Prometheus' text format.

Not public: it takes the token of the setting `metrics.token`, or the operator's key. What only this process knows is counted
by each coordinator for itself (add it up); what the database says is the same at all of them (take one). docs/how-to/monitor.md
says which is which, and deploy/ has alert rules and a dashboard.
"""

import asyncio
import logging
import platform
from collections.abc import Iterable, Iterator
from hmac import compare_digest
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from starlette.types import Receive, Scope, Send

import pithead
from pithead.exchange import figures
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.figures import Figures
from pithead.exchange.tally import Histogram, Load, Tally
from pithead.http.decode import header
from pithead.http.problems import HttpProblem
from pithead.store.errors import StoreError

_log = logging.getLogger("pithead.http")

#: Seconds for which what the database said is shown again rather than asked anew.
FRESH_FOR: Final = 10.0
_MILLION: Final = 1_000_000


class Metrics:
    """The page, as an ASGI application."""

    def __init__(self, coordinator: Coordinator, token: str, database: str) -> None:
        """`database`: which one it is, `sqlite` or `postgresql`."""
        self._coordinator = coordinator
        self._token = token.encode()
        self._about = {"version": pithead.__version__, "python": platform.python_version(), "database": database}
        self._figures: Figures | None = None
        self._read_at = float("-inf")
        self._reading: asyncio.Task[Figures | None] | None = None
        # They read /proc and the collector's own counts when they are asked, and cost nothing in between.
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._authorise(scope)
        known = await self._fresh()
        coordinator = self._coordinator
        # Counts are copied here, on the thread that adds to them; the text is made on another.
        families = [*self._own(coordinator), *(() if known is None else _standing(known))]
        encode, kind = choose_encoder(header(scope, b"accept") or "")
        body = await asyncio.to_thread(lambda: encode(_Ready(families)) + encode(self._process))
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _authorise(self, scope: Scope) -> None:
        principal = scope["state"].get("principal")
        if principal is not None and principal.kind == "operator":
            return
        given = (header(scope, b"authorization") or "").encode("utf-8", "replace")
        if self._token and compare_digest(given.removeprefix(b"Bearer "), self._token):
            return
        detail = "send the token of the setting metrics.token, or the operator's key, as `Authorization: Bearer …`"
        raise HttpProblem(401, "unauthorized", "No valid key", detail, headers={"WWW-Authenticate": "Bearer"})

    async def _fresh(self) -> Figures | None:
        """What the database says; nothing where it does not answer. However many ask, it is asked once."""
        loop = asyncio.get_running_loop()
        if self._reading is None or self._reading.done():
            if loop.time() - self._read_at < FRESH_FOR:
                return self._figures
            self._reading = asyncio.create_task(self._read(), name="figures")
        return await asyncio.shield(self._reading)

    async def _read(self) -> Figures | None:
        now = self._coordinator.now()
        try:
            self._figures = await self._coordinator.read(lambda tx: figures.read(tx, now))
        except StoreError as error:
            _log.warning("could not read the figures for the metrics: %s", error)
            self._figures = None
        self._read_at = asyncio.get_running_loop().time()
        return self._figures

    def _own(self, coordinator: Coordinator) -> Iterator[Metric]:
        yield _gauge("build_info", "What runs here; always 1.", [(tuple(self._about.values()), 1)], *self._about)
        yield _gauge("database_up", "1 where the database answered the last question for this page.",
                     [((), int(self._figures is not None))])  # fmt: skip
        yield from _tallied(coordinator.tally)
        yield from _loaded(coordinator.load())
        yield _gauge("miners_waiting", "Miners whose call waits here for an offer.", [((), len(coordinator.waiting))])


class _Ready(CollectorRegistry):
    """Families that were made already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _tallied(tally: Tally) -> Iterator[Metric]:
    """What this process did since its start."""
    called = ((name, times) for name, times in tally.calls.items() if any(times.counts))
    yield _histogram("http_request_duration_seconds", "Seconds until a call was answered, and not with a problem; without "
                     "those that were to wait.", (((name,), times) for name, times in called), "operation")  # fmt: skip
    problems = (((call or "none", str(status), slug), n) for (call, status, slug), n in tally.problems.items())
    yield _counter("http_problems", "Answers that were problems; `none`: no operation was reached.", problems,
                   "operation", "status", "problem")  # fmt: skip
    yield _counter("jobs_submitted", "Jobs that were submitted.", [((), tally.submitted)])
    yield _counter("jobs_finished", "Jobs that ended, by the state that they ended in.",
                   (((state.value,), n) for state, n in tally.finished.items()), "state")  # fmt: skip
    yield _counter("leases_given", "Leases that were given: attempts that began.", [((), tally.leases)])
    outcomes = {
        "completed": sum(tally.attempts.counts), "failed": tally.failures, "lapsed": tally.lapses,
        "released": tally.released, **{state.value: n for state, n in tally.withdrawn.items()},
    }  # fmt: skip
    yield _counter("attempts_ended", "Attempts that ended, by how; one that lapsed and was delivered late is there twice.",
                   (((outcome,), n) for outcome, n in outcomes.items()), "outcome")  # fmt: skip
    yield _histogram("job_wait_seconds", "Seconds from a job's submission to its first lease.", [((), tally.waits)])
    yield _histogram("job_attempt_seconds", "Seconds from a lease to the completion under it.", [((), tally.attempts)])
    models = list(tally.models.items())
    yield _counter("model_jobs_completed", "Jobs that were completed, by model.",
                   (((model,), jobs) for model, (jobs, _) in models), "model")  # fmt: skip
    yield _counter("model_paid", "Currency units that clients paid for completed jobs, by model.",
                   (((model,), paid / _MILLION) for model, (_, paid) in models), "model")  # fmt: skip


def _loaded(load: Load) -> Iterator[Metric]:
    """How the database takes it."""
    yield _histogram("commit_operations", "Operations that one commit made durable.", [((), load.batches)])
    yield _histogram("commit_duration_seconds", "Seconds that a commit took.", [((), load.commits)])
    yield _gauge("operations_waiting", "Operations that wait for their turn to be written.", [((), load.waiting)])
    if load.size is not None:
        yield _gauge("database_size_bytes", "Bytes of the embedded database.", [((), load.size)])
    if load.connections:
        yield _gauge("database_connections", "Connections for reading that are used and idle, and reads that wait for one.",
                     (((use,), n) for use, n in load.connections.items()), "use")  # fmt: skip


def _standing(known: Figures) -> Iterator[Metric]:
    """How the exchange stands: the same at every coordinator over one database."""
    places = [(queue, (queue.gpu_type, queue.model)) for queue in known.queues]
    yield _gauge("queue_jobs", "Queued jobs that ask for this gpu type and model.",
                 ((place, queue.jobs) for queue, place in places), "gpu_type", "model")  # fmt: skip
    yield _gauge("queue_oldest_age_seconds", "Seconds since the oldest of them was submitted.",
                 ((place, queue.age) for queue, place in places), "gpu_type", "model")  # fmt: skip
    yield _gauge("jobs", "Unfinished jobs, by state.", (((state,), n) for state, n in known.jobs.items()), "state")
    yield _gauge("miners", "Miners, by status.", (((status,), n) for status, n in known.miners.items()), "status")
    yield _gauge("ledger_balance", "Currency units in all accounts of a class.",
                 (((kind,), amount / _MILLION) for kind, amount in known.ledger.items()), "class")  # fmt: skip
    yield _gauge("ledger_imbalance", "The sum of all accounts, added up exactly: anything but 0 is a fault.",
                 [((), sum(known.ledger.values()) / _MILLION)])  # fmt: skip


_Samples = Iterable[tuple[tuple[str, ...], float]]


def _counter(name: str, about: str, samples: _Samples, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"pithead_{name}", about, labels=labels), samples)


def _gauge(name: str, about: str, samples: _Samples, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"pithead_{name}", about, labels=labels), samples)


def _filled(family: Any, samples: _Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, value)
    filled: Metric = family
    return filled


def _histogram(name: str, about: str, samples: Iterable[tuple[tuple[str, ...], Histogram]], *labels: str) -> Metric:
    family = HistogramMetricFamily(f"pithead_{name}", about, labels=labels)
    for values, histogram in samples:
        so_far, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), list(histogram.counts), strict=True):
            so_far += count
            buckets.append((bound, so_far))
        family.add_metric(values, buckets, histogram.sum)
    return family
