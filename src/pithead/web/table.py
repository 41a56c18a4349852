"""Every page: where it is, for whom, and what answers it."""

from collections.abc import Awaitable, Callable
from typing import Final, Literal

import msgspec
from starlette.responses import Response

from pithead.exchange.ports import OwnerKind
from pithead.web import actions, buying, files, home, hooks, operator, owners, people, purse, signing, stream, work
from pithead.web.visits import Visit

Handler = Callable[[Visit], Awaitable[Response]]


class Page(msgspec.Struct, frozen=True):
    """One page, or one action."""

    method: Literal["GET", "POST"]
    path: str
    #: The kinds of key that it is for; none: for everybody, signed in or not.
    audience: tuple[OwnerKind, ...]
    handler: Handler


ANYBODY: Final[tuple[OwnerKind, ...]] = ()
_ALL: Final[tuple[OwnerKind, ...]] = ("operator", "client", "miner")
_OPERATOR: Final[tuple[OwnerKind, ...]] = ("operator",)
_CLIENT: Final[tuple[OwnerKind, ...]] = ("client",)
_MINER: Final[tuple[OwnerKind, ...]] = ("miner",)
_JOBS: Final[tuple[OwnerKind, ...]] = ("operator", "client")

PAGES: Final = (
    Page("GET", "/dashboard/sign-in", ANYBODY, signing.form),
    Page("POST", "/dashboard/sign-in", ANYBODY, signing.sign_in),
    Page("POST", "/dashboard/sign-out", _ALL, signing.sign_out),
    Page("POST", "/dashboard/theme", ANYBODY, signing.theme),
    Page("GET", "/dashboard/events", _ALL, stream.events),
    Page("GET", "/dashboard", _ALL, home.home),
    Page("GET", "/dashboard/do/{action}", _ALL, actions.ask),
    Page("POST", "/dashboard/do/{action}", _ALL, actions.act),
    Page("GET", "/dashboard/export/{table}.csv", _ALL, purse.export),
    Page("GET", "/dashboard/webhooks", _ALL, hooks.webhooks),
    Page("GET", "/dashboard/webhooks/{webhook_id}", _ALL, hooks.webhook),
    # The operator's.
    Page("GET", "/dashboard/miners", _OPERATOR, operator.miners),
    Page("GET", "/dashboard/miners/{miner_id}", _OPERATOR, people.miner),
    Page("GET", "/dashboard/clients", _OPERATOR, people.clients),
    Page("GET", "/dashboard/clients/{client_id}", _OPERATOR, people.client),
    Page("GET", "/dashboard/money", _OPERATOR, purse.money),
    Page("GET", "/dashboard/money/payouts", _OPERATOR, purse.payouts),
    Page("GET", "/dashboard/money/accounts/{account_id}", _OPERATOR, purse.account),
    Page("GET", "/dashboard/audit", _OPERATOR, people.audit),
    Page("GET", "/dashboard/settings", _OPERATOR, people.settings),
    # The operator's and a client's.
    Page("GET", "/dashboard/jobs", _JOBS, work.listing),
    Page("GET", "/dashboard/jobs/{job_id}", _JOBS, work.job),
    # A client's.
    Page("GET", "/dashboard/jobs/{job_id}/result", _CLIENT, work.result),
    Page("GET", "/dashboard/submit", _CLIENT, buying.form),
    Page("POST", "/dashboard/submit", _CLIENT, buying.submit),
    Page("GET", "/dashboard/files", _CLIENT, files.files),
    Page("POST", "/dashboard/files", _CLIENT, files.upload),
    Page("GET", "/dashboard/spending", _CLIENT, buying.spending),
    # A miner's.
    Page("GET", "/dashboard/earnings", _MINER, owners.earnings),
    Page("GET", "/dashboard/payouts", _MINER, owners.payouts),
)
