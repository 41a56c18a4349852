"""`pithead account`: a client's own money."""

from __future__ import annotations

from typing import Any

import click

from pithead.cli.ledger import print_entries
from pithead.cli.lists import listing, page_size, some
from pithead.cli.output import emit, facts, moment
from pithead.cli.profiles import command, connection, connection_options
from pithead.wire.jobs import ClientView


@click.group()
@connection_options
def account() -> None:
    """Your balance, and every posting behind it."""


@command(account)
def show() -> None:
    """Show what you can spend, and what is set aside for your jobs."""
    with connection().client() as client:
        view = client.me()
    emit(view, lambda: show_client(view))


@command(account)
@click.option("--held", is_flag=True, help="The postings of what is set aside for your jobs.")
@listing
def ledger(held: bool, limit: int | None) -> None:
    """List every posting, the newest first, with its cause, its job, and the balance after it."""
    which: Any = "held" if held else "balance"
    with connection().client() as client:
        print_entries(some(client.iter_ledger(account=which, page_size=page_size(limit)), limit))


def show_client(view: ClientView) -> None:
    """A client's account."""
    facts(
        client_id=view.client_id,
        name=view.name,
        balance=view.balance,
        credit_line=view.credit_line or None,
        held=view.held,
        created=moment(view.created_at),
    )
