"""ASGI middleware: request ids, problem errors, keys, rate limits.

Public: it knows nothing of the exchange and works in front of any ASGI application (docs/middleware.md). Outermost first:

    RequestId(Problems(Keys(RateLimits(app, …), …)))

Each also works alone. Headers that an inner one wants on the response are gathered in the scope's state, and added by the
outermost, so that `send` is wrapped once for the whole stack.
"""

import itertools
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pithead.http.limits import Counts, Limiter, Rule, SharedLimiter, Standing
from pithead.http.problems import HttpProblem, internal, send_problem
from pithead.logs import request_id as _current

__all__ = [
    "HttpProblem", "Keys", "Limiter", "Problems", "RateLimits", "RequestId", "RequestLog", "Rule", "SharedLimiter",
]  # fmt: skip

_log = logging.getLogger("pithead.http")

_ID_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_Header = tuple[bytes, bytes]


class _Answer:
    """What is known of a request's answer: the headers that it is to carry, and whether it has begun."""

    __slots__ = ("headers", "started")

    def __init__(self) -> None:
        self.headers: list[_Header] = []
        self.started = False


def _answer(scope: Scope, send: Send) -> tuple[_Answer, Send]:
    """The request's answer, and the `send` to use: wrapped once, by whoever is outermost."""
    state = scope.setdefault("state", {})
    known: _Answer | None = state.get("answer")
    if known is not None:
        return known, send
    answer = state["answer"] = _Answer()

    async def watched(message: Message) -> None:
        answer.started = True
        if message["type"] == "http.response.start" and answer.headers:
            message["headers"] = [*message.get("headers", ()), *answer.headers]
        await send(message)

    return answer, watched


class RequestId:
    """Gives each request an id – the caller's own, if it is a sane one – in `state["request_id"]` and on the response."""

    def __init__(self, app: ASGIApp, header: str = "X-Request-Id") -> None:
        self._app = app
        #: The header's name, in lower case.
        self.header: Final = header.lower().encode()
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, send = _answer(scope, send)
        request_id = self.choose(next((value for name, value in scope["headers"] if name == self.header), None))
        scope["state"]["request_id"] = request_id
        _current.set(request_id)
        answer.headers.append((self.header, request_id.encode()))
        await self._app(scope, receive, send)

    def choose(self, given: bytes | None) -> str:
        """The id of a request that came with this one."""
        if given and len(given) <= 64 and _ID_CHARACTERS.issuperset(given):
            return given.decode("ascii")
        return f"{self._prefix}-{next(self._numbers):x}"


class RequestLog:
    """Logs each request once it was answered: method, path, status, milliseconds, the principal and the caller's address.

    To be put right behind `RequestId`. Headers, queries and bodies are not logged: keys and prompts are in them.
    """

    def __init__(self, app: ASGIApp, logger: logging.Logger | None = None) -> None:
        self._app = app
        self._logger = logger or logging.getLogger("pithead.requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 0, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            took = round((time.perf_counter() - began) * 1000, 3)
            principal = scope.get("state", {}).get("principal")
            client = scope.get("client")
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "milliseconds": took,
                "principal": getattr(principal, "id", None),
                "client": client[0] if client else None,
            }
            who = fields["principal"] or "nobody"
            self._logger.info(
                "%s %s by %s: %d in %.1f ms",
                scope["method"],
                scope["path"],
                who,
                status,
                took,
                extra={"fields": fields},
            )


class Problems:
    """Turns what is raised behind it into problem+json; what nobody foresaw is logged and is a 500 without details.

    `on_problem` is told of each.
    """

    def __init__(self, app: ASGIApp, on_problem: Callable[[Scope, HttpProblem], None] | None = None) -> None:
        self._app = app
        self._on_problem = on_problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            try:
                await self._app(scope, receive, send)
            except HttpProblem as refusal:
                if scope["type"] != "websocket":
                    raise
                # Before it is accepted the server answers with 403; afterwards 1008 is "policy violation".
                await send({"type": "websocket.close", "code": 1008, "reason": refusal.title})
            return
        answer, send = _answer(scope, send)
        request_id = scope["state"].get("request_id", "")
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if answer.started:
                # Half an answer is on its way: all that is left is to cut it short.
                _log.exception("request %s failed after its answer began", request_id)
                raise
            if isinstance(error, HttpProblem):
                problem = error
            elif isinstance(error, HTTPException):
                problem = _of_starlette(error)
            else:
                _log.exception("request %s (%s %s) failed", request_id, scope["method"], scope["path"])
                problem = internal(request_id)
            if self._on_problem is not None:
                self._on_problem(scope, problem)
            await send_problem(send, problem, request_id)


