"""The short way: the calls that come most often, answered without a task, a scope and a middleware for each.

It does what `app.build` puts in front of a call – request id, key, limits – and what `api` does for it, on one straight way
and in the same order of effects. Whatever is not plain (a key that is not known yet, an idempotency key, a fault in the
request, a limit that is used up) it declines before anything has happened, and the application answers. So there is one
place that knows of faults, and a test holds the two to the same answers.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final, Protocol

import msgspec
from starlette.types import Scope

from pithead.exchange.principals import Principal
from pithead.exchange.tally import CALLS, Histogram
from pithead.http.api import (
    Call,
    Handler,
    Late,
    Operates,
    Quick,
    Ready,
    Services,
    authorise,
    nothing_more,
    problem_of,
    short_ways,
)
from pithead.http.decode import decode_body
from pithead.http.limits import Counts, Limiter, Rule
from pithead.http.middleware import RequestId, rate_headers
from pithead.http.problems import HttpProblem, internal, render_problem
from pithead.http.routing import Paths
from pithead.logs import request_id as current
from pithead.wire.base import encode
from pithead.wire.endpoints import Endpoint

_log = logging.getLogger("pithead.http")

#: A longer body goes the other way, which takes it in as it comes.
MOST: Final = 65_536
#: Headers that ask for something out of the ordinary.
_UNUSUAL: Final = frozenset({b"idempotency-key", b"transfer-encoding", b"expect", b"upgrade", b"content-encoding"})
_BEARER: Final = b"Bearer "
_STATUS: Final = {status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus}

_Header = tuple[bytes, bytes]


class Connection(Protocol):
    """Who asks."""

    def answer(self, head: bytes, body: bytes) -> None:
        """Send the answer: its head without the empty line, and its body. It raises nothing."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this beside all else; the end of the server waits for it."""


class _Way(msgspec.Struct, frozen=True):
    """A call that goes the short way: at once, or by an operation; what is not done at once goes on with the handler."""

    endpoint: Endpoint
    times: Histogram
    quick: Quick | None
    operates: Operates | None
    handler: Handler


class ShortWay:
    """Answers what is plain. Lives on the event loop's thread."""

    def __init__(
        self,
        services: Services,
        counts: Counts,
        rules: Callable[[str, str, Principal], Sequence[Rule]],
        ids: RequestId,
    ) -> None:
        """`rules`: the limits, none of them 0, that a request counts against, by its method, its path and whose it is."""
        self._services = services
        self._counts = counts
        self._rules = rules
        self._ids = ids
        self._known = services.coordinator.known_principal
        self._tally = tally = services.coordinator.tally
        ways = [_Way(e, tally.call(e.name), now, operates, then) for e, now, operates, then in short_ways()]
        self._paths = Paths([(way.endpoint.method, way.endpoint.path, way) for way in ways])
        #: The last words of the paths: the first thing that a request is told by.
        self.words: Final = frozenset(way.endpoint.path.rpartition("/")[2].encode() for way in ways)

    def take(self, method: bytes, url: bytes, headers: list[_Header], body: bytes, connection: Connection) -> bool:
        """Answer the request, now or later; `False` where it has to go the other way, and nothing has happened."""
        began = perf_counter()
        given = dict(headers)
        if (
            len(given) != len(headers)
            or not _UNUSUAL.isdisjoint(given)
            or b"%" in url
            or b"\0" in url
            or not url.isascii()
        ):
            return False
        path, _, query = url.decode().partition("?")
        found = self._paths.find(verb := method.decode(), path)
        if found is None or (principal := self._principal(given)) is None:
            return False
        way, parameters = found
        endpoint = way.endpoint
        scope: Scope = {
            "type": "http", "method": verb, "path": path, "path_params": parameters, "headers": headers,
            "query_string": query.encode(), "state": {"principal": principal}, "client": None,
        }  # fmt: skip
        try:
            authorise(endpoint, principal, parameters)
            call = Call(self._services, endpoint, scope, nothing_more)
            if body or (endpoint.request is not None and not endpoint.body_optional):
                if endpoint.request is None or len(body) > self._services.max_body_bytes:
                    return False
                call.body = decode_body(body, (given.get(b"content-type") or b"").decode("latin-1"), endpoint.request)
            operation = None if way.operates is None else way.operates(call)
        except Exception:
            # Not so plain. What it was, a fault of ours too, the other way comes upon again, and says.
            return False
        limited: list[_Header] = []
        rules = self._rules(verb, path, principal)
        if rules:
            if not isinstance(self._counts, Limiter):
                return False
            admitted, standings = self._counts.hit(rules)
            if not admitted:
                return False
            limited = rate_headers(standings)
        answer = _Answer(self, way, connection, self._ids.choose(given.get(self._ids.header)), limited, began)
        if operation is not None:
            self._services.coordinator.run_into(operation, answer)
            return True
        try:
            ready = None if way.quick is None else way.quick(call)
        except Exception as error:
            answer.set_exception(error)
            return True
        if ready is not None:
            answer.set_result(ready)
        else:
            connection.start(answer.go_on(way.handler(call)))
            answer.timed = "wait" not in call.query
        return True

    def _principal(self, given: dict[bytes, bytes]) -> Principal | None:
        """Whose request it is, where that is known and needs no thought."""
        bearer, plain = given.get(b"authorization"), given.get(b"x-api-key")
        if bearer is not None:
            if plain is not None or not bearer.startswith(_BEARER):
                return None
            plain = bearer[len(_BEARER) :]
        return None if plain is None else self._known(plain.strip().decode("latin-1"))

    def refused(self, call: str, error: Exception, request_id: str) -> HttpProblem:
        """What is said of it."""
        problem = error if isinstance(error, HttpProblem) else problem_of(error)
        if problem is None:
            token = current.set(request_id)
            _log.error("request %s (%s) failed", request_id, call, exc_info=error)
            current.reset(token)
            problem = internal(request_id)
        self._tally.problem(call, problem.status, problem.slug)
        return problem


