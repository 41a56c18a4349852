"""How a call of `wire.endpoints` becomes an ASGI application: read, authorise, decode, call one operation, encode."""

import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.types import Message, Receive, Scope, Send

from pithead.core import errors
from pithead.exchange.blobs import BlobError, Blobs
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.courier import Vault
from pithead.exchange.idempotency import Repeatable, once
from pithead.exchange.ports import Tx
from pithead.exchange.principals import Principal
from pithead.exchange.tally import CALLS
from pithead.http.decode import decode_body, header, parse_query, read_body
from pithead.http.offers import Offers
from pithead.http.outgoing import Guard
from pithead.http.pace import Pace
from pithead.http.problems import HttpProblem
from pithead.http.routing import Target
from pithead.http.streams import accepts
from pithead.store.errors import StoreError
from pithead.wire.base import Fault, encode
from pithead.wire.endpoints import ENDPOINTS, Endpoint

_STATUS: Final[tuple[tuple[type[errors.Refusal], int], ...]] = (
    (errors.NotFound, 404),
    (errors.Forbidden, 403),
    (errors.PaymentRequired, 402),
    (errors.Conflict, 409),
    (errors.Gone, 410),
)

_log = logging.getLogger("pithead.http")

#: An idempotency key of so many characters is taken for one that nobody else can come upon (a UUID has 36).
SECRET_ENOUGH: Final = 32

_BY_NAME: Final = {endpoint.name: endpoint for endpoint in ENDPOINTS}

_JSON: Final = (b"content-type", b"application/json")


class Services(msgspec.Struct, frozen=True):
    """What the handlers work with."""

    coordinator: Coordinator
    blobs: Blobs
    max_body_bytes: int
    max_result_bytes: int
    #: Seconds without a byte after which an upload counts as broken off.
    upload_silence: float
    max_file_bytes: int
    #: Where webhooks may point to, and what their secrets are kept in.
    guard: Guard
    vault: Vault
    offers: Offers = msgspec.field(default_factory=Offers)
    #: How miners stand with their limits; `None` where there are none.
    pace: Pace | None = None
    #: Whether traces are made.
    tracing: bool = False


class Call:
    """One request, authorised and decoded."""

    __slots__ = ("body", "endpoint", "path", "principal", "query", "receive", "scope", "services")

    def __init__(self, services: Services, endpoint: Endpoint, scope: Scope, receive: Receive) -> None:
        self.services = services
        self.endpoint = endpoint
        self.scope = scope
        self.receive = receive
        self.path: dict[str, str] = scope["path_params"]
        self.principal: Principal | None = scope["state"].get("principal")
        self.query: dict[str, Any] = parse_query(scope, endpoint) if scope["query_string"] else {}
        self.body: Any = None

    @property
    def exchange(self) -> Coordinator:
        """The exchange, as this process runs it."""
        return self.services.coordinator

    @property
    def caller(self) -> Principal:
        """Whose key it is; on a call that is not public there always is one."""
        assert self.principal is not None
        return self.principal

    @property
    def lease_token(self) -> str | None:
        """The fence, if the caller sent it."""
        return header(self.scope, b"lease-token")

    @property
    def idempotency_key(self) -> str | None:
        """The caller's name for this request, if it gave it one. Raises `Invalid`."""
        key = header(self.scope, b"idempotency-key")
        if key is not None and not 1 <= len(key) <= 255:
            raise errors.Invalid(errors.Fault("Idempotency-Key", "must have 1 to 255 characters"))
        return key

    @property
    def cursor(self) -> int | None:
        """Where the page before ended. Raises `Invalid`."""
        text = self.query.get("cursor")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 19 or not 0 < int(text) < 2**62:
            raise errors.Invalid(errors.Fault("cursor", "is not one that this API gave out"))
        return int(text)

    @property
    def wants_csv(self) -> bool:
        """Whether to answer with a table."""
        chosen = self.query.get("format")
        return chosen == "csv" or (chosen is None and accepts(self.scope, "text/csv"))

    @property
    def limit(self) -> int:
        """How many entries a page has."""
        return int(self.query.get("limit", 50))


class Late(msgspec.Struct, frozen=True):
    """An answer that is rendered once what it says is durable."""

    render: Callable[[Any], msgspec.Struct]
    outcome: Any

    def make(self) -> msgspec.Struct:
        """The answer."""
        return self.render(self.outcome)


