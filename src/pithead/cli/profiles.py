"""Which coordinator, with which key: options, then the environment, then the profile file (`pithead.saved`).

    @click.group()
    @connection_options               # --url --key --profile --json; on a group it holds for all within
    def things() -> None: ...

    @command(things)                  # connection options again, on the command itself
    def show() -> None:
        with connection().client() as client: ...

A test hands in an httpx transport as click's `obj`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pithead.cli.output import JSON_OPTION, fail
from pithead.saved.profiles import DEFAULT_URL, find, profiles

if TYPE_CHECKING:
    from pithead.client import AdminClient, AsyncClient, Client

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds for retries where somebody sits before the terminal: a mistyped URL must not look like a hang.
SOMEBODY_LOOKS_ON: Final = 3.0

_OPTIONS = "pithead.connection."


@dataclass(frozen=True)
class Connection:
    """A coordinator to talk to. `transport` is httpx's own unless a test brought one."""

    url: str
    key: str | None
    transport: Any = None
    #: Why there is no key, if there is none.
    why: str = ""

    def needed_key(self) -> str:
        """The key, or the command ends with a line that says where to put one."""
        if self.key is None:
            fail(self.why)
        return self.key

    def client(self) -> Client:
        """For those with work."""
        from pithead.client import Client

        return Client(self.url, self.needed_key(), retry_for=SOMEBODY_LOOKS_ON, transport=self.transport)

    def async_client(self) -> AsyncClient:
        """For those with work, awaited; patient, since it is for waiting: a coordinator may restart meanwhile."""
        from pithead.client import AsyncClient

        return AsyncClient(self.url, self.needed_key(), transport=self.transport)

    def admin(self) -> AdminClient:
        """For the operator."""
        from pithead.client import AdminClient

        return AdminClient(self.url, self.needed_key(), retry_for=SOMEBODY_LOOKS_ON, transport=self.transport)


def connection_options(command: F) -> F:
    """Gives the function of a command (or group, for all within) `--url`, `--key`, `--profile` and `--json`."""
    for name, about in reversed(_options().items()):
        command = click.option(f"--{name}", **about)(command)
    return command


def command(group: click.Group, name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a function a command of the group, with the connection options after its own."""

    def made(function: Callable[..., None]) -> click.Command:
        one = group.command(name)(function)
        one.params += [click.Option([f"--{option}"], **about) for option, about in _options().items()]
        return one

    return made


def _options() -> dict[str, dict[str, Any]]:
    helps = {
        "url": f"The coordinator [env PITHEAD_URL; default: {DEFAULT_URL}].",
        "key": "Your key [env PITHEAD_KEY, where other users cannot see it].",
        "profile": "A saved coordinator [env PITHEAD_PROFILE; default: the one in use].",
    }
    texts: dict[str, dict[str, Any]] = {
        name: {"metavar": name.upper(), "expose_value": False, "callback": _note, "help": text}
        for name, text in helps.items()
    }
    texts["profile"]["shell_complete"] = complete_profile
    return texts | {"json": JSON_OPTION}


def _note(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    # A group's options are read before its commands': the nearer one wins.
    if value is not None:
        context.meta[_OPTIONS + str(parameter.name)] = value


def connection() -> Connection:
    """The coordinator that the current command is to talk to."""
    context = click.get_current_context()
    url, key, name = (context.meta.get(_OPTIONS + option) for option in ("url", "key", "profile"))
    found = find(url, key, name, spelled="--{}")
    return Connection(found.url, found.key, context.obj, found.why)


def complete_profile(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The saved names that begin so, for a shell."""
    return [name for name in sorted(profiles()) if name.startswith(incomplete)]
