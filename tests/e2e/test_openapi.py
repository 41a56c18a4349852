"""The served OpenAPI document: whole, true to the server's tables, and kept by the server whatever it is sent."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.http.exchange import JOB, REGISTRATION
from tests.http.server import OPERATOR_KEY, UNLIMITED, serve

import pithead
from pithead.http.app import JOB_OPERATIONS
from pithead.http.openapi import document
from pithead.wire.endpoints import ENDPOINTS, Endpoint
from pithead.wire.webhooks import CreateWebhook, UpdateWebhook

DOCUMENT = document("Pithead", pithead.__version__)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
BY_CALL: dict[tuple[str, str], Endpoint] = {(endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS}


def test_it_is_served_as_it_is_made(roomy_url: str) -> None:
    answer = httpx.get(roomy_url + "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_every_reference_resolves() -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        node: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node
    # Nor is there one that nothing asks for.
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} == found


def test_every_call_is_in_it_with_an_id_of_its_own() -> None:
    calls = {
        (method.upper(), path): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }
    assert calls.keys() == BY_CALL.keys()
    assert len(BY_CALL) == len(ENDPOINTS)
    assert len({operation["operationId"] for operation in calls.values()}) == len(ENDPOINTS)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_call_has_a_handler(roomy_url: str, endpoint: Endpoint) -> None:
    path = endpoint.path.replace("{", "").replace("}", "_unknown")
    answer = httpx.request(endpoint.method, roomy_url + path)
    # Without a key, and without a body where none is needed: known, and refused for what is missing.
    wanted = {"register_miner": 400, "health": 200, "receipt_keys": 200}.get(endpoint.name, 401)
    assert answer.status_code == wanted


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_job_operations_are_counted_as_such(endpoint: Endpoint) -> None:
    counted = endpoint.audience == "miner" and endpoint.method == "POST" and endpoint.path.endswith(JOB_OPERATIONS)
    assert counted == endpoint.job_operation


class Parties:
    """Somebody of each audience, and things to name in paths."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        made = self._post("/v1/admin/clients", OPERATOR_KEY, {"name": "lab", "credit": 1_000_000})
        self.client_id = made["client_id"]
        miner = self._miner("fuzzed")
        self.miner_id = miner["miner_id"]
        self.keys = {"operator": OPERATOR_KEY, "client": made["api_key"], "miner": miner["api_key"], "public": ""}
        self.keys["account"] = self.keys["client"]

    def _post(self, path: str, key: str, sent: Any = None) -> dict[str, Any]:
        headers = {"X-Api-Key": key} if key else {}
        answer = self.session.post(self.url + path, json=sent, headers=headers, timeout=20)
        assert answer.ok, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def _miner(self, gpu_type: str) -> dict[str, Any]:
        return self._post("/v1/miners", "", REGISTRATION | {"gpu_type": gpu_type, "max_concurrent": 10_000})

    def job(self, accepted: bool) -> str:
        """A fresh job of the client's, in the hands of the miner if wanted."""
        job = str(self._post("/v1/jobs", self.keys["client"], JOB | {"gpu_type": "any", "price": 1})["job_id"])
        if accepted:
            own: dict[str, Any] = {
                "gpu_type": "fuzzed",
                "gpu_count": 1,
                "price_per_hour": 0,
                "max_concurrent": 10_000,
                "draining": False,
            }
            headers = {"X-Api-Key": self.keys["miner"]}
            path = f"{self.url}/v1/miners/{self.miner_id}"
            assert self.session.put(path, json=own | {"models": None}, headers=headers, timeout=20).ok
            self._post(f"/v1/miners/{self.miner_id}/heartbeat", self.keys["miner"])
            self._post(f"/v1/miners/{self.miner_id}/jobs/{job}/accept", self.keys["miner"])
        return job

    def names(self, endpoint: Endpoint, generated: dict[str, Any]) -> dict[str, Any]:
        """What to put into the path: for the most part things that are there."""
        names = dict(generated)
        if endpoint.audience == "miner":
            names["miner_id"] = self.miner_id
        real = sum(map(len, map(str, generated.values()))) % 4 != 0
        if real and "job_id" in names:
            names["job_id"] = self.job(accepted=endpoint.name not in ("accept_job", "cancel_job"))
        if real and "client_id" in names:
            names["client_id"] = self.client_id
        if real and endpoint.audience == "operator" and not names.keys().isdisjoint({"miner_id", "account_id"}):
            # One of its own, since many of these calls end it.
            victim = self._miner("victim")["miner_id"]
            names |= {name: victim for name in ("miner_id", "account_id") if name in names}
        return names


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    """On a coordinator of their own: what a fuzzer leaves behind is nobody else's business."""
    near = {"PITHEAD_WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.0/8"}
    with serve(tmp_path_factory.mktemp("fuzzed"), **UNLIMITED, **near) as url:
        parties = Parties(url)
        with parties.session:
            yield parties


@SCHEMA.parametrize()
@settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_it(case: "schemathesis.Case[Any]", parties: Parties) -> None:
    endpoint = BY_CALL.get((case.method, case.operation.path))
    audience = endpoint.audience if endpoint else "operator"
    if endpoint is not None and case.path_parameters:
        case.path_parameters = parties.names(endpoint, case.path_parameters)
    if case.query and "wait" in case.query:
        case.query["wait"] = "0.01" if endpoint and str(case.query["wait"])[:1].isdigit() else "-1"
    hooks = endpoint is not None and endpoint.request in (CreateWebhook, UpdateWebhook)
    if hooks and isinstance(case.body, dict) and isinstance(case.body.get("url"), str) and case.body["url"]:
        # Nobody listens there, and nobody else is sent anything.
        case.body = {**case.body, "url": "http://127.0.0.1:9/hook"}
    if endpoint is not None and endpoint.streams and "wait" not in (case.query or {}):
        case.query = {**(case.query or {}), "wait": "0.01"}  # It would not end by itself.
    key = parties.keys[audience]
    if endpoint is not None and endpoint.name == "deregister_miner":
        # One of its own, since this ends it and its key.
        victim = parties._miner("victim")
        case.path_parameters, key = {"miner_id": victim["miner_id"]}, victim["api_key"]
    headers = {"X-Api-Key": key} if audience != "public" else {}
    response = case.call(base_url=parties.url, session=parties.session, headers=headers)
    case.validate_response(response, checks=CHECKS)
