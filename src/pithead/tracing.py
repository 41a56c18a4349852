"""Traces, from a client's submit through the miner's work to the result, with OpenTelemetry (the extra `otel`).

A program that has OpenTelemetry set up needs to do nothing: the SDK's calls carry its current span (`traceparent`, W3C Trace
Context). A coordinator with the setting `tracing` has a span for each call, keeps with a job the one that submitted it, and
hands it to the miner; an agent whose environment names an exporter goes on from there. Where nobody set it up nothing is
imported, and each question here is one look into a table of modules.
"""

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: What an agent takes for the wish to be traced: the variables that OpenTelemetry's own documents name.
_WISHES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")


class TracingError(Exception):
    """Traces were asked for and cannot be made. The message is one line that says what to do."""


def wanted(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names where traces are to go."""
    environment = os.environ if environment is None else environment
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _WISHES)


def set_up(service: str) -> Callable[[], None]:
    """Send spans to where the `OTEL_…` variables say, by default a collector on this machine; how to stop.

    Raises `TracingError`.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError("traces need OpenTelemetry: pip install 'pithead[otel]', or turn them off") from error
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def carried() -> dict[str, str]:
    """The headers that carry the current span; none where nothing is traced."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def traceparent() -> str | None:
    """The current span, as a header's value."""
    return carried().get("traceparent")


@contextmanager
def span(
    name: str,
    kind: str,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    parent: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """A span around the block, under the one that `headers` or `parent` (a `traceparent`) name, or the current one.

    `kind`: `SERVER` or `CONSUMER`. `about`: its attributes. Gives the span.
    """
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = {n.decode("latin-1"): v.decode("latin-1") for n, v in headers if n in (b"traceparent", b"tracestate")}
    if parent is not None:
        given["traceparent"] = parent
    context = TraceContextTextMapPropagator().extract(given) if given else None
    tracer = trace.get_tracer("pithead")
    with tracer.start_as_current_span(name, context, trace.SpanKind[kind], about) as current:
        yield current


def failed() -> Any:
    """The status of a span that came to nothing."""
    from opentelemetry.trace import Status, StatusCode

    return Status(StatusCode.ERROR)


async def within(work: Awaitable[T], name: str, parent: str, about: Mapping[str, Any]) -> T:
    """The work, in a span under the one that `parent` names; without one where nothing is traced."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return await work
    with span(name, "CONSUMER", parent=parent, about=about):
        return await work
