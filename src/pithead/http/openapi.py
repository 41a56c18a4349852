"""The OpenAPI 3.1 document, made from `wire.endpoints` and the structs that the server itself decodes with."""

import re
from typing import Any, Final

import msgspec

from pithead.wire.base import Problem
from pithead.wire.endpoints import ENDPOINTS, Endpoint, Query

_REF: Final = "#/components/schemas/{name}"

_TITLES: Final = {
    400: "The request cannot be read: not JSON, wrong content type, or a body over the limit.",
    401: "No key, an unknown key, or a revoked one.",
    402: "The balance does not cover the price.",
    403: "The key may not do this.",
    404: "There is no such thing, or it is not the caller's to see.",
    409: "The state of things does not allow it.",
    410: "It was here, and is no longer kept.",
    416: "The range is not within the result.",
    422: "It reads, but is not valid; every fault is named with its field.",
    429: "Over the limit; `Retry-After` says when to ask again.",
    503: "The database does not answer; asking again is safe.",
}

_RATE_HEADERS: Final = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {
        "RateLimit": "What is left of each limit, and when it is whole again (IETF draft).",
        "RateLimit-Policy": "The limits that this request counts against (IETF draft).",
        "RateLimit-Limit": "The tightest limit.",
        "RateLimit-Remaining": "What is left of it.",
        "RateLimit-Reset": "Seconds until it is whole again.",
    }.items()
}


def document(title: str, version: str, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    shapes = [s for e in endpoints for s in (e.request, e.response) if s is not None and s is not bytes]
    schemas, components = msgspec.json.schema_components([*shapes, Problem], schema_hook=_raw, ref_template=_REF)
    for component in (*schemas, *components.values()):
        _amounts_are_numbers(component)
    by_shape = dict(zip([*shapes, Problem], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, by_shape)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "summary": "A self-hosted GPU work exchange.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "public", "description": "Needs no key."},
            {"name": "miner", "description": "A miner, on its own path."},
            {"name": "client", "description": "A client, for its own jobs."},
            {"name": "operator", "description": "The operator."},
            {"name": "account", "description": "Whoever has a key."},
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _raw(kind: type) -> dict[str, Any]:
    if kind is msgspec.Raw:
        return {"description": "Any JSON."}
    raise NotImplementedError(kind)


def _amounts_are_numbers(node: Any) -> None:
    # msgspec writes a Decimal's own type over what its Meta says.
    if isinstance(node, dict):
        if node.get("format") == "decimal":
            node["type"] = "number"
        for value in node.values():
            _amounts_are_numbers(value)
    elif isinstance(node, list):
        for value in node:
            _amounts_are_numbers(value)


def statuses(endpoint: Endpoint) -> set[int]:
    """Every problem status that a call can have."""
    found = set(endpoint.problems) | {503}
    if endpoint.request is not None or endpoint.raw_request:
        found.add(400)
    # Every call refuses a query parameter that it does not know.
    found.add(422)
    if endpoint.audience != "public":
        found.add(401)
    if endpoint.audience in ("client", "operator"):
        found.add(403)
    if endpoint.audience in ("miner", "client", "account"):
        found.add(429)
    if "{" in endpoint.path:
        found.add(404)
    return found


def _operation(endpoint: Endpoint, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [endpoint.audience],
        "security": [] if endpoint.audience == "public" else [{"bearer": []}, {"apiKey": []}],
        "parameters": _parameters(endpoint),
        "responses": {
            **_success(endpoint, schemas),
            **{str(status): _problem(status) for status in sorted(statuses(endpoint))},
        },
    }
    if endpoint.raw_request:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    elif endpoint.request is not None:
        operation["requestBody"] = {
            "required": not endpoint.body_optional,
            "content": {"application/json": {"schema": schemas[endpoint.request]}},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    parameters += [_query(query) for query in endpoint.query]
    if endpoint.idempotent:
        parameters.append(
            _header(
                "Idempotency-Key",
                "The same key with the same request is done once.",
                {"minLength": 1, "maxLength": 255},
            )
        )
    if endpoint.lease_token:
        parameters.append(_header("Lease-Token", "From the accept: a call under an older lease is refused.", {}))
    if endpoint.resumable:
        parameters.append(_header("Upload-Offset", "The byte that the body begins at; the ones before are kept.", {}))
    if endpoint.streams:
        parameters.append(_header("Last-Event-ID", "The `id` of the last event that was read: go on behind it.", {}))
    if endpoint.raw_response:
        parameters.append(_header("Range", "A part of the bytes, e.g. `bytes=0-99`.", {}))
    return parameters


def _header(name: str, description: str, bounds: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **bounds},
    }


def _query(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.type}
    if query.minimum is not None:
        schema["minimum"] = query.minimum
    if query.maximum is not None:
        schema["maximum"] = query.maximum
    if query.choices:
        schema["enum"] = list(query.choices)
    return {"name": query.name, "in": "query", "required": False, "description": query.description, "schema": schema}


def _success(endpoint: Endpoint, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    headers = dict(_RATE_HEADERS) if endpoint.audience == "miner" else {}
    if endpoint.raw_response:
        digest = {"description": "SHA-256 of the whole result (RFC 9530).", "schema": {"type": "string"}}
        tag = {"description": "`sha256-` and the digest in hex.", "schema": {"type": "string"}}
        headers |= {"Repr-Digest": digest, "ETag": tag}
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        parts = {"multipart/byteranges": {"schema": {"type": "string", "format": "binary"}}, **content}
        return {
            "200": {"description": "The bytes.", "headers": headers, "content": content},
            "206": {"description": "The part of them that was asked for.", "headers": headers, "content": parts},
            "304": {"description": "The caller has them already.", "headers": headers},
        }
    if endpoint.streams:
        # The schema is that of one event. OpenAPI 3.1 has no word for what each kind's `data` is: that is our `x-events`.
        text = {"type": "string"}
        event = {
            "type": "object",
            "properties": {"id": text, "event": text, "data": {**text, "contentMediaType": "application/json"}},
            "required": ["id", "event", "data"],
        }
        events = {"text/event-stream": {"schema": event, "x-events": schemas[endpoint.response]}}
        return {
            "200": {"description": "Server-sent events.", "headers": headers, "content": events},
            "204": {"description": "There is nothing more to come.", "headers": headers},
        }
    also = {kind: {"schema": {"type": "string"}} for kind in endpoint.also}
    return {
        str(endpoint.status): {
            "description": endpoint.summary,
            "headers": headers,
            "content": {"application/json": {"schema": schemas[endpoint.response]}, **also},
        }
    }


def _problem(status: int) -> dict[str, Any]:
    problem: dict[str, Any] = {
        "description": _TITLES[status],
        "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    if status in (429, 503):
        after = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        problem["headers"] = {"Retry-After": after, **(_RATE_HEADERS if status == 429 else {})}
    return problem
