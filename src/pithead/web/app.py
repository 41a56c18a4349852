"""The dashboard as an ASGI application in front of the API: which page answers where, for whom, and with what headers."""

import logging
from functools import partial
from typing import Final
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pithead.exchange.sessions import name_of
from pithead.http.api import Services, problem_of
from pithead.http.limits import Counts, Rule
from pithead.http.middleware import RequestId, RequestLog
from pithead.http.problems import HttpProblem
from pithead.settings import Settings
from pithead.store.errors import StoreError
from pithead.web.counting import count
from pithead.web.render import Pages
from pithead.web.sessions import principal_of
from pithead.web.static import BASE, Static
from pithead.web.table import PAGES, Page
from pithead.web.visits import SESSION, Visit, Web

_log = logging.getLogger("pithead.web")

_MINUTE: Final = 60
_HEADERS: Final = {
    # Scripts and styles are files of our own; nothing is inline, and nothing comes from elsewhere.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Dashboard:
    """Answers what is under /dashboard, and hands all else to the API."""

    def __init__(self, api: ASGIApp, services: Services, settings: Settings, counts: Counts) -> None:
        self._api = api
        static = Static()
        web = Web(services, settings, counts, static, Pages(static))
        routes = [Route(page.path, partial(_answer, web, page), methods=[page.method]) for page in PAGES]

        async def file(request: Request) -> Response:
            return static.answer(request)

        router = Router(
            [Route(BASE + "{file:path}", file), Route("/dashboard/", _to_the_first_page), *routes],
            redirect_slashes=False,
        )
        own: ASGIApp = _Guarded(web, router)
        if settings.log_requests or settings.log_level == "debug":
            own = RequestLog(own)
        self._own: ASGIApp = RequestId(own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/dashboard") and (len(path) == 10 or path[10] == "/"):
                await self._own(scope, receive, send)
                return
            if path == "/" and "text/html" in Request(scope).headers.get("accept", ""):
                await RedirectResponse("/dashboard", 303)(scope, receive, send)
                return
        await self._api(scope, receive, send)


async def _to_the_first_page(request: Request) -> Response:
    return RedirectResponse("/dashboard", 303)


class _Guarded:
    """Puts the headers on every answer, and makes a page of what goes wrong."""

    def __init__(self, web: Web, app: ASGIApp) -> None:
        self._web = web
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        scope["app"] = self._app
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            if started:
                raise
            visit = await _visit(self._web, Request(scope, receive))
            await _failed(visit, _problem(error, scope))(scope, receive, guarded)


def _problem(error: Exception, scope: Scope) -> HttpProblem:
    if isinstance(error, HttpProblem):
        return error
    if (problem := problem_of(error)) is not None:
        return problem
    if isinstance(error, HTTPException):
        detail = {404: "There is no page here.", 405: "This page cannot be asked like that."}.get(error.status_code, "")
        return HttpProblem(error.status_code, "http-error", error.detail, detail)
    request_id = scope["state"].get("request_id", "")
    _log.exception("request %s (%s %s) failed", request_id, scope["method"], scope["path"])
    detail = f"This is our fault, not yours; it is in the log under {request_id}."
    return HttpProblem(500, "internal", "Something went wrong", detail)


def _failed(visit: Visit, problem: HttpProblem) -> Response:
    response = visit.page("error.html", {"problem": problem}, status=problem.status)
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


async def _visit(web: Web, request: Request) -> Visit:
    token = request.cookies.get(SESSION)
    principal = None
    if token:
        try:
            principal = await principal_of(web.services.coordinator, name_of(token))
        except StoreError:
            principal = None
    return Visit(web, request, principal, token if principal else None)


async def _answer(web: Web, page: Page, request: Request) -> Response:
    token = request.cookies.get(SESSION)
    principal = await principal_of(web.services.coordinator, name_of(token)) if token else None
    request.scope["state"]["principal"] = principal
    visit = Visit(web, request, principal, token if principal else None)
    if page.audience:
        if principal is None:
            return _sign_in_first(request)
        limit = web.settings.dashboard.requests_per_minute
        if seconds := await count(web.counts, Rule("dashboard", principal.id, limit, _MINUTE)):
            detail = f"Ask again in {seconds} s."
            raise HttpProblem(429, "rate-limited", "Too much at once", detail, headers={"Retry-After": str(seconds)})
        if principal.kind not in page.audience:
            raise HttpProblem(404, "not-found", "Not Found", "There is no page here.")
    return await page.handler(visit)


def _sign_in_first(request: Request) -> Response:
    here = request.url.path + (f"?{request.url.query}" if request.url.query and request.method == "GET" else "")
    where = f"/dashboard/sign-in?next={quote(here)}" if request.method == "GET" else "/dashboard/sign-in"
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"hx-redirect": "/dashboard/sign-in"})
    return RedirectResponse(where, 303, headers={"cache-control": "no-store"})
