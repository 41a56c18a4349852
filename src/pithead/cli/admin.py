"""`pithead admin`: what the operator does. The calls themselves are `pithead.client.AdminClient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click
import msgspec

from pithead.cli import care, encryption
from pithead.cli import job as jobs
from pithead.cli.account import show_client
from pithead.cli.ledger import ledger
from pithead.cli.lists import listed, listing, page_size, some
from pithead.cli.output import emit, facts, fail, moment
from pithead.cli.page import Page
from pithead.cli.payout import payout
from pithead.cli.profiles import command, connection, connection_options
from pithead.cli.watching import line
from pithead.cli.why import show_job_why, show_miner_why
from pithead.wire.admin import AuditEntry
from pithead.wire.jobs import ClientView
from pithead.wire.miners import MinerStatus, MinerView

F = TypeVar("F", bound=Callable[..., Any])


@click.group(
    cls=Page,
    sections={
        "People and machines": ("client", "miner", "key", "enrollment-token"),
        "Work and money": ("job", "ledger", "payout"),
        "Looking": ("overview", "audit"),
        "On the coordinator's machine": ("backup", "restore", "migrate", "keygen", "encrypt", "decrypt", "rekey"),
    },
    examples=(
        "pithead admin client create alice --credit 100",
        "pithead admin miner list --status pending",
        "pithead admin miner why MINER_ID",
        "pithead admin payout export --status approved > payouts.csv",
        "pithead admin backup /srv/backups/$(date +%F)",
    ),
)
@connection_options
def admin() -> None:
    """Clients and credit, the ledger, payouts, miners, keys, limits, the audit log; backups, upgrades, encryption.

    Needs the operator's key; backups, upgrades and encryption need the coordinator's machine instead.
    """


def _group(name: str, text: str) -> click.Group:
    @admin.group(name, help=text)
    @connection_options
    def group() -> None: ...

    return group


_client = _group("client", "Clients, and what they can spend.")
_miner = _group("miner", "Machines that are offered.")
_key = _group("key", "Keys of miners, of clients and of the operator.")
_token = _group("enrollment-token", "Tokens to register with, where enrolment asks for one.")
_job = _group("job", "Everybody's jobs.")
admin.add_command(ledger)
admin.add_command(payout)
for _command in (*care.COMMANDS, *encryption.COMMANDS):
    admin.add_command(_command)


def _repeatable(function: F) -> F:
    option = click.option(
        "--idempotency-key", metavar="TEXT", help="Repeating it with the same key gives the same answer."
    )
    return option(function)


# ---- Clients


@command(_client, "create")
@click.argument("name")
@click.option("--credit", default="0", metavar="AMOUNT", show_default=True, help="What it can spend.")
@_repeatable
def create_client(name: str, credit: str, idempotency_key: str | None) -> None:
    """Make a client. Its key is shown this once."""
    with connection().admin() as operator:
        made = operator.create_client(name, credit, idempotency_key=idempotency_key)
    emit(made, lambda: facts(client_id=made.client_id, api_key=made.api_key, balance=made.balance))


@command(_client, "list")
@listing
def list_clients(limit: int | None) -> None:
    """List clients, the newest first."""
    columns = ("CLIENT ID", "NAME", ">BALANCE", ">HELD", "CREATED")
    with connection().admin() as operator:
        found = some(operator.iter_clients(page_size=page_size(limit)), limit)
        listed(
            "clients",
            found,
            ClientView,
            columns,
            lambda one: (one.client_id, one.name, one.balance, one.held, moment(one.created_at)),
        )


@command(_client, "show")
@click.argument("client_id")
def show(client_id: str) -> None:
    """Show a client's account."""
    with connection().admin() as operator:
        view = operator.client(client_id)
    emit(view, lambda: show_client(view))


@command(_client, "credit")
@click.argument("client_id")
@click.argument("amount")
@click.option("--note", default="", help="For the audit log.")
@_repeatable
def credit_client(client_id: str, amount: str, note: str, idempotency_key: str | None) -> None:
    """Add to a client's balance. To take away, put -- before the negative amount."""
    with connection().admin() as operator:
        view = operator.credit(client_id, amount, note, idempotency_key=idempotency_key)
    emit(view, lambda: show_client(view))


