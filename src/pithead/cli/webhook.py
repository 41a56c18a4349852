"""`pithead webhook`: be told of what happens at a URL of yours. Whoever has a key can."""

from __future__ import annotations

from typing import Any, get_args

import click

from pithead.cli.output import clean, emit, facts, fail, moment, table
from pithead.cli.profiles import command, connection, connection_options
from pithead.wire.webhooks import DeliveryStatus, DeliveryView, WebhookCreated, WebhookEvent, WebhookView

_EVENT = click.Choice(get_args(WebhookEvent))


@click.group()
@connection_options
def webhook() -> None:
    """Be told at a URL of yours when jobs end and payouts move, signed, and again until it is taken."""


@command(webhook)
@click.argument("to", metavar="URL_OF_YOURS")
@click.option(
    "--event", "events", type=_EVENT, multiple=True, help="Only these, once for each; else all that concern you."
)
@click.option("--description", default="", help="A line for yourself.")
def create(to: str, events: tuple[str, ...], description: str) -> None:
    """Make one. Its secret, by which messages are checked, is shown this once."""
    with connection().client() as client:
        made = client.create_webhook(to, events, description)
    _show_secret(made)


@command(webhook, "list")
def list_() -> None:
    """List your webhooks."""
    with connection().client() as client:
        found = client.webhooks()
    rows = (
        (one.webhook_id, _state(one), one.url, ", ".join(one.events) or "all", one.description)
        for one in found.webhooks
    )
    emit(found, lambda: table(("WEBHOOK ID", "STATE", "URL", "EVENTS", "DESCRIPTION"), rows))


@command(webhook)
@click.argument("webhook_id")
def show(webhook_id: str) -> None:
    """Show one as it stands."""
    with connection().client() as client:
        view = client.webhook(webhook_id)
    emit(view, lambda: _show(view))


@command(webhook)
@click.argument("webhook_id")
@click.option("--to", metavar="URL", help="Another URL of yours.")
@click.option("--event", "events", type=_EVENT, multiple=True, help="These events in place of those before.")
@click.option("--all-events", is_flag=True, help="All events again.")
@click.option("--description", help="Another line for yourself.")
@click.option("--enable/--disable", "enabled", default=None, help="Send again, or send nothing.")
def update(
    webhook_id: str,
    to: str | None,
    events: tuple[str, ...],
    all_events: bool,
    description: str | None,
    enabled: bool | None,
) -> None:
    """Change one; what is not given stays. --enable sends again to one that was disabled."""
    wanted = [] if all_events else list(events) or None
    if all(given is None for given in (to, wanted, description, enabled)):
        fail("there is nothing to change; give --to, --event, --all-events, --description, --enable or --disable")
    with connection().client() as client:
        view = client.update_webhook(webhook_id, url=to, events=wanted, description=description, enabled=enabled)
    emit(view, lambda: _show(view))


@command(webhook)
@click.argument("webhook_id")
def delete(webhook_id: str) -> None:
    """Delete one, and its log."""
    with connection().client() as client:
        view = client.delete_webhook(webhook_id)
    emit(view, lambda: click.echo(f"{view.webhook_id} is deleted"))


@command(webhook)
@click.argument("webhook_id")
def rotate(webhook_id: str) -> None:
    """Give one another secret. The one before signs too for a day."""
    with connection().client() as client:
        made = client.rotate_webhook_secret(webhook_id)
    _show_secret(made)


@command(webhook)
@click.argument("webhook_id")
def test(webhook_id: str) -> None:
    """Send a message that tells of nothing; 'pithead webhook deliveries' shows how it went."""
    with connection().client() as client:
        sent = client.test_webhook(webhook_id)
    emit(sent, lambda: click.echo(sent.delivery_id))


@command(webhook)
@click.argument("webhook_id")
@click.option("--status", type=click.Choice(get_args(DeliveryStatus)), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at the most.")
def deliveries(webhook_id: str, status: str | None, limit: int) -> None:
    """List what was sent, and how that went, the newest first."""
    with connection().client() as client:
        page = client.deliveries(webhook_id, status=status, limit=limit)
    head = ("DELIVERY ID", "EVENT", "STATUS", ">ATTEMPTS", "LAST", "NEXT", "ANSWER")
    emit(page, lambda: table(head, map(_row, page.deliveries)))


@command(webhook)
@click.argument("webhook_id")
@click.argument("delivery_id")
def replay(webhook_id: str, delivery_id: str) -> None:
    """Send a message again, under its id."""
    with connection().client() as client:
        sent = client.replay_delivery(webhook_id, delivery_id)
    emit(sent, lambda: click.echo(f"{sent.delivery_id} is sent again"))


def _row(one: DeliveryView) -> tuple[Any, ...]:
    answer = one.error or (str(one.response_status) if one.response_status is not None else "")
    return (
        one.delivery_id,
        one.event,
        one.status,
        one.attempts,
        moment(one.attempted_at),
        moment(one.next_attempt_at),
        clean(answer),
    )


def _state(view: WebhookView) -> str:
    if not view.enabled:
        return "disabled"
    return "enabled" if view.failing_since is None else "failing"


def _show(view: WebhookView) -> None:
    facts(
        webhook=view.webhook_id,
        state=_state(view),
        because=view.disabled_reason or None,
        url=view.url,
        events=", ".join(view.events) or "all",
        description=view.description or None,
        created=moment(view.created_at),
        failing_since=moment(view.failing_since),
    )


def _show_secret(made: WebhookCreated) -> None:
    def shown() -> None:
        _show(made)
        facts(secret=f"{made.secret} (shown once, keep it)")

    emit(made, shown)
