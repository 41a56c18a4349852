"""Webhooks of whoever is signed in: where messages go, and how that went."""

from starlette.responses import Response

from pithead.http.api import perform
from pithead.web.operator import ROWS
from pithead.web.visits import Visit


async def webhooks(visit: Visit) -> Response:
    """All webhooks of the account."""
    found = await perform(visit.web.services, "list_webhooks", visit.caller, path={})
    return visit.page("webhooks.html", {"webhooks": found.webhooks})


async def webhook(visit: Visit) -> Response:
    """A webhook, and what was sent, the newest first."""
    path = {"webhook_id": visit.path["webhook_id"]}
    query = {"limit": str(ROWS)} | ({"cursor": str(visit.cursor)} if visit.cursor else {})
    values = {
        "webhook": await perform(visit.web.services, "get_webhook", visit.caller, path=path),
        "found": await perform(visit.web.services, "list_deliveries", visit.caller, path=path, query=query),
        "first": visit.cursor is None,
    }
    return visit.page("webhook.html", values)
