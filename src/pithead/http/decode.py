"""Reading requests: bodies and query parameters, every fault named with its field."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from pithead.core.errors import Invalid
from pithead.core.money import micros
from pithead.http.problems import HttpProblem
from pithead.wire.base import Fault, PriceIn
from pithead.wire.endpoints import Endpoint, Query

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_anything = msgspec.json.Decoder()


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a header (its name in lower case), or `None`."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def _unreadable(detail: str) -> HttpProblem:
    return HttpProblem(400, "unreadable", "The request cannot be read", detail)


def _invalid(faults: list[Fault]) -> HttpProblem:
    detail = "; ".join(f"{f.field}: {f.message}" if f.field else f.message for f in faults)
    return HttpProblem(422, "invalid", "The request reads, but is not valid", detail, errors=faults)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. A problem with status 400 over `limit` bytes, or where the caller went away."""
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _unreadable(f"the body has {length} bytes, and {limit} are read at the most")
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            break
    if message["type"] == "http.disconnect":
        raise _unreadable("the body ended early")
    if len(body) > limit:
        raise _unreadable(f"the body has more than the {limit} bytes that are read at the most")
    return body


def decode_body(body: bytes, content_type: str | None, shape: Any) -> Any:
    """The body as `shape`.

    A problem with status 400 for what is not JSON, 422 for JSON that is not of the shape.
    """
    if not body:
        raise _unreadable("the body is empty, and JSON is needed")
    if content_type != "application/json":
        _check_content_type(content_type)
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders[shape] = msgspec.json.Decoder(shape)
    try:
        # What a Raw field holds is handed on as it is, and msgspec does not look into it: it must be UTF-8 too.
        str(body, "utf-8")
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            # It stops at the first fault: what comes after may be worse than not of the shape, namely not JSON.
            raise _invalid(_all_faults(body, shape) or [_fault(error, "")]) from None
    except msgspec.DecodeError as error:
        raise _unreadable(f"not JSON: {error}") from None
    except UnicodeDecodeError:
        raise _unreadable("not JSON: it is not UTF-8") from None
    except RecursionError:
        raise _unreadable("the JSON is nested too deeply") from None


def _all_faults(body: bytes, shape: Any) -> list[Fault]:
    """Every fault of JSON that is not of the shape. Raises `DecodeError` and its like for what is not JSON."""
    try:
        value = _anything.decode(body)
    except msgspec.ValidationError:
        return []  # A number that no double holds: the fault that is known already says where.
    return list(_faults(value, shape, ""))


def _check_content_type(content_type: str | None) -> None:
    kind, _, parameters = (content_type or "").lower().partition(";")
    kind, parameters = kind.strip(), parameters.replace(" ", "").strip(";")
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _unreadable(f"the content type is {content_type or 'missing'}, and application/json is needed")
    if parameters not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise _unreadable(f"the content type is {content_type}, and JSON is read as UTF-8")


def _faults(value: Any, shape: Any, where: str) -> Iterator[Fault]:
    """Every fault of `value`, field by field: msgspec itself stops at the first."""
    inner = _strip(shape)
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        if not isinstance(value, dict):
            yield Fault(field=where, message=f"must be an object, not {_name(value)}")
            return
        fields = msgspec.structs.fields(inner)
        for field in fields:
            path = f"{where}.{field.encode_name}" if where else field.encode_name
            if field.encode_name in value:
                yield from _faults(value[field.encode_name], field.type, path)
            elif field.required:
                yield Fault(field=path, message="is missing")
        if inner.__struct_config__.forbid_unknown_fields:
            for name in value.keys() - {field.encode_name for field in fields}:
                yield Fault(field=f"{where}.{name}" if where else name, message="is not known here")
        return
    if get_origin(inner) is list and isinstance(value, list):
        faults = [f for i, item in enumerate(value) for f in _faults(item, get_args(inner)[0], f"{where}[{i}]")]
        if faults:
            yield from faults
            return
    if inner is msgspec.Raw:
        return
    if get_origin(inner) in (Union, UnionType):
        kinds = [kind for kind in get_args(inner) if kind not in (NoneType, msgspec.UnsetType)]
        if len(kinds) == 1 and not (value is None and NoneType in get_args(inner)):
            yield from _faults(value, kinds[0], where)
            return
    try:
        msgspec.convert(value, shape)
        if shape == PriceIn:
            micros(value, where)
    except msgspec.ValidationError as error:
        yield _fault(error, where)
    except Invalid as error:
        yield from (Fault(field=fault.field, message=fault.message) for fault in error.faults)


def _strip(shape: Any) -> Any:
    """The type within `Annotated`."""
    return get_args(shape)[0] if hasattr(shape, "__metadata__") else shape


def _fault(error: msgspec.ValidationError, where: str) -> Fault:
    message, _, path = str(error).partition(" - at `$")
    message = message.replace("Expected", "must be", 1).replace("`", "")
    path = path.rstrip("`").lstrip(".")
    return Fault(field=".".join(part for part in (where, path) if part), message=message)


def _name(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def parse_query(scope: Scope, endpoint: Endpoint) -> dict[str, Any]:
    """The query parameters. A problem with status 422 for those that are unknown, repeated or out of range."""
    known = {query.name: query for query in endpoint.query}
    found: dict[str, Any] = {}
    faults = []
    for name, text in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        query = known.get(name)
        if query is None:
            faults.append(Fault(field=name, message="is not a parameter of this call"))
        elif name in found:
            faults.append(Fault(field=name, message="is given twice"))
        else:
            try:
                found[name] = _parameter(query, text)
            except ValueError as error:
                faults.append(Fault(field=name, message=str(error)))
    if faults:
        raise _invalid(faults)
    return found


def _parameter(query: Query, text: str) -> Any:
    if query.type == "string":
        if query.choices and text not in query.choices:
            raise ValueError(f"must be one of {', '.join(query.choices)}")
        if "\0" in text:
            raise ValueError("must not contain NUL")
        return text
    kind = int if query.type == "integer" else float
    try:
        value = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"must be a{'n' if kind is int else ''} {query.type}") from None
    low, high = query.minimum, query.maximum
    # Written so that NaN, which compares as false, is refused.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        raise ValueError(f"must be from {low}" + ("" if high is None else f" to {high}"))
    return value