def _of_starlette(error: HTTPException) -> HttpProblem:
    slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
    detail = {404: "there is nothing at this path", 405: "this path does not know this method"}.get(
        error.status_code, ""
    )
    return HttpProblem(error.status_code, slug, error.detail, detail, headers=error.headers)


#: Whom a key belongs to; whatever the application makes of it.
Lookup = Callable[[str], Any | Awaitable[Any | None] | None]


class Keys:
    """Reads the key of a request and puts whom it belongs to into `state["principal"]`; 401 without a valid one.

    `lookup` gives the principal of a key, or `None`. `public` says which requests need no key.
    """

    def __init__(self, app: ASGIApp, lookup: Lookup, public: Callable[[Scope], bool] = lambda scope: False) -> None:
        self._app = app
        self._lookup = lookup
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        bearer = plain = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, rest = value.decode("latin-1").partition(" ")
                bearer = rest.strip() if scheme.lower() == "bearer" else ""
            elif name == b"x-api-key":
                plain = value.decode("latin-1").strip()
        principal: Any = None
        key = bearer or plain
        if key and not (bearer and plain and bearer != plain):
            principal = self._lookup(key)
            # Not `inspect.isawaitable`, which costs a hundredth of a heartbeat.
            if hasattr(principal, "__await__"):
                principal = await principal
        if principal is None and not self._public(scope):
            raise _unauthorised(bearer, plain)
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def _unauthorised(bearer: str | None, plain: str | None) -> HttpProblem:
    if bearer is None and plain is None:
        detail = "send a key, as `Authorization: Bearer key_…` or `X-Api-Key: key_…`"
    elif bearer and plain and bearer != plain:
        detail = "the request carries two different keys"
    elif not (bearer or plain):
        detail = "the Authorization header is not of the form `Bearer key_…`"
    else:
        detail = "the key is unknown, or has been revoked"
    return HttpProblem(401, "unauthorized", "No valid key", detail, headers={"WWW-Authenticate": "Bearer"})


class RateLimits:
    """Counts each request against the rules that `policies` names for it; 429 where one admits no more.

    All rules must admit it before it is counted: a refused request uses nothing up. Answers carry how the rules stand, as
    the IETF draft's `RateLimit` and `RateLimit-Policy` and as the older `RateLimit-Limit`, `-Remaining` and `-Reset`.
    """

    def __init__(self, app: ASGIApp, limiter: Counts, policies: Callable[[Scope], Sequence[Rule]]) -> None:
        self._app = app
        self._limiter = limiter
        self._policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rules = self._policies(scope)
        if any(rule.limit for rule in rules):
            outcome = self._limiter.hit(rules)
            admitted, standings = outcome if isinstance(outcome, tuple) else await outcome
            if not admitted:
                exhausted = [s for s in standings if s.remaining == 0] or standings
                worst = max(exhausted, key=lambda s: s.reset)
                seconds = max(1, math.ceil(worst.reset))
                limit = f"{worst.rule.limit} {worst.rule.name.replace('-', ' ')} in {worst.rule.window} s"
                detail = f"the limit is {limit}; ask again in {seconds} s"
                # On the problem itself: whoever turns it into an answer may stand outside of our `send`.
                carried = {name.decode(): value.decode() for name, value in rate_headers(standings)}
                carried["Retry-After"] = str(seconds)
                raise HttpProblem(429, "rate-limited", "Over the limit", detail, headers=carried)
            answer, send = _answer(scope, send)
            answer.headers.extend(rate_headers(standings))
        await self._app(scope, receive, send)


def rate_headers(standings: Sequence[Standing]) -> list[_Header]:
    """How the rules stand, for those who are bound by them."""
    tightest = min(standings, key=lambda s: s.remaining)
    policy = ", ".join(f'"{s.rule.name}";q={s.rule.limit};w={s.rule.window}' for s in standings)
    state = ", ".join(f'"{s.rule.name}";r={s.remaining};t={math.ceil(s.reset)}' for s in standings)
    return [
        (b"ratelimit-policy", policy.encode()),
        (b"ratelimit", state.encode()),
        (b"ratelimit-limit", str(tightest.rule.limit).encode()),
        (b"ratelimit-remaining", str(tightest.remaining).encode()),
        (b"ratelimit-reset", str(math.ceil(tightest.reset)).encode()),
    ]
