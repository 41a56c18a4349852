"""Which coordinator, with which key: as named, else of the environment, else of a profile.

The profile file is `profiles.toml` in the user's configuration folder (or in `PITHEAD_CONFIG_DIR`), readable by its owner
only: a table per profile with `url` and `key`, and before them the name of the one in use.
"""

from __future__ import annotations

import json
import os
import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pithead.saved.place import Unusable, config_folder

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_PROFILE: Final = "default"
#: Names the profile in use in the file, where that is another one; so no profile has this name.
CHOSEN: Final = ".in-use"


@dataclass(frozen=True)
class Profile:
    """A saved coordinator."""

    url: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Found:
    """What is to be gone by."""

    url: str
    key: str | None
    #: Why there is no key, if there is none.
    why: str = ""


def find(url: str | None, key: str | None, name: str | None, *, spelled: str) -> Found:
    """URL and key: as given, else of `PITHEAD_URL` and `PITHEAD_KEY`, else of a profile, else the default URL and no key.

    `name`: the profile that is meant, nearer than the environment; where there is none, it is `PITHEAD_PROFILE` or the one
    in use. `spelled`: how something is given where this is asked, such as `--{}`, for messages. Raises `Unusable`.
    """
    environment = {} if name else os.environ
    profile = load(name or os.environ.get("PITHEAD_PROFILE"))
    url = url or environment.get("PITHEAD_URL") or profile.url or DEFAULT_URL
    key, give = key or environment.get("PITHEAD_KEY"), spelled.format("key")
    why = f"there is no key; give {give}, set PITHEAD_KEY, or run 'pithead login'"
    if not key and profile.key:
        # A saved key goes nowhere but where it was saved for.
        if url.rstrip("/") == (profile.url or DEFAULT_URL).rstrip("/"):
            key = profile.key
        else:
            why = f"there is no key for {url} (the profile's is for {profile.url or DEFAULT_URL}); give {give}"
    return Found(url, key or None, why)


def path() -> Path:
    """Where the profiles are."""
    return config_folder() / "profiles.toml"


def load(name: str | None) -> Profile:
    """The profile of that name, or the one in use, which may be missing. Raises `Unusable`."""
    saved, used = _read()
    if name is not None and name not in saved:
        known = ", ".join(sorted(saved)) or "none yet"
        raise Unusable(f"there is no profile {name!r} (known: {known}); make it with 'pithead login --profile {name}'")
    return saved.get(name or used, Profile())


def profiles() -> dict[str, Profile]:
    """All that are saved, by name. Raises `Unusable`."""
    return _read()[0]


def chosen() -> str:
    """The name of the profile in use. Raises `Unusable`."""
    return _read()[1]


def save(name: str, profile: Profile) -> Path:
    """Save the profile beside the others. Raises `Unusable` where these cannot be read."""
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
        raise Unusable(f"{file} cannot be read ({error}); mend it, or remove it and log in again") from None
    used = tables.pop(CHOSEN, DEFAULT_PROFILE)
    if not isinstance(used, str):
        raise Unusable(f"{CHOSEN} in {file} is not the name of a profile; mend it, or remove that line")
    profiles = {}
    for name, fields in tables.items():
        url, key = (fields.get("url"), fields.get("key")) if isinstance(fields, dict) else (0, 0)
        if not isinstance(url, str | None) or not isinstance(key, str | None):
            raise Unusable(f"profile {name!r} in {file} is not a table with texts url and key; mend it, or remove it")
        profiles[name] = Profile(url, key)
    return profiles, used