@command(_client, "credit-line")
@click.argument("client_id")
@click.argument("amount")
def set_credit_line(client_id: str, amount: str) -> None:
    """Let a client's balance go down to minus this amount; 0 takes the line back."""
    with connection().admin() as operator:
        view = operator.set_credit_line(client_id, amount)
    emit(view, lambda: show_client(view))


# ---- Miners


@command(_miner, "list")
@click.option("--status", type=click.Choice(get_args(MinerStatus)), help="Only miners in this state.")
@listing
def list_miners(status: str | None, limit: int | None) -> None:
    """List miners, the newest first."""
    columns = ("MINER ID", "NAME", "STATUS", "GPU", ">PRICE/H", "LOCATION", "LAST SEEN")
    with connection().admin() as operator:
        found = some(operator.iter_miners(status=status, page_size=page_size(limit)), limit)
        listed("miners", found, MinerView, columns, _row)


def _row(one: MinerView) -> tuple[object, ...]:
    return (
        one.miner_id,
        one.name,
        one.status,
        f"{one.gpu_count} × {one.gpu_type}",
        one.price_per_hour,
        one.location,
        moment(one.last_seen_at),
    )


@command(_miner, "show")
@click.argument("miner_id")
def show_miner(miner_id: str) -> None:
    """Show a miner, its work and its telemetry."""
    with connection().admin() as operator:
        view = operator.miner(miner_id)

    def show() -> None:
        done = view.stats
        _show_miner(view)
        facts(
            jobs_held=view.jobs_assigned,
            jobs_done=f"{done.total_jobs}, {done.success_rate:.1%} completed, {done.average_completion_time:g} s each",
            earned=f"{done.earnings:f} ({done.earnings_per_gpu_hour:g} per GPU-hour)",
            telemetry=msgspec.json.encode(view.telemetry).decode() if view.telemetry else None,
            tokens_per_second=", ".join(f"{model} {speed:g}" for model, speed in view.speeds.items()) or None,
        )

    emit(view, show)


@command(_miner, "why")
@click.argument("miner_id")
def why_miner(miner_id: str) -> None:
    """Why a miner gets no job, and what would change that."""
    with connection().admin() as operator:
        found = operator.why_miner(miner_id)
    emit(found, lambda: show_miner_why(found))


@command(_miner, "approve")
@click.argument("miner_id")
def approve_miner(miner_id: str) -> None:
    """Let a pending or suspended miner work."""
    with connection().admin() as operator:
        _emit_miner(operator.approve(miner_id))


@command(_miner, "suspend")
@click.argument("miner_id")
@click.option("--reason", default="", help="For the audit log.")
def suspend_miner(miner_id: str, reason: str) -> None:
    """Give a miner no more jobs; what it holds it may finish."""
    with connection().admin() as operator:
        _emit_miner(operator.suspend(miner_id, reason))


@command(_miner, "retire")
@click.argument("miner_id")
def retire_miner(miner_id: str) -> None:
    """End a miner for good: its jobs go back and its keys end."""
    with connection().admin() as operator:
        _emit_miner(operator.retire(miner_id))


def _rate(text: str) -> int | str:
    if text == "default":
        return text
    if not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text!r} is neither a number nor 'default'")
    return int(text)


@command(_miner, "limits")
@click.argument("miner_id")
@click.option(
    "--requests-per-minute",
    "requests",
    type=_rate,
    metavar="N|default",
    help="0 is no limit; default: as the setting says.",
)
@click.option(
    "--job-operations-per-minute",
    "operations",
    type=_rate,
    metavar="N|default",
    help="Likewise, for accept, complete and fail.",
)
def limit_miner(miner_id: str, requests: int | str | None, operations: int | str | None) -> None:
    """Set a miner's own limits; what is not named stays."""
    if requests is None and operations is None:
        fail("there is no limit to set; give --requests-per-minute, --job-operations-per-minute or both")

    def chosen(given: int | str | None, now: int | None) -> int | None:
        return now if given is None else given if isinstance(given, int) else None

    with connection().admin() as operator:
        # The call sets both at once.
        now = operator.miner(miner_id).limits
        view = operator.set_limits(
            miner_id,
            requests_per_minute=chosen(requests, now.requests_per_minute),
            job_operations_per_minute=chosen(operations, now.job_operations_per_minute),
        )
    _emit_miner(view)


def _emit_miner(view: MinerView) -> None:
    emit(view, lambda: _show_miner(view))


