"""Writes the parts of the documentation that are made from the source: `python docs/generate.py`.

A test compares what this makes with what lies in the folder, so that a stale page fails the build.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import click

from pithead import client
from pithead.cli.main import SECTIONS, cli
from pithead.core.jobs import HELD, TRANSITIONS, Event, State
from pithead.http.openapi import statuses
from pithead.settings import Option, options
from pithead.wire import admin, base, events, jobs, ledger, miners, payouts, webhooks, why
from pithead.wire.endpoints import ENDPOINTS, Endpoint

DOCS: Final = Path(__file__).parent
_BEGIN, _END = "<!-- made by docs/generate.py: {name} -->", "<!-- end of {name} -->"
_NOTE: Final = "<!-- Made by docs/generate.py: change the source, and run it again. -->"


def render() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    architecture = DOCS / "architecture.md"
    return {
        architecture: _within(architecture.read_text(encoding="utf-8"), "states", states()),
        DOCS / "reference" / "settings.md": settings(),
        DOCS / "reference" / "cli.md": command_line(),
        DOCS / "reference" / "http.md": http(),
        DOCS / "reference" / "python.md": python(),
    }


def _within(text: str, name: str, content: str) -> str:
    before, _, rest = text.partition(begin := _BEGIN.format(name=name))
    _, end, after = rest.partition(_END.format(name=name))
    return f"{before}{begin}\n{content}\n{end}{after}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# ---- The states of a job


def states() -> str:
    """The state diagram. What all states with a holder have in common is drawn once, around them."""
    held = [state for state in TRANSITIONS if state in HELD]
    common = {event: after for event, after in TRANSITIONS[held[0]].items() if after not in HELD}
    assert all(TRANSITIONS[state].get(event) is after for state in held for event, after in common.items())
    lines = [f"[*] --> {State.QUEUED}: submit", "state held {", *(f"    {state}" for state in held)]
    own = {
        state: {e: after for e, after in out.items() if state not in HELD or e not in common}
        for state, out in TRANSITIONS.items()
    }
    lines += [f"    {arrow}" for state in held for arrow in _arrows(state, own[state])] + ["}"]
    lines += [arrow for state in TRANSITIONS if state not in HELD for arrow in _arrows(state, own[state])]
    lines += _arrows("held", common)
    lines += [f"{state} --> [*]" for state, out in TRANSITIONS.items() if not out]
    return "\n".join(("```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```"))


def _arrows(before: str, out: dict[Event, State]) -> list[str]:
    targets = dict.fromkeys(out.values())
    return [f"{before} --> {after}: {', '.join(e for e in out if out[e] is after)}" for after in targets]


# ---- Settings


def settings() -> str:
    """The page of settings."""
    groups: dict[str, list[Option]] = {}
    for option in options():
        groups.setdefault(option.name.rpartition(".")[0], []).append(option)
    parts = [
        _NOTE,
        "# Settings",
        "What can be set of a coordinator. Nothing has to be. The first of these that names a setting wins: an option of "
        "`pithead serve`, the environment variable, the TOML file, the default. The file is the one of `--config` or "
        "`PITHEAD_CONFIG`, else `pithead.toml` in the data folder. `pithead settings` prints every setting with its "
        "value and where that comes from.",
        "A name in the file that is no setting stops the start. A variable that begins with `PITHEAD_` and is no setting "
        "is warned of.",
    ]
    for group, members in groups.items():
        parts.append(f"## `[{group}]`" if group else "## At the top of the file")
        rows = (
            (f"`{o.name}`", f"`{o.variable}`", _type(o.type), _default(o), o.meaning.replace("\n", " "))
            for o in members
        )
        parts.append(_table(("setting", "variable", "type", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _default(option: Option) -> str:
    if option.name == "data":
        return "`pithead/coordinator` in the user's data folder"
    return "–" if option.default == "" else f"`{option.default}`"


def _type(hint: Any) -> str:
    kind, meta = get_args(hint)[:2]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    low = f"≥ {meta.ge}" if meta.ge is not None else f"> {meta.gt}" if meta.gt is not None else ""
    high = f"≤ {meta.le}" if meta.le is not None else ""
    name = {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(kind, str(kind))
    return ", ".join(part for part in (name, low, high) if part)


# ---- The command line


def command_line() -> str:
    """The page of commands: their own help."""
    parts = [_NOTE, "# The command line", "What `--help` says of each command."]
    root = click.Context(cli, info_name="pithead", terminal_width=100, **cli.context_settings)
    parts += [_help(root)]
    groups = [name for section in SECTIONS.values() for name in section]
    for name in [*groups, *(name for name in cli.commands if name not in groups)]:
        parts += _commands(root, name)
    return "\n\n".join(parts) + "\n"


def _commands(parent: click.Context, name: str) -> Iterator[str]:
    group = parent.command
    assert isinstance(group, click.Group)
    command = group.get_command(parent, name)
    assert command is not None, name
    context = click.Context(command, parent=parent, info_name=name)
    yield f"## `{context.command_path}`"
    yield _help(context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _commands(context, inner)


def _help(context: click.Context) -> str:
    lines = (line.rstrip() for line in context.command.get_help(context).splitlines())
    return "\n".join(("```", *lines, "```"))


# ---- The HTTP API

_AUDIENCES: Final = {
    "public": ("Without a key", ""),
    "miner": ("Miners", "With a miner's key, on its own path."),
    "client": ("Clients", "With a client's key, for its own jobs."),
    "operator": ("The operator", "With the operator's key."),
    "account": ("Any account", "With whichever key, for what belongs to it."),
}

_MUTABLE: Final = ("list", "dict", "Metrics")
#: They say how unknown keys are met, and have no fields.
_BASES: Final = ("Answer", "OpenRequest", "StrictRequest")
#: Defaults that are made anew each time, as JSON.
_FACTORIES: Final = {f"msgspec.field(default_factory={kind})": "[]" if kind == "list" else "{}" for kind in _MUTABLE}


def http() -> str:
    """The page of calls and shapes."""
    parts = [
        _NOTE,
        "# The HTTP API",
        "JSON in and out. The key goes in `Authorization: Bearer key_…` or `X-Api-Key: key_…`. A running coordinator "
        "serves the same as an OpenAPI 3.1 document at `/openapi.json`.",
        "Times are seconds, instants seconds since the Unix epoch by the coordinator's clock. Prices and amounts are "
        "decimal numbers, exact to the millionth. An error is `application/problem+json` (RFC 9457); with a 422 its "
        "`errors` names every fault and its field. A 429 and a 503 carry `Retry-After`.",
    ]
    for audience, (title, about) in _AUDIENCES.items():
        parts.append(f"## {title}")
        if about:
            parts.append(about)
        mine = [endpoint for endpoint in ENDPOINTS if endpoint.audience == audience]
        parts.append(_table(("call", "what for", "body", "answer", "errors"), map(_row, mine)))
        if notes := [note for endpoint in mine for note in _notes(endpoint)]:
            parts.append("\n".join(notes))
    modules = (miners, jobs, why, admin, ledger, payouts, base, events, webhooks)
    parts += [
        "## Shapes",
        "A request may leave out a field that has a default; `UNSET` means that what is there stays. An answer has all of "
        "its fields, and may have more: ignore what you do not know.",
    ]
    parts += [part for module in modules for part in _shapes(module)]
    parts += ["## Scalars", _table(("name", "what", "bounds"), sorted({row for m in modules for row in _scalars(m)}))]
    return "\n\n".join(parts) + "\n"


def _row(endpoint: Endpoint) -> tuple[str, ...]:
    body = "bytes" if endpoint.raw_request else _link(endpoint.request) if endpoint.request else "–"
    answer = "bytes" if endpoint.raw_response else _link(endpoint.response)
    if endpoint.streams:
        answer = f"`text/event-stream` of {answer}; 204 where nothing more comes"
    errors = ", ".join(map(str, sorted(statuses(endpoint))))
    optional = " (may be left out)" if endpoint.body_optional else ""
    return (
        f"`{endpoint.method} {endpoint.path}`",
        endpoint.summary,
        body + optional,
        f"{endpoint.status} {answer}",
        errors,
    )


def _notes(endpoint: Endpoint) -> Iterator[str]:
    notes = [f"`?{query.name}=` {query.description}{_bounds(query)}" for query in endpoint.query]
    if endpoint.operator_too:
        notes.append("With the operator's key, of anybody's.")
    if endpoint.job_operation:
        notes.append("Counts as a job operation.")
    if endpoint.idempotent:
        notes.append("Takes an `Idempotency-Key`: the same key with the same request is done once.")
    if endpoint.also:
        notes.append(f"Answers in {' or '.join(f'`{kind}`' for kind in endpoint.also)} where `Accept` asks for it.")
    if endpoint.streams:
        notes.append("Takes a `Last-Event-ID`, to go on behind that event.")
    if endpoint.lease_token:
        notes.append("Takes a `Lease-Token`.")
    if endpoint.resumable:
        notes.append("Takes an `Upload-Offset`, to go on with an upload that broke off.")
    if notes:
        yield f"- `{endpoint.method} {endpoint.path}`: {' '.join(notes)}"


def _bounds(query: Any) -> str:
    if query.choices:
        return f" ({', '.join(query.choices)})"
    if query.maximum is None:
        return "" if query.minimum is None else f" (from {query.minimum:g})"
    return f" ({query.minimum:g} to {query.maximum:g})"


def _link(shape: type) -> str:
    return f"[{shape.__name__}](#{shape.__name__.lower()})"


def _shapes(module: ModuleType) -> Iterator[str]:
    source = inspect.getsource(module)
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
        parents = [parent.id for parent in node.bases if isinstance(parent, ast.Name)]
        if node.name in _BASES:
            continue
        yield f"### {node.name}"
        about = (ast.get_docstring(node) or "").replace("\n", " ")
        inherited = [parent for parent in parents if parent not in _BASES]
        more = [f"It has all of {', '.join(f'[{p}](#{p.lower()})' for p in inherited)} too."] if inherited else []
        strict = ["An unknown key is an error."] if "StrictRequest" in parents else []
        yield " ".join([about, *strict, *more])
        if fields:
            rows = (
                (
                    f"`{ast.unparse(field.target)}`",
                    f"`{ast.unparse(field.annotation)}`",
                    f"`{_FACTORIES.get(value, value)}`" if (value := field.value and ast.unparse(field.value)) else "",
                    _comment(lines, field.lineno),
                )
                for field in fields
            )
            yield _table(("field", "type", "default", "meaning"), rows)


def _scalars(module: ModuleType) -> Iterator[tuple[str, ...]]:
    """The named types that are no structs."""
    for name, hint in vars(module).items():
        if name.startswith("_") or name in ("Annotated", "Literal", "Any", "Final"):
            continue
        if get_origin(hint) is Literal:
            yield f"`{name}`", "one of these", ", ".join(f"`{choice}`" for choice in get_args(hint))
        elif get_origin(hint) is Annotated:
            meta = get_args(hint)[1]
            bounds = {"≥": meta.ge, ">": meta.gt, "≤": meta.le}
            lengths = {"length ≥": meta.min_length, "length ≤": meta.max_length}
            shown = [f"{sign} {bound:,}" for sign, bound in (bounds | lengths).items() if bound is not None]
            yield f"`{name}`", meta.description or "", ", ".join(shown)


def _comment(lines: list[str], number: int) -> str:
    """The `#:` lines above a field (its line counted from 1)."""
    found: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#:"):
            break
        found.insert(0, line.strip().removeprefix("#:").strip())
    return " ".join(found)


# ---- The SDK


def python() -> str:
    """The page of the SDK: its classes, what they can do, and its errors, from their own docstrings."""
    parts = [
        _NOTE,
        "# The Python SDK",
        "`pip install pithead` brings it, with the rest. Everything here is in `pithead.client`. `AsyncClient` and "
        "`AsyncMinerClient` have the same methods, to be awaited. Answers are the shapes of [the HTTP "
        "API](http.md#shapes).",
    ]
    faces = (client.Client, client.MinerClient, client.AdminClient)
    for face in faces:
        parts += [f"## {face.__name__}", _said(face), _signature(face.__name__, face.__init__)]
        parts += [
            part for name, method in _methods(face) for part in (f"### {name}", _signature(name, method), _said(method))
        ]
    rest = {name: thing for name in client.__all__ if inspect.isfunction(thing := getattr(client, name))}
    parts.append("## Functions")
    for name, function in rest.items():
        parts += [f"### {name}", _signature(name, function), _said(function)]
    kinds = [thing for name in client.__all__ if _is_error(thing := getattr(client, name))]
    rows = ((f"`{kind.__name__}`", f"`{kind.__mro__[1].__name__}`", _said(kind).replace("\n", " ")) for kind in kinds)
    parts += [
        "## Errors",
        "In braces are what the message is filled in with: attributes of the error.",
        _table(("error", "is a", "what it says"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def _is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Exception)


def _methods(face: type) -> Iterator[tuple[str, Any]]:
    for parent in face.__mro__:
        for name, member in vars(parent).items():
            if not name.startswith("_") and parent.__module__.startswith("pithead.") and callable(getattr(face, name)):
                yield name, member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _signature(name: str, function: Any) -> str:
    """As it stands in the source, a parameter a line where it is long."""
    node = ast.parse(inspect.cleandoc("\n" + textwrap.dedent(inspect.getsource(function)))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    node.args.args = [argument for argument in node.args.args if argument.arg not in ("self", "cls")]
    # Annotated defaults as one writes them.
    listed = re.sub(r"(?<=[\w\])])=(?=\S)", " = ", ast.unparse(node.args))
    answer = "" if node.returns is None or node.name == "__init__" else f" -> {ast.unparse(node.returns)}"
    line = f"{name}({listed}){answer}"
    if len(line) > 100:
        line = textwrap.fill(line, 100, subsequent_indent=" " * (len(name) + 1), break_long_words=False)
    return f"```python\n{line}\n```"


def _said(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


if __name__ == "__main__":
    for path, text in render().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(DOCS.parent)} is new\n")
