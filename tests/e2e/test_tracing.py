"""One trace from a client's submit through the miner's work to the result, over real HTTP; and nothing where nobody asked."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from click.testing import CliRunner
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.agent.rig import Hands
from tests.http.exchange import REGISTRATION, Clock, World, body, run_world

from pithead import tracing
from pithead.agent.loop import Agent
from pithead.agent.runners.base import Report, RunResult, Task
from pithead.agent.spool import Spool
from pithead.cli.main import cli
from pithead.client import AsyncClient, AsyncMinerClient
from pithead.wire.miners import Assignment, Metrics

JOB: Final = {"model": "gpt2", "price": "0.05", "gpu_type": "v100", "estimated_time": 600}


class Echo(Hands):
    """A runner that is done at once, with its input."""

    async def run(self, task: Task | Assignment, report: Report) -> RunResult:
        return RunResult(bytes(task.input), Metrics())


@pytest.fixture(scope="module")
def recorder() -> InMemorySpanExporter:
    """What every span of this process goes to. OpenTelemetry takes one provider for good."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(recorder: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    recorder.clear()
    yield recorder
    recorder.clear()


class Server(uvicorn.Server):
    """One of this process on a real socket; `url` is where."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False))
        self.listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        serving = asyncio.create_task(self.serve())
        await self.listening.wait()
        try:
            yield f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"
        finally:
            self.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[tuple[World, str]]:
    """A coordinator, served."""
    async with run_world(folder, Clock(), **settings) as world, Server(world.application.asgi).open() as url:
        try:
            yield world, url
        finally:
            # Whoever waits for an offer is let go, as at every stop.
            world.application.coordinator.stop()


async def a_job_is_done(world: World, url: str, folder: Path) -> tuple[str, bytes]:
    """By the SDK and the agent, each over HTTP: the job's id and its result."""
    made, miner = await world.client(), await world.register(**REGISTRATION | {"models": ["gpt2"]})
    async with AsyncClient(url, made.key) as client, AsyncMinerClient(url, miner.id, miner.key, retry_for=0) as own:
        agent = Agent(own, Echo("gpt2"), Spool(folder / "spool"))
        working = asyncio.create_task(agent.run())
        with trace.get_tracer("a program").start_as_current_span("asks"):
            submitted = await client.submit(input={"prompt": "?"}, **JOB)  # type: ignore[arg-type]
            done = await client.wait(submitted.job_id, timeout=30)
            assert done.status == "completed"
            result = await client.result(submitted.job_id)
        agent.interrupt()
        assert await working
    return submitted.job_id, result


def tree(spans: tuple[ReadableSpan, ...], trace_id: int) -> dict[str, str | None]:
    """The names of a trace's spans, each with that of the one it is under."""
    mine = [span for span in spans if span.context is not None and span.context.trace_id == trace_id]
    names = {span.context.span_id: span.name for span in mine if span.context is not None}
    return {span.name: names[span.parent.span_id] if span.parent is not None else None for span in mine}


async def test_one_trace_leads_from_the_submit_to_the_result(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with served(tmp_path / "c", tracing=True) as (world, url):
        job_id, result = await a_job_is_done(world, url, tmp_path)
    assert result == b'{"prompt":"?"}'
    ended = spans.get_finished_spans()
    [asks] = [span for span in ended if span.name == "asks"]
    assert asks.context is not None
    assert tree(ended, asks.context.trace_id) == {
        "asks": None,
        "POST /v1/jobs": "asks",
        "GET /v1/jobs/{job_id}": "asks",
        "GET /v1/jobs/{job_id}/result": "asks",
        "job": "POST /v1/jobs",
        "PUT /v1/miners/{miner_id}/jobs/{job_id}/result": "job",
        "POST /v1/miners/{miner_id}/jobs/{job_id}/complete": "job",
    }
    [work] = [span for span in ended if span.name == "job"]
    assert dict(work.attributes or {}) == {"job_id": job_id, "model": "gpt2", "attempt": 1}
    [submit] = [span for span in ended if span.name == "POST /v1/jobs"]
    told = dict(submit.attributes or {})
    assert told.pop("pithead.request_id")
    assert told == {"http.request.method": "POST", "http.route": "/v1/jobs", "http.response.status_code": 201}


async def test_nothing_is_kept_or_told_where_nobody_asked_for_traces(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    async with served(tmp_path / "c") as (world, url):
        job_id, _ = await a_job_is_done(world, url, tmp_path)
        assert {span.name for span in spans.get_finished_spans()} == {"asks"}
        kept = await world.application.coordinator.peek(
            lambda tx: tx.trace(job.seq) if (job := tx.job_by_id(job_id)) else "?"
        )
        assert kept is None
        miner, client = await world.miner(), await world.client()
        assert "traceparent" not in await miner.take(await client.submit())


async def test_a_job_goes_with_its_trace_when_it_is_archived(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with run_world(tmp_path, Clock(), tracing=True, retention={"jobs": 100}) as world:
        client = await world.client()
        headers = {"Traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        job = {"model": "gpt2", "input": {}, "price": 0.05, "gpu_type": "v100"}
        old = body(await client.post("/v1/jobs/batch", json={"jobs": [job]}, headers=headers), 201)["jobs"][0]["job_id"]
        read = world.application.coordinator.peek
        context = await read(lambda tx: tx.trace(tx.job_by_id(old).seq))  # type: ignore[union-attr]
        assert context is not None
        assert context.startswith(f"00-{'a' * 32}-")
        await client.delete(f"/v1/jobs/{old}")
        await client.submit()
        await world.later(200)
        assert (await client.get(f"/v1/jobs/{old}")).status_code == 410


async def test_what_nobody_can_read_begins_a_trace_of_its_own(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with run_world(tmp_path, Clock(), tracing=True) as world:
        answer = await world.http.get("/v1/jobs/none", headers={"Traceparent": "nonsense"})
        assert answer.status_code == 401
        await world.http.get("/nowhere/at/all", headers={"X-Api-Key": world.application.settings.operator_key})
    assert sorted(span.name for span in spans.get_finished_spans()) == ["GET *", "GET *"]
    assert all(span.parent is None for span in spans.get_finished_spans())


def test_an_agent_is_traced_where_its_environment_says_so() -> None:
    assert not tracing.wanted({})
    assert tracing.wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert not tracing.wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"})
    assert not tracing.wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"})


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(tracing.TracingError, match=r"pip install 'pithead\[otel\]'"):
        tracing.set_up("pithead")
    command = ["serve", "--port", "0", "--data", str(tmp_path)]
    done = CliRunner().invoke(cli, command, env={"PITHEAD_TRACING": "true"})
    assert done.exit_code == 2
    assert "pip install 'pithead[otel]'" in done.output
    assert len(done.output.splitlines()) == 1


async def test_spans_reach_a_collector(tmp_path: Path) -> None:
    """The exporter that `set_up` takes speaks to one over HTTP."""
    received = asyncio.get_running_loop().create_future()

    async def collector(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if not received.done():
            received.set_result((scope["path"], message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    program = (
        "from pithead import tracing\n"
        "stop = tracing.set_up('pithead-coordinator')\n"
        "with tracing.span('GET /', 'SERVER'): pass\n"
        "stop()\n"
    )
    async with Server(collector).open() as url:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment)
        path, sent = await asyncio.wait_for(received, 30)
        assert await process.wait() == 0
    assert path == "/v1/traces"
    assert b"pithead-coordinator" in sent
    assert b"GET /" in sent
