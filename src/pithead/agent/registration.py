"""Where a registration is kept: a file per miner, `miners/<profile>.toml`, with the id, the key and the URL.

Everything that the agent keeps is in the user's folders, or all of it in `PITHEAD_CONFIG_DIR` where that is set. A key
is shown once and cannot be read back, so a file is never replaced unless asked for, and appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from pithead.saved.place import Unusable, config_folder
from pithead.saved.registrations import Registration, file_of

T = TypeVar("T")


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
    from platformdirs import user_state_path

    if kind == "config" or os.environ.get("PITHEAD_CONFIG_DIR"):
        return config_folder()
    return user_state_path("pithead")


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
