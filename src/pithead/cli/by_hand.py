"""`pithead miner why`: what a miner's owner asks and does beside the agent."""

from __future__ import annotations

import click

from pithead.agent import registration
from pithead.agent.record import read as read_state
from pithead.cli.identity import client_of, identity, identity_options, not_known
from pithead.cli.output import clean, emit, fail, json_option
from pithead.cli.screen import running
from pithead.cli.why import show_miner_why
from pithead.client import ApiError


@click.command()
@identity_options
@json_option
def why(profile: str, url: str | None, key: str | None, miner_id: str | None) -> None:
    """Why this miner gets no job, or not those jobs, and what would change that.

    Asks the coordinator, whose rules it is; and the agent on this machine, whose owner may decide against jobs too.
    """
    who = identity(profile, url, key, miner_id)
    with client_of(who) as client:
        try:
            found = client.why()
        except ApiError as error:
            if error.status in (401, 404):
                fail(not_known(who, error))
            raise
    local = read_state(registration.state_file(who.miner_id))
    here = local.nothing_because() if local is not None and running(local) else ""

    def show() -> None:
        show_miner_why(found)
        if here:
            click.echo(f"The agent on this machine says: {clean(here)}.")

    emit({"why": found, "agent": here or None}, show)
