"""One request of somebody who looks at the dashboard: who it is, and how the page comes back."""

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

import pithead
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.principals import Principal
from pithead.http.api import Services
from pithead.http.limits import Counts
from pithead.http.problems import HttpProblem
from pithead.settings import Settings
from pithead.web.render import Pages
from pithead.web.static import Static

#: Bytes of a form that are read at the most.
_LARGEST_FORM: Final = 1_048_576
#: Names of cookies: the session, a visitor who has none yet, what was done a moment ago, light or dark.
SESSION, VISITOR, DONE, THEME = "pithead_session", "pithead_visitor", "pithead_done", "pithead_theme"


class Web(msgspec.Struct, frozen=True):
    """What all pages work with."""

    services: Services
    settings: Settings
    counts: Counts
    static: Static
    pages: Pages


class Done(msgspec.Struct, frozen=True):
    """What somebody has just done, to be told on the next page, and how to undo it."""

    said: str
    undo: str = ""


def csrf_of(secret: str) -> str:
    """What a form has to bring along: only who has the cookie, and reads our pages, knows it."""
    return hmac.new(secret.encode(), b"form", sha256).hexdigest()


class Visit:
    """A request, and who makes it."""

    def __init__(self, web: Web, request: Request, principal: Principal | None, token: str | None) -> None:
        self.web = web
        self.request = request
        self.principal = principal
        #: The session's token; where there is no session, what tells this visitor's forms from others'.
        self.secret = token or request.cookies.get(VISITOR) or ""
        self._cookies: list[tuple[str, str, int | None]] = []
        if not self.secret:
            self.secret = secrets.token_urlsafe(24)
            self.set_cookie(VISITOR, self.secret)

    @property
    def exchange(self) -> Coordinator:
        """The exchange, as this process runs it."""
        return self.web.services.coordinator

    @property
    def caller(self) -> Principal:
        """Who is signed in; on a page that needs it somebody always is."""
        assert self.principal is not None
        return self.principal

    @property
    def path(self) -> dict[str, str]:
        """What the path names."""
        return self.request.path_params

    def query(self, name: str) -> str | None:
        """A parameter of the address; `None` where it is absent or empty."""
        return self.request.query_params.get(name) or None

    @property
    def cursor(self) -> int | None:
        """Where the page before ended; what is none of ours is the first page."""
        text = self.query("cursor") or ""
        return int(text) if text.isascii() and text.isdigit() and 0 < len(text) <= 18 else None

    async def form(self) -> dict[str, str]:
        """The fields of the form that was sent. Raises `HttpProblem` where it is not one of ours."""
        body = b""
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > _LARGEST_FORM:
                raise HttpProblem(400, "unreadable", "The form is too large", "shorten it, or use the API")
        fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=400))
        self.check(fields)
        del fields["csrf"]
        return fields

    def check(self, fields: Mapping[str, str]) -> None:
        """Whether these fields come from a form of ours. Raises `HttpProblem`."""
        if not hmac.compare_digest(fields.get("csrf", "").encode(), csrf_of(self.secret).encode()):
            detail = "it is too old, or does not come from this dashboard: go back, load the page again, and repeat it"
            raise HttpProblem(403, "forged", "This form cannot be taken", detail)

    # -- the answer

    @property
    def secure(self) -> bool:
        """Whether the browser speaks TLS, to us or to a proxy that is trusted."""
        return self.request.url.scheme == "https"

    def set_cookie(self, name: str, value: str, seconds: int | None = None) -> None:
        """Let the browser keep this, for so long or until it closes; 0 forgets it."""
        self._cookies.append((name, value, seconds))

    def tell(self, done: Done) -> None:
        """Say this on the next page."""
        self.set_cookie(DONE, quote(msgspec.json.encode(done).decode()), 30)

    def page(self, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200) -> Response:
        """A page."""
        theme = self.request.cookies.get(THEME, "")
        request = self.request
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        given = {
            "who": self.principal,
            "csrf": csrf_of(self.secret),
            "now": self.exchange.now(),
            "here": here,
            "path": request.url.path,
            "theme": theme if theme in ("light", "dark") else "",
            "version": pithead.__version__,
            "done": self._done(),
            "live": "",
        }
        return self._finish(HTMLResponse(self.web.pages.render(template, given | dict(values or {})), status))

    def _done(self) -> Done | None:
        kept = self.request.cookies.get(DONE)
        if not kept or self.request.method != "GET" or self.request.headers.get("hx-request"):
            return None
        self.set_cookie(DONE, "", 0)
        try:
            done = msgspec.json.decode(unquote(kept), type=Done)
        except msgspec.DecodeError:
            return None
        # A neighbour under the same domain may have planted it.
        return done if not done.undo or done.undo.startswith("/dashboard/do/") else None

    def go(self, where: str) -> Response:
        """On to another page."""
        return self._finish(RedirectResponse(where, 303))

    def _finish(self, response: Response) -> Response:
        response.headers["cache-control"] = "no-store"
        for name, value, seconds in self._cookies:
            response.set_cookie(
                name, value, max_age=seconds, path="/dashboard", secure=self.secure, httponly=True, samesite="lax"
            )
        return response


def ours(where: str | None) -> str:
    """An address within the dashboard to go on to; its first page where it is none."""
    if where and where.startswith("/dashboard") and not where.startswith("/dashboard/sign-") and "\\" not in where:
        return where if where.isprintable() and where.isascii() else "/dashboard"
    return "/dashboard"
