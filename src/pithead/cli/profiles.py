"""Which coordinator, with which key: options, then the environment, then the profile file.

    @click.group()
    @connection_options               # --url --key --profile --json; on a group it holds for all within
    def things() -> None: ...

    @command(things)                  # connection options again, on the command itself
    def show() -> None:
        with connection().client() as client: ...

The profile file is `profiles.toml` in the user's configuration folder (or in `PITHEAD_CONFIG_DIR`), readable by its owner
only: a table per profile with `url` and `key`, and before them the name of the one in use. A test hands in an httpx transport as click's `obj`.
"""

from __future__ import annotations

import json
import os
import tomllib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pithead.cli.output import JSON_OPTION, fail

if TYPE_CHECKING:
    from pithead.client import AdminClient, AsyncClient, Client

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_PROFILE: Final = "default"
#: Names the profile in use in the file, where that is another one; so no profile has this name.
CHOSEN: Final = ".in-use"
#: Seconds for retries where somebody sits before the terminal: a mistyped URL must not look like a hang.
SOMEBODY_LOOKS_ON: Final = 3.0

_OPTIONS = "pithead.connection."


@dataclass(frozen=True)
class Profile:
    """A saved coordinator."""

    url: str | None = None
    key: str | None = None


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
    # A profile named on the command line is nearer than the environment.
    environment = {} if name else os.environ
    profile = load(name or os.environ.get("PITHEAD_PROFILE"))
    url = url or environment.get("PITHEAD_URL") or profile.url or DEFAULT_URL
    key = key or environment.get("PITHEAD_KEY")
    why = "there is no key; give --key, set PITHEAD_KEY, or run 'pithead login'"
    if not key and profile.key:
        # A saved key goes nowhere but where it was saved for.
        if url.rstrip("/") == (profile.url or DEFAULT_URL).rstrip("/"):
            key = profile.key
        else:
            why = f"there is no key for {url} (the profile's is for {profile.url or DEFAULT_URL}); give --key"
    return Connection(url, key or None, context.obj, why)


def path() -> Path:
    """Where the profiles are."""
    from platformdirs import user_config_path

    folder = os.environ.get("PITHEAD_CONFIG_DIR")
    return (Path(folder) if folder else user_config_path("pithead")) / "profiles.toml"


def load(name: str | None) -> Profile:
    """The profile of that name, or the one in use, which may be missing."""
    saved, used = _read()
    if name is not None and name not in saved:
        known = ", ".join(sorted(saved)) or "none yet"
        fail(f"there is no profile {name!r} (known: {known}); make it with 'pithead login --profile {name}'")
    return saved.get(name or used, Profile())


def profiles() -> dict[str, Profile]:
    """All that are saved, by name."""
    return _read()[0]


def chosen() -> str:
    """The name of the profile in use."""
    return _read()[1]


def complete_profile(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The saved names that begin so, for a shell."""
    return [name for name in sorted(profiles()) if name.startswith(incomplete)]


def save(name: str, profile: Profile) -> Path:
    """Save the profile beside the others."""
    saved, used = _read()
    return save_all(saved | {name: profile}, used)


def save_all(profiles: dict[str, Profile], used: str) -> Path:
    """Save these profiles, and which is in use; the file's mode is 0600 from its first byte on."""
    lines = [] if used == DEFAULT_PROFILE else [f"{_quoted(CHOSEN)} = {_quoted(used)}", ""]
    for title, one in profiles.items():
        lines.append(f"[{_quoted(title)}]")
        lines += [f"{key} = {_quoted(value)}" for key, value in (("url", one.url), ("key", one.key)) if value]
        lines.append("")
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text("\n".join(lines), encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL; names, URLs and keys are checked to be printable.
    return json.dumps(text, ensure_ascii=False)


def _read() -> tuple[dict[str, Profile], str]:
    file = path()
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, DEFAULT_PROFILE
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read ({error}); mend it, or remove it and log in again")
    used = tables.pop(CHOSEN, DEFAULT_PROFILE)
    if not isinstance(used, str):
        fail(f"{CHOSEN} in {file} is not the name of a profile; mend it, or remove that line")
    profiles = {}
    for name, fields in tables.items():
        url, key = (fields.get("url"), fields.get("key")) if isinstance(fields, dict) else (0, 0)
        if not isinstance(url, str | None) or not isinstance(key, str | None):
            fail(f"profile {name!r} in {file} is not a table with texts url and key; mend it, or remove it")
        profiles[name] = Profile(url, key)
    return profiles, used