class _Answer:
    """The answer to one request: what the writer gives its outcome to, as if it were a future."""

    __slots__ = ("_began", "_connection", "_limited", "_request_id", "_short", "_way", "timed")

    def __init__(
        self, short: ShortWay, way: _Way, connection: Connection, request_id: str, limited: list[_Header], began: float
    ) -> None:
        self._short = short
        self._way = way
        self._connection = connection
        self._request_id = request_id
        self._limited = limited
        self._began = began
        #: Whether what it took is counted: not where the caller wanted to wait.
        self.timed = True

    def done(self) -> bool:
        """Whether nobody waits for it any more. What was begun is done, whether or not the caller is still there."""
        return False

    def set_result(self, outcome: Any) -> None:
        """It went well: answer with that."""
        try:
            if isinstance(outcome, Ready):
                status, body, more = outcome.status, outcome.body, outcome.headers
            else:
                if isinstance(outcome, Late):
                    outcome = outcome.make()
                status, body, more = self._way.endpoint.status, encode(outcome), ()
            self._send(status, b"application/json", body, more)
            if self.timed:
                times, took = self._way.times, perf_counter() - self._began
                times.counts[bisect_left(CALLS, took)] += 1
                times.sum += took
        except Exception as error:
            # It must not harm those whose answers come after this one.
            self.set_exception(error)

    def set_exception(self, failure: BaseException) -> None:
        """It did not: say why."""
        error = failure if isinstance(failure, Exception) else RuntimeError("the work was broken off")
        problem = self._short.refused(self._way.endpoint.name, error, self._request_id)
        kind, body, more = render_problem(problem, self._request_id)
        self._send(problem.status, kind, body, more)

    async def go_on(self, answer: Any) -> None:
        """What could not be done at once."""
        try:
            outcome = await answer
        except BaseException as error:
            self.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.set_result(outcome)

    def _send(self, status: int, kind: bytes, body: bytes, more: Sequence[_Header]) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (_STATUS[status], kind, len(body))
        if more:
            head += b"".join([b"%b: %b\r\n" % header for header in more])
        head += b"x-request-id: %b\r\n" % self._request_id.encode()
        if self._limited:
            head += b"".join([b"%b: %b\r\n" % header for header in self._limited])
        self._connection.answer(head, body)