def _show_miner(view: MinerView) -> None:
    def limit(value: int | None) -> str:
        return "as set for all" if value is None else str(value) if value else "none"

    facts(
        miner_id=view.miner_id,
        name=view.name,
        status=view.status,
        gpu=f"{view.gpu_count} × {view.gpu_type}",
        location=view.location,
        price_per_hour=view.price_per_hour,
        jobs_at_a_time=view.max_concurrent,
        models="any" if view.models is None else ", ".join(view.models),
        requests_per_minute=limit(view.limits.requests_per_minute),
        job_operations_per_minute=limit(view.limits.job_operations_per_minute),
        registered=moment(view.created_at),
        last_seen=moment(view.last_seen_at),
    )


# ---- Keys and tokens


@command(_key, "rotate")
@click.argument("account_id")
@click.option("--grace", type=click.FloatRange(0), default=0.0, help="Seconds for which the old keys go on working.")
@_repeatable
def rotate_key(account_id: str, grace: float, idempotency_key: str | None) -> None:
    """Make a new key, shown this once; the old ones end."""
    with connection().admin() as operator:
        made = operator.rotate_key(account_id, grace, idempotency_key=idempotency_key)
    emit(made, lambda: facts(account_id=made.account_id, api_key=made.api_key))


@command(_key, "revoke")
@click.argument("account_id")
def revoke_keys(account_id: str) -> None:
    """End all keys of a miner or a client."""
    with connection().admin() as operator:
        ended = operator.revoke_keys(account_id)
    emit(ended, lambda: facts(account_id=ended.account_id, keys_ended=ended.revoked))


@command(_token, "create")
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="How many may register with it.")
@click.option("--expires-in", type=float, default=604_800.0, help="Seconds for which it works; a week by default.")
@_repeatable
def create_token(uses: int, expires_in: float, idempotency_key: str | None) -> None:
    """Make a token, shown this once."""
    with connection().admin() as operator:
        made = operator.create_enrollment_token(uses, expires_in, idempotency_key=idempotency_key)
    emit(
        made,
        lambda: facts(enrollment_token=made.enrollment_token, uses=made.uses, expires=moment(made.expires_at)),
    )


# ---- Jobs


@command(_job, "list")
@click.option("--status", type=jobs.STATES, help="Only jobs in this state.")
@click.option("--model", help="Only jobs of this model.")
@click.option("--client", "client_id", metavar="CLIENT_ID", help="Only jobs of this client.")
@listing
def list_jobs(status: str | None, model: str | None, client_id: str | None, limit: int | None) -> None:
    """List everybody's jobs, the newest first."""
    with connection().admin() as operator:
        every = operator.iter_jobs(status=status, model=model, client_id=client_id, page_size=page_size(limit))
        jobs.show_list(some(every, limit))


@command(_job, "why")
@click.argument("job_id")
def why_job(job_id: str) -> None:
    """Why a job waits: which rule keeps how many miners from it."""
    with connection().admin() as operator:
        found = operator.why_job(job_id)
    emit(found, lambda: show_job_why(found))


@command(_job, "cancel")
@click.argument("job_id")
def cancel_job(job_id: str) -> None:
    """Cancel anybody's job; its price goes back to the client."""
    with connection().admin() as operator:
        view = operator.cancel_job(job_id)
    emit(view, lambda: click.echo(line(view)))


# ---- The whole


@command(admin)
@listing
def audit(limit: int | None) -> None:
    """Show what operators did, the newest first."""
    columns = ("AT", "ACTOR", "ACTION", "SUBJECT", "DETAIL")
    with connection().admin() as operator:
        found = some(operator.iter_audit(page_size=page_size(limit)), limit)
        listed(
            "entries",
            found,
            AuditEntry,
            columns,
            lambda one: (moment(one.at), one.actor, one.action, one.subject, one.detail),
        )


@command(admin)
def overview() -> None:
    """Show the exchange in numbers."""
    with connection().admin() as operator:
        view = operator.overview()

    def show() -> None:
        def tally(counts: dict[str, Any]) -> str:
            return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"

        facts(version=view.version, clock=moment(view.now), miners=tally(view.miners), jobs=tally(view.jobs))
        facts(**{f"ledger_{name}": amount for name, amount in view.ledger.items()})

    emit(view, show)
