"""Signing in and out, and light or dark."""

from starlette.responses import Response

from pithead.core.errors import Refusal
from pithead.exchange import sessions
from pithead.exchange.ids import new_token
from pithead.http.limits import Rule
from pithead.http.problems import HttpProblem
from pithead.store.errors import StoreError
from pithead.web.counting import count
from pithead.web.visits import SESSION, THEME, Visit, ours

_MINUTE = 60
_A_YEAR = 31_536_000


async def form(visit: Visit) -> Response:
    """Where one signs in."""
    if visit.principal is not None:
        return visit.go(ours(visit.query("next")))
    return visit.page("sign-in.html", {"next": ours(visit.query("next")), "fault": ""})


async def sign_in(visit: Visit) -> Response:
    """Exchange a key for a session."""
    fields, client = await visit.form(), visit.request.client
    settings = visit.web.settings.dashboard
    following = ours(fields.get("next"))
    rule = Rule("sign-ins", client.host if client else "unknown", settings.sign_ins_per_minute, _MINUTE)
    if seconds := await count(visit.web.counts, rule):
        fault = f"too many attempts from your address: try again in {seconds} s"
        return visit.page("sign-in.html", {"next": following, "fault": fault}, status=429)
    key, token = fields.get("key", "").strip(), new_token("session") + new_token("")
    try:
        opened = await visit.exchange.run(lambda tx, now: sessions.sign_in(tx, now, key, token, settings.session))
    except Refusal as refusal:
        return visit.page("sign-in.html", {"next": following, "fault": refusal.detail}, status=403)
    except StoreError as error:
        raise HttpProblem(503, "unavailable", "The database does not answer", "try again in a moment") from error
    visit.set_cookie(SESSION, token, int(opened.expires_at - visit.exchange.now()))
    return visit.go(following)


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    await visit.form()
    token = visit.secret
    await visit.exchange.run(lambda tx, now: sessions.sign_out(tx, now, token))
    visit.set_cookie(SESSION, "", 0)
    return visit.go("/dashboard/sign-in")


async def theme(visit: Visit) -> Response:
    """Light, dark, or as the system has it."""
    fields = await visit.form()
    visit.set_cookie(THEME, fields.get("theme", ""), _A_YEAR)
    return visit.go(ours(fields.get("back")))
