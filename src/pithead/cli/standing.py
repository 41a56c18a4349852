"""`pithead miner status`, `why`, `stats`, `watch`, `update` and `deregister`: how a miner stands with its coordinator."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from pithead.agent import registration
from pithead.agent.record import read as read_state
from pithead.cli.identity import for_miner
from pithead.cli.output import clean, emit, facts, fail, moment, wants_json
from pithead.cli.screen import running
from pithead.cli.why import show_miner_why
from pithead.client import MinerClient
from pithead.saved import registrations
from pithead.saved.place import Unusable
from pithead.wire.base import encode
from pithead.wire.events import JobEvent, MinerEvent, PayoutEvent
from pithead.wire.miners import MinerView
from pithead.wire.webhooks import WebhookView


@click.command()
@for_miner
def why(client: MinerClient) -> None:
    """Why this miner gets no job, or not those jobs, and what would change that.

    Asks the coordinator, whose rules it is; and the agent on this machine, whose owner may decide against jobs too.
    """
    found = client.why()
    local = read_state(registration.state_file(client.miner_id))
    here = local.nothing_because() if local is not None and running(local) else ""

    def show() -> None:
        show_miner_why(found)
        if here:
            click.echo(f"The agent on this machine says: {clean(here)}.")

    emit({"why": found, "agent": here or None}, show)


@click.command()
@for_miner
def status(client: MinerClient) -> None:
    """How the coordinator sees this miner, and what it has earned."""
    view, done = client.get(), client.stats()
    local = read_state(registration.state_file(client.miner_id))
    here = running(local)

    def show() -> None:
        show_view(view)
        facts(
            last_seen=moment(view.last_seen_at),
            jobs=done.total_jobs,
            success=f"{done.success_rate:.0%}",
            earnings=done.earnings,
            per_gpu_hour=done.earnings_per_gpu_hour,
            agent="runs on this machine" if here else "does not run on this machine",
            no_job_because=local.nothing_because() or None if local is not None and here else None,
        )

    emit({"miner": view, "stats": done, "running": here, "agent": local if here else None}, show)


@click.command()
@for_miner
def stats(client: MinerClient) -> None:
    """What this miner has done, and what it earned."""
    found = client.stats()
    emit(
        found,
        lambda: facts(
            jobs=found.total_jobs,
            success=f"{found.success_rate:.1%}",
            seconds_each=found.average_completion_time,
            earnings=found.earnings,
            per_gpu_hour=found.earnings_per_gpu_hour,
        ),
    )


@click.command()
@for_miner
def watch(client: MinerClient) -> None:
    """A line whenever the coordinator tells something of this miner, its jobs or its payouts, until interrupted.

    With --json, a JSON object a line.
    """
    for event in client.account_events():
        data = event.data
        if wants_json():
            click.echo(encode({"kind": event.kind, "data": data}))
            continue
        match data:
            case JobEvent():
                said = f"{data.job_id} {data.status}"
            case MinerEvent():
                said = f"miner {data.status}"
            case PayoutEvent():
                said = f"{data.payout_id} {data.status}"
            case WebhookView():
                said = f"{data.webhook_id} is disabled: {data.disabled_reason}"
            case _:
                said = "watching" if data.resumed else "watching; what happened before is not told"
        click.echo(clean(f"{datetime.now().astimezone():%H:%M:%S} {said}"))


@click.command()
@click.option("--name", help="What others see of it.")
@click.option("--gpu-type", metavar="TYPE", help="Such as v100.")
@click.option("--gpu-count", type=click.IntRange(1), help="How many GPUs; for cpu: slots.")
@click.option("--location", help="Where it is, in your words.")
@click.option("--price", "price_per_hour", metavar="AMOUNT", help="Per GPU and hour.")
@click.option("--max-concurrent", type=click.IntRange(1), help="Jobs at a time.")
@click.option("--model", "models", multiple=True, help="Offer only this model; may be repeated.")
@click.option("--any-model", is_flag=True, help="List no models: take jobs of any.")
@click.option("--draining/--no-draining", default=None, help="Take no new job, or take jobs again.")
@for_miner
def update(client: MinerClient, models: tuple[str, ...], any_model: bool, **given: Any) -> None:
    """Change what the coordinator knows of this miner; what is not named stays.

    An agent that runs says what its owner set: for price, jobs at a time and models, 'pithead miner set' lasts longer.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    if models and any_model:
        fail("there are --model and --any-model; give one of them")
    if models or any_model:
        fields["models"] = list(models) or None
    if not fields:
        fail("there is nothing to change; name it, such as --price 0.05")
    view = client.update(**fields)
    emit(view, lambda: show_view(view))


def show_view(view: MinerView) -> None:
    """A miner's registration."""
    facts(
        miner=view.miner_id,
        name=view.name,
        status=view.status,
        machine=f"{view.gpu_count} × {view.gpu_type} at {view.price_per_hour} an hour",
        max_concurrent=view.max_concurrent,
        location=view.location,
        models="any" if view.models is None else ", ".join(view.models) or "none",
    )


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@for_miner
def deregister(client: MinerClient, yes: bool) -> None:
    """End this miner's registration for good: what it holds goes back to the queue, and its key ends.

    What was earned stays the miner's, but only the operator can pay it out then: ask for a payout first. The file with
    the registration is removed, too.
    """
    if running(read_state(registration.state_file(client.miner_id))):
        fail("the agent of this miner runs on this machine; stop it first")
    left = client.payouts(limit=1).balance
    if not yes:
        owed = f" It still has {left:f} to be paid out; see 'pithead miner payout request'." if left else ""
        click.confirm(f"End {client.miner_id} for good?{owed}", abort=True, err=True)
    view = client.deregister()
    removed = _forget(client.miner_id)
    emit(
        {"miner": view, "balance": left, "removed": None if removed is None else str(removed)},
        lambda: click.echo(f"{view.miner_id} is {view.status}." + (f" Removed {removed}." if removed else "")),
    )


def _forget(miner_id: str) -> Path | None:
    """Remove the registration that is kept here, if it is this miner's."""
    profile: str = click.get_current_context().params["profile"]
    try:
        if registrations.load(profile).miner_id != miner_id:
            return None
        file = registrations.file_of(profile)
    except Unusable:
        return None
    file.unlink(missing_ok=True)
    return file
