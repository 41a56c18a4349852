"""Which miner a command is about, with which key: as named on the command line, or as registered on this machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pithead.cli.output import fail, json_option
from pithead.cli.profiles import SOMEBODY_LOOKS_ON
from pithead.client import ApiError, MinerClient
from pithead.client.environment import miner
from pithead.saved.registrations import Registration

F = TypeVar("F", bound=Callable[..., Any])


def profile_option(command: F) -> F:
    """The option that says which registration of this machine is meant."""
    return click.option(
        "--profile",
        metavar="NAME",
        envvar="PITHEAD_MINER_PROFILE",
        default="default",
        show_default=True,
        help="Which registration of this machine.",
    )(command)


def identity_options(command: F) -> F:
    """The options that say which miner, of which coordinator, with which key."""
    command = click.option("--miner-id", metavar="ID", help="Work as this miner, without a registration here.")(command)
    command = click.option("--key", metavar="KEY", help="A key in place of the saved one, as after a rotation.")(
        command
    )
    command = click.option("--url", metavar="URL", help="The coordinator, if it has moved.")(command)
    return profile_option(command)


def identity(profile: str, url: str | None, key: str | None, miner_id: str | None) -> Registration:
    """Which miner to be: as named with id, URL and key, or as registered here."""
    return miner(profile, url, key, miner_id, spelled="--{}")


def for_miner(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which miner, and the SDK with its key as first argument; and `--json`."""

    @functools.wraps(function)
    def run(profile: str, url: str | None, key: str | None, miner_id: str | None, **given: Any) -> None:
        who = identity(profile, url, key, miner_id)
        with client_of(who) as client:
            try:
                function(client, **given)
            except ApiError as error:
                # Where a job is named, it can be the job that is not there.
                if error.status == 401 or (error.status == 404 and "job_id" not in given):
                    fail(not_known(who, error))
                raise

    return identity_options(json_option(run))


def client_of(who: Registration) -> MinerClient:
    """The SDK with this miner's key."""
    return MinerClient(who.url, who.miner_id, who.key, retry_for=SOMEBODY_LOOKS_ON)


def not_known(who: Registration, error: ApiError) -> str:
    """What to say where the coordinator does not know the miner or its key."""
    return (
        f"{who.url} does not take {who.miner_id} for one of its miners ({error.detail}); "
        "if its key was changed give --key, else register again with --force"
    )