#: What carries out a POST, in one transaction, and makes its answer; or what makes it afterwards (`Late`).
Operation = Callable[[Tx, float], msgspec.Struct]
#: What a handler gives back: of a POST the operation; else a wire shape, JSON that is ready, or a response of its own.
Handler = Callable[[Call], Awaitable[Any]]
#: What gives the operation without waiting for anything.
Operates = Callable[[Call], Operation]
#: What answers at once, from memory, where it can; else it gives `None`, and nothing has happened.
Quick = Callable[[Call], "Ready | None"]

_handlers: dict[str, Handler] = {}
_operates: dict[str, Operates] = {}
_quick: dict[str, Quick] = {}


class Ready(msgspec.Struct, frozen=True):
    """JSON that is encoded already, with its status."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def handles(name: str) -> Callable[[Handler], Handler]:
    """Bind a handler to the call of this name."""

    def bind(handler: Handler) -> Handler:
        assert name not in _handlers, name
        _handlers[name] = handler
        return handler

    return bind


def operates(name: str) -> Callable[[Operates], Operates]:
    """Bind to the call of this name what makes its operation, and has nothing to wait for."""

    def bind(make: Operates) -> Operates:
        async def handler(call: Call) -> Operation:
            return make(call)

        handles(name)(handler)
        _operates[name] = make
        return make

    return bind


def quick(name: str) -> Callable[[Quick], Quick]:
    """Bind to the call of this name, which has a handler, what answers it at once where that can be."""

    def bind(answer: Quick) -> Quick:
        _quick[name] = answer
        return answer

    return bind


def short_ways() -> Iterator[tuple[Endpoint, Quick | None, Operates | None, Handler]]:
    """The calls that can be answered without a task: with what answers at once, or makes the operation, and the handler."""
    for endpoint in ENDPOINTS:
        if endpoint.name in _quick or endpoint.name in _operates:
            yield endpoint, _quick.get(endpoint.name), _operates.get(endpoint.name), _handlers[endpoint.name]


def targets(services: Services) -> list[Target]:
    """Every call of the API, with what answers it."""
    return [Target(e.method, e.path, _Endpoint(services, e, _handlers[e.name])) for e in ENDPOINTS]


class _Endpoint:
    """One call of the API, as an ASGI application."""

    def __init__(self, services: Services, endpoint: Endpoint, handler: Handler) -> None:
        self._services = services
        self._endpoint = endpoint
        self._handler = handler
        self._reads_json = endpoint.request is not None
        self._times = services.coordinator.tally.call(endpoint.name)
        self._waits = any(query.name == "wait" for query in endpoint.query)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint, times, began = self._endpoint, self._times, perf_counter()
        try:
            authorise(endpoint, scope["state"].get("principal"), scope["path_params"])
            call = Call(self._services, endpoint, scope, receive)
            raw = b""
            if self._reads_json:
                raw = await read_body(scope, receive, self._services.max_body_bytes)
                if raw or not endpoint.body_optional:
                    call.body = decode_body(raw, header(scope, b"content-type"), endpoint.request)
            answer = await self._handler(call)
            if endpoint.idempotent and not isinstance(answer, msgspec.Struct):
                answer = await _carry_out(call, raw, answer)
            if isinstance(answer, Ready):
                await _send_json(send, answer.status, answer.body, answer.headers)
            elif isinstance(answer, msgspec.Struct):
                await _send_json(send, endpoint.status, encode(answer))
            else:
                # It may refuse too, up to its first bytes.
                await answer(scope, receive, send)
            if not self._waits or "wait" not in call.query:
                # `Histogram.add`, without the call.
                took = perf_counter() - began
                times.counts[bisect_left(CALLS, took)] += 1
                times.sum += took
        except Exception as error:
            scope["state"]["call"] = endpoint.name
            if (problem := problem_of(error)) is None:
                raise
            raise problem from error


async def _carry_out(call: Call, raw: bytes, operation: Operation) -> Any:
    """Run the operation; with an idempotency key once, however often it is asked for."""
    key = call.idempotency_key
    if key is None:
        return _made(await call.exchange.run(operation))
    endpoint = call.endpoint
    # The call, the lease and the body, so that one key cannot answer for two different requests.
    named = " ".join(filter(None, (endpoint.name, call.scope["path"], call.lease_token)))
    fingerprint = sha256(named.encode() + b"\n" + raw).digest()
    request = Repeatable(_scope_of(call, key), key, fingerprint, endpoint.secret)

    def run(tx: Tx, now: float) -> tuple[int, bytes]:
        # What is kept is kept by the same transaction: here nothing can be made later.
        return once(tx, now, request, lambda: (endpoint.status, encode(_made(operation(tx, now)))))

    return Ready(*await call.exchange.run(run))


def _made(answer: msgspec.Struct) -> msgspec.Struct:
    return answer.make() if isinstance(answer, Late) else answer


def problem_of(error: Exception) -> HttpProblem | None:
    """What is said of it over HTTP; nothing of what is a problem already, or was not foreseen."""
    if isinstance(error, errors.Invalid):
        faults = [Fault(field=f.field, message=f.message) for f in error.faults]
        return HttpProblem(422, error.slug, error.title(), error.detail, errors=faults)
    if isinstance(error, errors.Refusal):
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return HttpProblem(status, error.slug, error.title(), error.detail)
    if isinstance(error, StoreError):
        return no_database(error)
    return _no_blobs(error) if isinstance(error, BlobError) else None


def _scope_of(call: Call, key: str) -> str:
    """Whose idempotency key it is: the caller's, or where nobody is known by a key, whoever knows this one.

    A long one is taken for a secret. A short one can be a stranger's too, and holds for the caller's address only:
    the answer to a registration has a key in it.
    """
    if call.principal is not None:
        return call.principal.id
    if len(key) >= SECRET_ENOUGH:
        return "anybody"
    client = call.scope.get("client")
    return f"anybody at {client[0] if client else 'unknown'}"


def authorise(endpoint: Endpoint, principal: Principal | None, path: Mapping[str, str]) -> None:
    """Whether this key may make this call at all. What it may see is decided by the operations. Raises `HttpProblem`."""
    if endpoint.audience == "public":
        return
    assert principal is not None
    if endpoint.operator_too and principal.kind == "operator":
        return
    if endpoint.audience == "miner":
        # A valid key on another miner's path learns nothing: not even whether there is such a miner.
        if principal.kind != "miner" or principal.id != path["miner_id"]:
            raise HttpProblem(404, "not-found", errors.NotFound.title(), "there is no such miner")
    elif endpoint.audience not in (principal.kind, "account"):
        detail = f"this call needs a key of kind {endpoint.audience}, and yours is of kind {principal.kind}"
        raise HttpProblem(403, "forbidden", errors.Forbidden.title(), detail)


async def perform(
    services: Services,
    name: str,
    principal: Principal,
    *,
    path: Mapping[str, str],
    query: Mapping[str, str] | None = None,
    body: bytes = b"",
    once_key: str | None = None,
    receive: Receive | None = None,
    length: int | None = None,
) -> Any:
    """Carry out a call of the API for somebody within this process, with all that the API checks.

    `receive` gives the body of a call that takes bytes as they come, `length` of them. Gives its response as the wire's shape,
    or an ASGI application that sends it. Raises `HttpProblem`.
    """
    endpoint = _BY_NAME[name]
    where = endpoint.path.format_map(path)
    headers = [] if once_key is None else [(b"idempotency-key", once_key.encode("latin-1", "replace"))]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    scope: Scope = {
        "type": "http", "method": endpoint.method, "path": where, "path_params": dict(path), "headers": headers,
        "query_string": urlencode(query or {}).encode(), "state": {"principal": principal}, "client": None,
    }  # fmt: skip
    authorise(endpoint, principal, path)
    try:
        call = Call(services, endpoint, scope, receive or nothing_more)
        if endpoint.request is not None:
            if len(body) > services.max_body_bytes:
                raise HttpProblem(400, "unreadable", "The request cannot be read", "it is too large")
            if body or not endpoint.body_optional:
                call.body = decode_body(body, "application/json", endpoint.request)
        answer = await _handlers[name](call)
        if endpoint.idempotent and not isinstance(answer, msgspec.Struct):
            answer = await _carry_out(call, body, answer)
    except Exception as error:
        if (problem := problem_of(error)) is None:
            raise
        raise problem from error
    if isinstance(answer, Ready):
        return msgspec.json.decode(answer.body, type=endpoint.response)
    return answer


async def nothing_more() -> Message:
    """The end of a body that is there already."""
    return {"type": "http.request", "body": b"", "more_body": False}


def no_database(error: StoreError) -> HttpProblem:
    """Nothing happened, or it can be asked whether it did; asking again is safe."""
    return HttpProblem(
        503, "store-unavailable", "The database does not answer", str(error), headers={"Retry-After": "5"}
    )


def _no_blobs(error: BlobError) -> HttpProblem:
    # What the store said goes into the log: it may name places that are none of the caller's business.
    _log.warning("the blob store: %s", error)
    return HttpProblem(
        503,
        "store-unavailable",
        "Results cannot be stored or read now",
        "ask again later",
        headers={"Retry-After": "5"},
    )


async def _send_json(send: Send, status: int, body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [_JSON, (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
