"""The coordinator's HTTP application: the API's routes behind the public middleware."""

from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec
from starlette.responses import JSONResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

import pithead
from pithead.exchange.principals import Principal
from pithead.http import admin, events, files, jobs, ledger, miners, payouts, webhooks, why
from pithead.http.api import Services, no_database, targets
from pithead.http.limits import Counts
from pithead.http.metrics import Metrics
from pithead.http.middleware import HttpProblem, Keys, Problems, RateLimits, RequestId, RequestLog, Rule
from pithead.http.openapi import document
from pithead.http.pace import Pace, job_operations
from pithead.http.routing import Routes, Target
from pithead.http.short import ShortWay
from pithead.http.traced import Traced
from pithead.settings import RateLimits as Limits
from pithead.store.errors import StoreError
from pithead.wire.endpoints import ENDPOINTS

#: Importing them binds their handlers.
AUDIENCES = (miners, jobs, files, admin, ledger, payouts, why, events, webhooks)

#: What needs no key. `POST /v1/miners` is how one gets a key.
_PUBLIC = frozenset(
    {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS if endpoint.audience == "public"}
    # Metrics have a token of their own, which is nobody's key.
    | {("GET", "/openapi.json"), ("GET", "/"), ("GET", "/metrics")}
)

#: The ends of the paths that are job operations (`wire.endpoints` says the same; a test compares).
JOB_OPERATIONS = ("/accept", "/complete", "/fail", "/release")

_MINUTE = 60


def is_public(scope: Scope) -> bool:
    """Whether a request needs no key."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return (method, scope["path"]) in _PUBLIC


class Policies:
    """Which limits a request counts against."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def __call__(self, scope: Scope) -> Sequence[Rule]:
        principal: Principal | None = scope["state"].get("principal")
        path: str = scope["path"]
        if path == "/v1/miners" and scope["method"] == "POST":
            client = scope.get("client")
            address = client[0] if client else "unknown"
            return (Rule("registrations", address, self._limits.registrations_per_minute, _MINUTE),)
        return () if principal is None else self.of(scope["method"], path, principal)

    def of(self, method: str, path: str, principal: Principal) -> Sequence[Rule]:
        """The limits of whoever has a key."""
        limits = self._limits
        if principal.kind == "miner":
            own = principal.requests_per_minute
            limit = limits.requests_per_minute if own is None else own
            rules = [Rule("requests", principal.id, limit, _MINUTE)] if limit else []
            if method == "POST" and path.endswith(JOB_OPERATIONS):
                operations = job_operations(limits, principal.id, principal.job_operations_per_minute)
                if operations.limit:
                    rules.append(operations)
            return rules
        if principal.kind == "client" and limits.client_requests_per_minute:
            return (Rule("requests", principal.id, limits.client_requests_per_minute, _MINUTE),)
        return ()


def build(
    services: Services,
    limits: Limits,
    counts: Counts,
    metrics: Metrics,
    *,
    log_requests: bool = False,
    tracing: bool = False,
    lifespan: Lifespan[Any] | None = None,
) -> tuple[ASGIApp, ShortWay | None]:
    """The application, and the short way for some of its calls where nothing has to be told of each request."""
    services = msgspec.structs.replace(services, pace=Pace(limits, counts))
    openapi = document("Pithead", pithead.__version__)

    async def serve_openapi(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(openapi)(scope, receive, send)

    async def welcome(scope: Scope, receive: Receive, send: Send) -> None:
        about = {"name": "pithead", "version": pithead.__version__, "openapi": "/openapi.json"}
        await JSONResponse(about)(scope, receive, send)

    all_targets = [
        *targets(services),
        Target("GET", "/openapi.json", _Plain(serve_openapi)),
        Target("GET", "/", _Plain(welcome)),
        Target("GET", "/metrics", metrics),
    ]
    # Starlette's router knows all of it too: it answers HEAD, says which methods a path has, and runs the lifespan. It takes
    # the first that fits, so fixed paths go before those with parameters.
    router = Router(
        [
            Route(target.path, target.app, methods=[target.method])
            for target in sorted(all_targets, key=lambda target: target.path.count("{"))
        ],
        redirect_slashes=False,
        lifespan=lifespan,
    )
    # From the inside out: a refused key costs nothing of a limit, and every refusal is a problem with a request id.
    policies = Policies(limits)
    app: ASGIApp = RateLimits(Routes(all_targets, _Raising(router)), counts, policies)

    async def looked_up(found: Awaitable[Principal | None]) -> Principal | None:
        try:
            return await found
        except StoreError as error:
            raise no_database(error) from error

    def lookup(key: str) -> Principal | None | Awaitable[Principal | None]:
        found = services.coordinator.principal(key)
        return found if found is None or isinstance(found, Principal) else looked_up(found)

    app = Keys(app, lookup, public=is_public)
    tally = services.coordinator.tally

    def count(scope: Scope, problem: HttpProblem) -> None:
        tally.problem(scope["state"].get("call", ""), problem.status, problem.slug)

    app = Problems(app, count)
    if tracing:
        app = Traced(app)
    whole = RequestId(RequestLog(app) if log_requests else app)
    return whole, None if tracing or log_requests else ShortWay(services, counts, policies.of, whole)


class _Raising:
    """Lets the router raise what it cannot route, which becomes a problem, rather than answer with plain text."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._router
        await self._router(scope, receive, send)


class _Plain:
    """An ASGI function as an object: Starlette takes a function for a request handler."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
