"""`pithead login`, `profile` and `completion`: what is set up on this computer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from pithead.cli.lists import listed
from pithead.cli.output import csv_option, emit, fail, json_option
from pithead.cli.page import Page
from pithead.cli.profiles import complete_profile
from pithead.saved.profiles import (
    CHOSEN,
    DEFAULT_PROFILE,
    DEFAULT_URL,
    Profile,
    chosen,
    path,
    profiles,
    save,
    save_all,
)

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.option("--url", metavar="URL", default=DEFAULT_URL, show_default=True, help="The coordinator.")
@click.option("--key", metavar="KEY", help="Your key; asked for, or read from standard input, when absent.")
@click.option(
    "--profile",
    "name",
    metavar="NAME",
    help=f"The name to save it under; default: the one in use, at first {DEFAULT_PROFILE}.",
)
@json_option
@click.pass_obj
def login(transport: Any, url: str, key: str | None, name: str | None) -> None:
    """Try a key at a coordinator, and save both for the commands after it."""
    from pithead.client.environment import checked_key, checked_url

    name = chosen() if name is None else name
    if not (name and name.isprintable()) or name == CHOSEN:
        fail("a profile's name is printable text; choose another")
    url = checked_url(url)
    if key is None:
        key = click.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
        if not key:
            fail("no key came on standard input; pipe it in, or give --key")
    key = checked_key(key)
    _try(url, key, transport)
    save(name, Profile(url, key))
    emit(
        {"profile": name, "url": url, "path": str(path())},
        lambda: click.echo(f"Saved {url} as profile {name!r} in {path()}."),
    )


def _try(url: str, key: str, transport: Any) -> None:
    """A key that the coordinator refuses is not worth keeping. One that cannot be tried now is kept, and it is said."""
    from pithead.client import ApiError, Client, PitheadError, Unauthorized

    try:
        with Client(url, key, retry_for=0, transport=transport) as client:
            client.me()
    except Unauthorized as error:
        fail(f"{url} does not take this key ({error.detail}); nothing was saved: check that all of it was copied")
    except ApiError:
        pass  # The key is known: it is the operator's or a miner's, and only clients have an account.
    except PitheadError as error:
        click.echo(f"pithead: the key could not be tried: {error}", err=True)


# ---- profiles


@click.group(
    cls=Page,
    examples=(
        "pithead login --url https://lab.example --profile lab",
        "pithead profile use lab",
        "pithead job list --profile default",
    ),
)
def profile() -> None:
    """The coordinators and keys that 'pithead login' saved.

    Commands go by the one in use, unless --profile or PITHEAD_PROFILE names another.
    """


@profile.command("list")
@json_option
@csv_option
def list_() -> None:
    """List the saved profiles; the keys stay where they are."""
    used = chosen()
    found: list[dict[str, Any]] = [
        {"profile": name, "url": one.url or DEFAULT_URL, "key": one.key is not None, "in_use": name == used}
        for name, one in sorted(profiles().items())
    ]
    fields, columns = ("profile", "url", "key", "in_use"), ("", "PROFILE", "URL", "KEY")
    listed("profiles", found, fields, columns, _row)


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return "*" if one["in_use"] else "", one["profile"], one["url"], "saved" if one["key"] else None


@profile.command()
@click.argument("name", shell_complete=complete_profile)
@json_option
def use(name: str) -> None:
    """Go by this profile from now on."""
    saved = _known(name)
    save_all(saved, name)
    emit(
        {"in_use": name}, lambda: click.echo(f"Commands go by {name!r} ({saved[name].url or DEFAULT_URL}) from now on.")
    )


@profile.command()
@click.argument("name", shell_complete=complete_profile)
@json_option
def remove(name: str) -> None:
    """Forget a profile, and the key that is kept with it."""
    saved, used = _known(name), chosen()
    del saved[name]
    save_all(saved, DEFAULT_PROFILE if name == used else used)
    emit({"removed": name}, lambda: click.echo(f"Forgot {name!r}."))


def _known(name: str) -> dict[str, Profile]:
    saved = profiles()
    if name not in saved:
        fail(
            f"there is no profile {name!r} (known: {', '.join(sorted(saved)) or 'none yet'}); see 'pithead profile list'"
        )
    return saved


# ---- completion


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print what makes a shell complete pithead's commands and options.

    \b
    bash:  eval "$(pithead completion bash)"     in ~/.bashrc
    zsh:   eval "$(pithead completion zsh)"      in ~/.zshrc
    fish:  pithead completion fish > ~/.config/fish/completions/pithead.fish
    """
    from click.shell_completion import get_completion_class

    named = shell or Path(os.environ.get("SHELL", "")).name
    if named not in _SHELLS:
        fail(f"there is no completion for {named or 'a shell that is not named'}; name one of {', '.join(_SHELLS)}")
    made = get_completion_class(named)
    assert made is not None
    root = click.get_current_context().find_root().command
    # Only the script is made of this; it asks the command itself whenever it completes something.
    click.echo(made(root, {}, "pithead", "_PITHEAD_COMPLETE").source())
