"""Where a registration is kept: a file per miner, `miners/<profile>.toml`, with the id, the key and the URL.

Everything that the agent keeps is in the user's folders, or all of it in `PITHEAD_CONFIG_DIR` where that is set. A key
is shown once and cannot be read back, so a file is never replaced unless asked for, and appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


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


class Unusable(Exception):
    """A registration that is not there, or not to be used or replaced; the message says what to do."""


def file_of(profile: str) -> Path:
    """Where the registration of that name is, or would be. Raises `Unusable`."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", profile):
        raise Unusable(f"{profile!r} is no name for a file; use letters, digits, '.', '_' and '-'")
    return _folder("config") / "miners" / f"{profile}.toml"


def spool_of(miner_id: str) -> Path:
    """Where the miner's results wait for delivery."""
    name = miner_id if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", miner_id) else uuid.uuid5(uuid.NAMESPACE_OID, miner_id).hex
    return _folder("state") / "spool" / name


def settings_file() -> Path:
    """Where the owner's settings are, or would be."""
    return _folder("config") / "miner.toml"


def state_file(miner_id: str) -> Path:
    """Where the running agent shows what it does, to its owner alone."""
    return spool_of(miner_id).parent.parent / "agents" / f"{spool_of(miner_id).name}.json"


def speeds_file() -> Path:
    """Where `pithead miner try` keeps what it measured."""
    return _folder("state") / "speeds.json"


def files_folder(miner_id: str) -> Path:
    """Where the miner keeps input files of jobs."""
    return spool_of(miner_id).parent.parent / "files" / spool_of(miner_id).name


def log_file(miner_id: str) -> Path:
    """Where the agent writes its log."""
    return state_file(miner_id).with_suffix(".log")


def writable() -> list[Path]:
    """The folders that an agent writes to."""
    return [_folder("state")]


def runners_file() -> Path:
    """Where the owner says what else this machine runs (see `runners.config`)."""
    return _folder("config") / "runners.toml"


def models_folder() -> Path:
    """Where models are looked for unless another folder is named."""
    from platformdirs import user_data_path

    return user_data_path("pithead") / "models"


def _folder(kind: str) -> Path:
    from platformdirs import user_config_path, user_state_path

    chosen = os.environ.get("PITHEAD_CONFIG_DIR")
    if chosen:
        return Path(chosen)
    return user_config_path("pithead") if kind == "config" else user_state_path("pithead")


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


def create(
    profile: str, register: Callable[[], T], keep: Callable[[T], Registration], *, replace: bool
) -> tuple[T, Path]:
    """Register, and keep what comes of it; what `register` gave, and the file.

    That the file can be written is made sure of before: a key that is then lost would be lost for good. Raises
    `Unusable` where there is one already and `replace` is false, `OSError`, and whatever `register` raises.
    """
    file = file_of(profile)
    taken = f"{file} has a registration already; use another --profile, or --force to give it up for good"
    if file.exists() and not replace:
        raise Unusable(taken)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    temporary.touch(mode=0o600, exist_ok=False)
    kept = False
    try:
        answer = register()
        with temporary.open("w", encoding="utf-8") as out:
            out.write(_toml(keep(answer)))
            out.flush()
            os.fsync(out.fileno())
        # From here on the key is on the disk, and the file stays whatever happens.
        kept = True
        if replace:
            temporary.replace(file)
        else:
            try:
                _place(temporary, file)
            except FileExistsError:
                raise Unusable(f"{taken}; the new key is in {temporary}") from None
        return answer, file
    finally:
        if not kept:
            temporary.unlink(missing_ok=True)


def _place(temporary: Path, file: Path) -> None:
    """Rename the file, unless that name is taken. Raises `FileExistsError`."""
    try:
        # Unlike a rename, a link fails where somebody else was faster.
        file.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: the name is taken first, then filled.
        file.touch(mode=0o600, exist_ok=False)
        temporary.replace(file)
    else:
        temporary.unlink()


def _toml(registration: Registration) -> str:
    # JSON texts and lists of them are TOML too.
    fields = msgspec.to_builtins(registration)
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items() if value is not None)
