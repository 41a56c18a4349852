"""Every setting of the coordinator, once, with its meaning, bounds and default.

A setting comes from the command line, else from a `PITHEAD_…` variable (`PITHEAD_LEASES__TTL` is `leases.ttl`), else from
the TOML file, else it has its default. `pithead settings` prints each with its value and source.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from platformdirs import user_data_path

#: Variables that begin like settings and are none: what the command line and the agent read for themselves.
NOT_SETTINGS: Final = frozenset(
    {
        "CONFIG",
        "CONFIG_DIR",
        "COMPLETE",
        "KEY",
        "URL",
        "PROFILE",
        "MINER_ID",
        "MINER_PROFILE",
        "MODELS_DIR",
        "NEW_DB_ENCRYPTION_KEY",
    }
)


#: The longest time that makes sense here: a year. Above all, none is infinite.
_YEAR: Final = 31_536_000


#: Characters of the operator's key: `key_`, and sixteen that nobody guesses.
SHORTEST_KEY: Final = 20
#: What to do about one that cannot be taken.
KEY_ADVICE: Final = (
    'make one with: echo "key_$(openssl rand -hex 24)"; or set none, and the first start makes one and shows it'
)


def _about(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


class RateLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits; 0 is none."""

    requests_per_minute: Annotated[int, _about("Requests a minute that one miner may make.", ge=0)] = 60
    job_operations_per_minute: Annotated[
        int, _about("Of those, how many may accept, complete, fail or release a job.", ge=0)
    ] = 10
    registrations_per_minute: Annotated[int, _about("Registrations a minute from one address.", ge=0)] = 60
    storage: Annotated[
        str,
        _about(
            "Where requests are counted: `memory`, for one coordinator; `database`; or `redis://…` or `valkey://…`. Where it "
            "is not set, the `database` if that is PostgreSQL, and else the `memory`.",
            pattern=r"^(memory|database|(rediss?|valkeys?)://\S+)?$(?!\n)",
        ),
    ] = ""
    client_requests_per_minute: Annotated[int, _about("Requests a minute that one client may make.", ge=0)] = 0


class Leases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a miner may keep a job without a word."""

    ttl: Annotated[float, _about("Seconds that a lease lasts from the accept or the last renewal.", gt=0, le=_YEAR)] = (
        120.0
    )
    retry_base: Annotated[
        float,
        _about("Seconds of back-off after a job's second failure; they double with each further one.", ge=0, le=_YEAR),
    ] = 5.0
    retry_cap: Annotated[float, _about("The longest back-off, in seconds.", ge=0, le=_YEAR)] = 300.0
    avoid_for: Annotated[
        float, _about("Seconds for which a job is not offered again to the miner where it failed.", ge=0, le=_YEAR)
    ] = 60.0


class Miners(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a miner counts as there."""

    offline_after: Annotated[
        float, _about("Seconds without a heartbeat after which a miner is offline.", gt=0, le=_YEAR)
    ] = 180.0


class Jobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for a job unless its client says otherwise."""

    timeout: Annotated[float, _about("Seconds in which a job must be completed, or it expires.", gt=0, le=_YEAR)] = (
        86_400.0
    )
    max_attempts: Annotated[int, _about("Attempts that may fail or lapse before a job fails.", ge=1, le=100)] = 3


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long things are kept; 0 is for ever."""

    results: Annotated[
        float, _about("Seconds from its completion for which the bytes of a job's result are kept.", ge=0)
    ] = 0.0
    files: Annotated[
        float,
        _about(
            "Seconds for which an input file is kept since its client last uploaded it or named it in a job. One that an "
            "unfinished job needs is kept in any case.",
            ge=0,
        ),
    ] = 2_592_000.0
    jobs: Annotated[
        float,
        _about(
            "Seconds for which a finished job is kept, with its input, its attempts and its result. After that only the "
            "ledger knows of it: its id, model, price and outcome.",
            ge=0,
        ),
    ] = 0.0
    idempotency: Annotated[
        float, _about("Seconds for which the answer under an `Idempotency-Key` is kept; a day at the least.", ge=0)
    ] = 172_800.0


class Payouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When miners are paid out."""

    minimum: Annotated[float, _about("The least that is paid out, in currency units.", ge=0, le=100_000_000)] = 0.0
    schedule: Annotated[
        Literal["off", "daily", "weekly", "monthly"],
        _about(
            "How often every miner's earnings are made into a payout by themselves: at midnight UTC, on Mondays, on the "
            "first of the month. `off`: when a miner asks."
        ),
    ] = "off"


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Telling accounts, at URLs of theirs, what happens."""

    allowed_networks: Annotated[
        str,
        _about(
            "Networks, separated by commas, that webhooks may point into though they are not public, and with `http://` too, "
            "e.g. `10.1.0.0/16`. Empty: public addresses only, and `https://` only."
        ),
    ] = ""
    give_up_after: Annotated[
        float, _about("Seconds for which a message that is not taken is sent again.", gt=0, le=_YEAR)
    ] = 259_200.0
    disable_after: Annotated[
        float, _about("Seconds of nothing but failures after which a webhook is disabled.", gt=0, le=_YEAR)
    ] = 432_000.0
    keep_log: Annotated[
        float, _about("Seconds for which it can be seen what was sent, and be sent again.", gt=0, le=_YEAR)
    ] = 2_592_000.0


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    max_body_bytes: Annotated[int, _about("The largest JSON body that is read.", ge=1024)] = 4_194_304
    max_result_bytes: Annotated[int, _about("The largest result that is taken.", ge=1)] = 1_073_741_824
    drain: Annotated[
        float,
        _about(
            "Seconds after SIGTERM for which requests are still served while `/readyz` says 503, so that a load balancer "
            "sends no more of them. Longer than it takes the balancer to notice; 0 where there is none.",
            ge=0,
            le=3600,
        ),
    ] = 0.0
    upload_silence: Annotated[
        float, _about("Seconds without a byte after which an upload counts as broken off.", gt=0, le=_YEAR)
    ] = 60.0
    trusted_proxies: Annotated[
        str, _about("Addresses, separated by commas, whose `X-Forwarded-For` is believed; `*` for all.")
    ] = ""


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pages under `/dashboard`."""

    enabled: Annotated[bool, _about("Whether the coordinator serves its dashboard.")] = True
    session: Annotated[
        float, _about("Seconds after which somebody who signed in has to do so again.", ge=60, le=_YEAR)
    ] = 43_200.0
    sign_ins_per_minute: Annotated[
        int, _about("Attempts a minute to sign in from one address; 0 is no limit.", ge=0)
    ] = 10
    requests_per_minute: Annotated[int, _about("Pages and actions a minute for one account; 0 is no limit.", ge=0)] = (
        600
    )


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What watches a coordinator."""

    token: Annotated[
        str,
        _about(
            "What reads `/metrics`, as `Authorization: Bearer …`, and nothing else. Where it is not set, only the operator's "
            "key does.",
            pattern=r"^[!-~]*$(?!\n)",
        ),
    ] = ""


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files that clients upload for their jobs."""

    max_bytes: Annotated[int, _about("The largest input file that is taken.", ge=1)] = 10_737_418_240
    quota: Annotated[int, _about("Bytes of input files that one client may have; 0 is any number.", ge=0)] = (
        107_374_182_400
    )


class S3(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an `s3://` blob store is, if not at Amazon. What is empty is taken from the environment (`AWS_…`)."""

    endpoint: Annotated[str, _about("The URL of the service, for one that speaks like S3.")] = ""
    region: Annotated[str, _about("The region of the bucket.")] = ""
    virtual_hosted: Annotated[bool, _about("Whether the bucket is part of the host's name and not of the path.")] = (
        False
    )
    allow_http: Annotated[bool, _about("Whether to speak to it without TLS, at an `http://` endpoint.")] = False


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bytes of results."""

    orphan_after: Annotated[
        float, _about("Seconds for which bytes are kept that no result needs, such as those of a lost attempt.", ge=60)
    ] = 86_400.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The coordinator's settings."""

    host: Annotated[str, _about("The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, _about("The port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8080
    data: Annotated[str, _about("The folder for the database, the results and the coordinator's signing key.")] = ""
    database: Annotated[
        str,
        _about(
            "Where everything else is kept: `postgresql://user:password@host/database`, for any number of coordinators. "
            "Where it is not set, a database in the data folder, for one."
        ),
    ] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("The least that is logged.")] = "info"
    log_format: Annotated[
        Literal["text", "json"], _about("`text`: lines to read. `json`: an object a line, for a log collector.")
    ] = "text"
    log_requests: Annotated[
        bool,
        _about(
            "Whether each request is logged when it was answered: who, what, how it went and how long it took. The busiest calls "
            "cost more with it."
        ),
    ] = False
    tracing: Annotated[
        bool,
        _about(
            "Whether traces are made with OpenTelemetry, which needs the extra `otel`. Where they are sent to is said by its own "
            "variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and the like). The busiest calls cost more with them."
        ),
    ] = False
    enrollment: Annotated[
        Literal["open", "approval", "token"],
        _about(
            "`open`: a miner's first heartbeat admits it. `approval`: an operator does. `token`: registering needs one."
        ),
    ] = "open"
    operator_key: Annotated[
        str,
        # What no header can carry would never be let in.
        _about(
            "The operator's key, `key_…`, of at least 20 characters. Where it is not set, one is made at the first start and "
            "printed once.",
            pattern=r"^[!-~]*$(?!\n)",
            extra={"wrong": "a key has no blanks, no line ends and no letters beyond ASCII", "do": KEY_ADVICE},
        ),
    ] = ""
    fee_basis_points: Annotated[
        int, _about("The operator's share of each payment, in hundredths of a per cent.", ge=0, le=10_000)
    ] = 0
    blob_store: Annotated[
        str,
        _about(
            "Where the bytes of results and input files are kept: a folder, `s3://bucket/prefix`, `gs://bucket/prefix` or "
            "`az://container/prefix`; empty for `results` in the data folder."
        ),
    ] = ""
    db_encryption_enabled: Annotated[
        bool, _about("Whether the database, results and the signing key are encrypted where they are kept.")
    ] = False
    db_encryption_key_path: Annotated[
        str, _about("The file with the database key, readable by its owner only. `pithead admin keygen` makes one.")
    ] = ""
    db_encryption_key_command: Annotated[
        str, _about("A command that prints the database key, for secret managers. It is run without a shell.")
    ] = ""
    db_encryption_key: Annotated[
        str, _about("The database key itself, 64 hexadecimal digits. From the environment only.")
    ] = ""
    rate_limits: RateLimits = RateLimits()
    leases: Leases = Leases()
    miners: Miners = Miners()
    jobs: Jobs = Jobs()
    payouts: Payouts = Payouts()
    retention: Retention = Retention()
    http: Http = Http()
    webhooks: Webhooks = Webhooks()
    metrics: Metrics = Metrics()
    dashboard: Dashboard = Dashboard()
    results: Results = Results()
    files: Files = Files()
    s3: S3 = S3()

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return Path(self.data) if self.data else user_data_path("pithead") / "coordinator"


#: Settings that are never printed.
SECRETS: Final = frozenset({"operator_key", "db_encryption_key", "metrics.token"})
#: Settings that may hold a password: they are printed without it.
URLS: Final = frozenset({"database", "rate_limits.storage"})
#: Settings that a file must not hold: it may lie beside what they protect.
NOT_IN_FILES: Final = frozenset({"db_encryption_key"})


class SettingsError(Exception):
    """A setting cannot be used. The message is one line that says which, why, and what to do."""


class Option(msgspec.Struct, frozen=True):
    """One setting: its dotted name, type, meaning and default."""

    name: str
    type: Any
    meaning: str
    default: Any

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "PITHEAD_" + self.name.upper().replace(".", "__")


def options(struct: type[msgspec.Struct] = Settings, prefix: str = "") -> Iterator[Option]:
    """Every setting, in order."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from options(field.type, f"{prefix}{field.name}.")
        else:
            hint = hints[field.name]
            meta = get_args(hint)[1] if get_origin(hint) is Annotated else None
            yield Option(prefix + field.name, hint, (meta and meta.description) or "", field.default)


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force, where each came from, and what was odd."""

    settings: Settings
    sources: dict[str, str]
    warnings: list[str]


def load(
    given: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Loaded:
    """The settings from the command line (`given`, by dotted name), the environment and the file.

    Without `file`: the one that `PITHEAD_CONFIG` names, else `pithead.toml` in the data folder if it is there.
    Raises `SettingsError`.
    """
    environment = os.environ if environment is None else environment
    known = {option.name: option for option in options()}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    warnings: list[str] = []

    def put(name: str, value: Any, source: str) -> None:
        values[name], sources[name] = value, source

    chosen = file or (Path(environment["PITHEAD_CONFIG"]) if environment.get("PITHEAD_CONFIG") else None)
    if chosen is None:
        data = (given or {}).get("data") or environment.get("PITHEAD_DATA") or ""
        beside = Settings(data=str(data)).folder / "pithead.toml"
        chosen = beside if beside.is_file() else None
    if chosen is not None:
        for name, value in _flatten(_read(chosen)):
            if name not in known:
                hint = _guess(name, known) or "; 'pithead settings' lists those that there are"
                raise SettingsError(f"{chosen}: there is no setting {name}{hint}")
            if name in NOT_IN_FILES:
                raise SettingsError(f"{chosen}: {name} does not belong into a file; set {known[name].variable}")
            put(name, _convert(known[name], value, f"{chosen}: {name}", strict=True), str(chosen))
    by_variable = {option.variable: option for option in known.values()}
    # Without the prefix that makes any two of them alike.
    bare = {variable.removeprefix("PITHEAD_") for variable in by_variable}
    for variable, text in environment.items():
        if not variable.startswith("PITHEAD_") or variable.removeprefix("PITHEAD_") in NOT_SETTINGS:
            continue
        option = by_variable.get(variable)
        if option is None:
            hint = _guess(variable.removeprefix("PITHEAD_"), bare, "PITHEAD_")
            warnings.append(f"{variable} is no setting and is ignored{hint}")
        else:
            put(option.name, _convert(option, text, variable, strict=False), variable)
    for name, value in (given or {}).items():
        if value is not None:
            put(name, _convert(known[name], value, f"--{name}", strict=False), "command line")
    settings = _build(values)
    if not settings.db_encryption_enabled:
        idle = [name for name in known if name.startswith("db_encryption_key") and value_of(settings, name)]
        warnings += [f"{name} is set, and db_encryption_enabled is not: nothing is encrypted" for name in idle]
    return Loaded(settings, sources, warnings)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}; check the path and your rights to it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}; mend it there") from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _convert(option: Option, value: Any, where: str, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, option.type, strict=strict)
    except msgspec.ValidationError as error:
        shown = "" if option.name in SECRETS | URLS else f" ({value!r})"
        meta = get_args(option.type)[1] if get_origin(option.type) is Annotated else None
        if isinstance(value, str) and meta is not None and meta.extra is not None:
            raise SettingsError(f"{where}{shown}: {meta.extra['wrong']}; {meta.extra['do']}") from None
        raise SettingsError(f"{where}{shown}: {error}; its meaning: {option.meaning}") from None


def _guess(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _build(values: Mapping[str, Any]) -> Settings:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return msgspec.convert(tree, Settings)


def without_password(url: str) -> str:
    """The URL as it may be printed."""
    return re.sub(r"(?<=://)([^:@/]*):.*@", r"\1:***@", re.sub(r"(password=)[^&\s]*", r"\1***", url))


def value_of(settings: Settings, name: str) -> Any:
    """The value of a setting by its dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value
