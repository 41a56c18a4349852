"""The miners that were registered on this computer: a file each, `miners/<profile>.toml`, with the id, the key and the URL."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from pithead.saved.place import Unusable, config_folder


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A miner that was registered."""

    url: str
    miner_id: str
    key: str
    #: The models that its owner chose to offer; `None`: all that are found.
    models: list[str] | None = None
    #: As it was registered: what holds where the owner sets nothing else.
    max_concurrent: int | None = None
    price_per_hour: str | None = None

    def numbers(self) -> dict[str, int | str]:
        """What of it the owner's settings go before."""
        both = {"max_concurrent": self.max_concurrent, "price_per_hour": self.price_per_hour}
        return {name: value for name, value in both.items() if value is not None}


def file_of(profile: str) -> Path:
    """Where the registration of that name is, or would be. Raises `Unusable`."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", profile):
        raise Unusable(f"{profile!r} is no name for a file; use letters, digits, '.', '_' and '-'")
    return config_folder() / "miners" / f"{profile}.toml"


def load(profile: str) -> Registration:
    """The registration of that name. Raises `Unusable`."""
    file = file_of(profile)
    more = "" if profile == "default" else f" --profile {profile}"
    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Registration)
    except FileNotFoundError:
        raise Unusable(
            f"no miner is registered here under {profile!r}; run 'pithead miner register{more}' first"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise Unusable(f"{file} cannot be read ({error}); mend it, or register again with --force") from None
