"""The owner's settings: `miner.toml` in the user's configuration folder, or in `PITHEAD_CONFIG_DIR`.

What stands at the top holds for every miner of the machine; what stands under `[profiles.NAME]`, for the one of that
name in its place. The file is the owner's: `put` keeps its comments, and a file that cannot be read changes nothing.
"""

from __future__ import annotations

import os
import re
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
#: In the order of `datetime.weekday`.
DAYS: Final[tuple[str, ...]] = get_args(Day)
#: `22:00-07:00`: from, to; beyond midnight where the second is the earlier. `24:00` is the day's end.
_HOURS: Final = r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$(?!\n)"
Hours = Annotated[str, Meta(pattern=_HOURS)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(gt=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=100)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
#: What a kind may be called.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$(?!\n)")]
Action = Literal["notify", "throttle", "pause"]


def _about(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Beyond these no new job is taken. What is not set limits nothing."""

    temperature: Annotated[Positive | None, _about("Degrees Celsius of the hottest GPU.")] = None
    power: Annotated[Positive | None, _about("Watts that one GPU draws.")] = None
    gpu_memory: Annotated[Percent | None, _about("Per cent of a GPU's memory in use, by anybody.")] = None
    free_memory: Annotated[Positive | None, _about("Gigabytes of the machine's memory that stay free.")] = None
    data_per_day: Annotated[Positive | None, _about("Megabytes of inputs and results a day.")] = None
    others: Annotated[Share | None, _about("Per cent of a GPU that processes other than ours may use.")] = None


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to say something, and what else to do."""

    at: Annotated[Positive | None, _about("From where on; not set: never.")] = None
    action: Annotated[
        Action, _about("`notify`; also `throttle` (one job at a time) or `pause` (no new job) while it lasts.")
    ] = "notify"


class Alerts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the owner wants to be told."""

    #: Degrees Celsius of the hottest GPU.
    temperature: Alert = Alert()
    #: Per cent of a GPU's memory.
    memory: Alert = Alert()
    #: Jobs that failed one after the other.
    failures: Alert = Alert()
    #: Earned in the last 24 hours: less than this.
    earnings: Alert = Alert()
    command: Annotated[
        str, _about("A program that is run with the alert's text as its last argument; empty: the log is all.")
    ] = ""


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that the owner decides. `None`: as it was registered, or no limit."""

    pause: Annotated[
        str | None,
        _about("Take no new job: `yes`, or until an instant such as `2026-01-31T18:00:00` (local time)."),
    ] = None
    models: Annotated[list[str] | None, _about("Models to offer; not set: all that are found.")] = None
    kinds: Annotated[
        list[Name] | None,
        _about(
            "Kinds of jobs to take, by their runners: `llama`, `openai`, `command`, `container`, `transformers`, or a plug-in's name; not set: all."
        ),
    ] = None
    images: Annotated[
        list[Digest] | None,
        _about("Images to run, by digest (`sha256:…`), of those in `runners.toml`; not set: all of these."),
    ] = None
    clients_allowed: Annotated[list[str] | None, _about("Clients to work for, by id; not set: all.")] = None
    clients_refused: Annotated[list[str], _about("Clients not to work for, by id.")] = []
    price_per_hour: Annotated[NotNegative | None, _about("What a GPU costs an hour; not set: as registered.")] = None
    minimum_price: Annotated[float, _about("The least that a job must pay.", ge=0)] = 0.0
    gpus: Annotated[
        list[str] | None, _about("GPUs to offer, by index or UUID, of those that there are; not set: all.")
    ] = None
    gpu_types: Annotated[
        dict[str, str], _about("Types of GPUs in your words, before ours: a part of the product's name, and the type.")
    ] = {}
    max_concurrent: Annotated[Count | None, _about("Jobs at a time; not set: as registered.")] = None
    hours: Annotated[
        list[Hours],
        _about("When to work, in local time: `22:00-07:00` belongs to the day on which it begins; not set: always."),
    ] = []
    days: Annotated[list[Day], _about("Days to work on; not set: all.")] = []
    file_cache: Annotated[
        float,
        _about(
            "Gigabytes of disk for input files of jobs, which are kept for later jobs; 0: jobs with files fail here.",
            ge=0,
        ),
    ] = 10.0
    settle: Annotated[
        float, _about("Seconds for which a limit must hold again before work is taken again.", ge=0, le=86_400)
    ] = 60.0
    drain_seconds: Annotated[
        float, _about("How long what runs may go on after SIGTERM; then it is handed back.", ge=0, le=86_400)
    ] = 600.0
    metrics_port: Annotated[
        Port | None, _about("A port of this machine for Prometheus, read at the start; not set: none.")
    ] = None
    limits: Limits = Limits()
    alerts: Alerts = Alerts()


class Unreadable(Exception):
    """The settings cannot be used. The message is one line: what is wrong, and what to do."""


class Option(msgspec.Struct, frozen=True):
    """One setting."""

    name: str
    type: Any
    meaning: str
    default: Any


def options(struct: type[msgspec.Struct] = Owner, prefix: str = "") -> Iterator[Option]:
    """Every setting, by its dotted name, in order."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from options(field.type, f"{prefix}{field.name}.")
        else:
            hint = hints[field.name]
            meta = get_args(hint)[1] if get_origin(hint) is Annotated else None
            yield Option(prefix + field.name, hint, (meta and meta.description) or "", _default(field))


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def value_of(owner: Owner, name: str) -> Any:
    """The value of a setting by its dotted name."""
    value: Any = owner
    for part in name.split("."):
        value = getattr(value, part)
    return value


def load(file: Path, profile: str = "default") -> Owner:
    """The settings of that miner; all defaults where there is no file. Raises `Unreadable`."""
    try:
        return parse(file.read_text(encoding="utf-8"), profile, str(file))
    except FileNotFoundError:
        return Owner()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{file} cannot be read ({error}); check it and your rights to it") from None


def parse(text: str, profile: str, where: str) -> Owner:
    """The settings in that text. Raises `Unreadable`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"{where} is not valid TOML: {error}; mend it there") from None
    profiles = table.pop("profiles", {})
    own = profiles.get(profile, {}) if isinstance(profiles, dict) else profiles
    if not isinstance(own, dict):
        raise Unreadable(f"{where}: profiles are tables, [profiles.NAME]; mend it there")
    known = {option.name: option for option in options()}
    for values in (table, own):
        for name, value in _flat(values):
            if name not in known:
                raise Unreadable(f"{where}: there is no setting {name}{_guess(name)}")
            convert(known[name], value, f"{where}: {name}")
    return msgspec.convert(_merged(table, own), Owner)


def convert(option: Option, value: Any, where: str) -> Any:
    """The value as the setting has it. Raises `Unreadable`."""
    if isinstance(value, datetime):
        value = value.isoformat()
    try:
        found = msgspec.convert(value, option.type)
        if option.name == "pause" and found is not None and found not in ("yes", "no"):
            datetime.fromisoformat(found)
    except (msgspec.ValidationError, ValueError) as error:
        # A pattern is for programs; the meaning has an example.
        fault = "not in the form that is wanted" if "matching regex" in str(error) else str(error)
        raise Unreadable(f"{where} ({value!r}): {fault}; its meaning: {option.meaning}") from None
    return found


def put(file: Path, name: str, text: str | None, profile: str | None = None) -> Owner:
    """Write one setting, or remove it where the text is `None`; the settings as they then are. Raises `Unreadable`.

    Lists are words with commas between them. The rest of the file stays as it is, comments included; it appears whole.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    option = next((one for one in options() if one.name == name), None)
    if option is None:
        raise Unreadable(f"there is no setting {name}{_guess(name)}")
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        document = tomlkit.parse(before)
        table: Any = document
        for part in [*(["profiles", profile] if profile else []), *name.split(".")[:-1]]:
            table = table.setdefault(part, tomlkit.table())
        last = name.rpartition(".")[2]
        if text is None:
            table.pop(last, None)
        else:
            table[last] = convert(option, _read(option, text), name)
        after = tomlkit.dumps(document)
    except (TOMLKitError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise Unreadable(f"{file} cannot be changed ({error}); mend it there") from None
    owner = parse(after, profile or "default", str(file))
    _replace(file, after)
    return owner


def _read(option: Option, text: str) -> Any:
    """What somebody typed, as TOML would have it."""
    hint = get_args(option.type)[0]
    if "dict" in str(hint):
        pairs = (word.partition("=") for word in text.split(",") if word.strip())
        return {name.strip(): value.strip() for name, _, value in pairs}
    if "list" in str(hint):
        return [word.strip() for word in text.split(",") if word.strip()]
    for kind in (int, float):
        if kind.__name__ in str(hint):
            try:
                return kind(text)
            except ValueError:
                return text
    return text


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, as TOML values; dates in words, as `pause` has them."""
    merged: dict[str, Any] = dict(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict) and name != "gpu_types"
        merged[name] = _merged(merged[name], value) if both else value
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in merged.items()}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and prefix + name != "gpu_types":
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _guess(name: str) -> str:
    close = get_close_matches(name, [option.name for option in options()], n=1)
    return f"; did you mean {close[0]}?" if close else "; 'pithead miner settings' lists those that there are"


def duration(text: str) -> float:
    """Seconds in `90`, `90s`, `15m`, `2h`, `1d`. Raises `ValueError`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not found:
        raise ValueError(f"{text!r} is no length of time; write 90s, 15m, 2h or 1d")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
