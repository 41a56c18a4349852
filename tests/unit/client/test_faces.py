"""The typed faces: each endpoint of the table is called as the table says, and the awaited twin is the same."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from pithead.client import AdminClient, AsyncClient, AsyncMinerClient, Client, MinerClient, Misused, NotFound, Rest
from pithead.wire.base import encode
from pithead.wire.endpoints import ENDPOINTS, Endpoint

URL = "http://coordinator"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
MACHINE: dict[str, Any] = {
    "name": "m", "gpu_type": "v100", "gpu_count": 1, "location": "", "price_per_hour": "0.05", "max_concurrent": 1
}  # fmt: skip

MINER_CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "update_miner": ("update", (), {"draining": True}),
    "heartbeat": ("heartbeat", (), {}),
    "miner_orders": ("orders", (5, "v"), {}),
    "available_jobs": ("available", (5, 2), {}),
    "accept_job": ("accept", ("job_1",), {}),
    "complete_job": ("complete", ("job_1", "sha256:ab"), {"lease_token": "t"}),
    "miner_stats": ("stats", (), {}),
    "get_miner": ("get", (), {}),
    "fail_job": ("fail", ("job_1", "why", "timeout"), {"lease_token": "t"}),
    "release_job": ("release", ("job_1",), {"lease_token": "t"}),
    "report_progress": ("progress", ("job_1", 0.5), {"lease_token": "t"}),
    "upload_result": ("upload", ("job_1", b"bytes"), {"lease_token": "t"}),
    "earnings": ("earnings", ("model",), {"since": 1.5, "until": 2.5}),
    "upload_state": ("upload_state", ("job_1",), {"lease_token": "t"}),
    "get_input_file": ("fetch_input", ("job_1", Rest(NOTHING, io.BytesIO())), {"lease_token": "t"}),
    "request_payout": ("request_payout", ("0.5",), {}),
    "my_payouts": ("payouts", (), {"limit": 3, "cursor": "c"}),
    "receipt_keys": ("receipt_keys", (), {}),
    "why_miner": ("why", (), {}),
    "deregister_miner": ("deregister", (), {}),
}
CLIENT_CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "submit_job": ("submit", ("gpt2", {"a": 1}), {"price": "0.05"}),
    "submit_batch": ("submit_batch", ([{"model": "gpt2", "input": 1, "price": 1}],), {}),
    "list_jobs": ("jobs", (), {"status": "queued", "model": "m", "limit": 3, "cursor": "c"}),
    "get_job": ("job", ("job_1", 5), {}),
    "cancel_job": ("cancel", ("job_1",), {}),
    "get_result": ("result", ("job_1",), {}),
    "upload_file": ("upload_file", (b"bytes",), {}),
    "file_state": ("file_state", (NOTHING,), {}),
    "get_file": ("download_file", (NOTHING, "downloaded"), {}),
    "list_files": ("files", (), {"limit": 3, "cursor": "c"}),
    "delete_file": ("delete_file", (NOTHING,), {}),
    "get_me": ("me", (), {}),
    "why_job": ("why", ("job_1",), {}),
    "create_webhook": ("create_webhook", ("https://x", ["job.failed"], "mine"), {}),
    "list_webhooks": ("webhooks", (), {}),
    "get_webhook": ("webhook", ("w_1",), {}),
    "update_webhook": ("update_webhook", ("w_1",), {"enabled": False}),
    "delete_webhook": ("delete_webhook", ("w_1",), {}),
    "rotate_webhook_secret": ("rotate_webhook_secret", ("w_1",), {}),
    "test_webhook": ("test_webhook", ("w_1",), {}),
    "list_deliveries": ("deliveries", ("w_1",), {"status": "failed", "limit": 3, "cursor": "c"}),
    "replay_delivery": ("replay_delivery", ("w_1", "msg_1"), {}),
    "my_ledger": ("ledger", (), {"account": "held", "limit": 3, "cursor": "c"}),
}
ADMIN_CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "create_client": ("create_client", ("alice", 100), {}),
    "list_clients": ("clients", (), {"limit": 3, "cursor": "c"}),
    "get_client": ("client", ("c_1",), {}),
    "credit_client": ("credit", ("c_1", "-2.5"), {}),
    "set_credit_line": ("set_credit_line", ("c_1", "0.5"), {}),
    "list_ledger": ("ledger", (), {"limit": 3, "cursor": "c"}),
    "account_ledger": ("account_ledger", ("c_1",), {"account": "held", "limit": 3, "cursor": "c"}),
    "check_ledger": ("check_ledger", (), {}),
    "list_payouts": ("payouts", (), {"status": "paid", "limit": 3, "cursor": "c"}),
    "create_payout": ("create_payout", ("m_1", 2), {"destination": "x"}),
    "get_payout": ("payout", ("p_1",), {}),
    "approve_payout": ("approve_payout", ("p_1",), {}),
    "reject_payout": ("reject_payout", ("p_1", "no"), {}),
    "mark_payout_paid": ("mark_payout_paid", ("p_1", "ref 1", "thanks"), {}),
    "list_miners": ("miners", (), {"status": "active", "limit": 3, "cursor": "c"}),
    "inspect_miner": ("miner", ("m_1",), {}),
    "miner_telemetry": ("telemetry", ("m_1",), {"since": 5, "limit": 3}),
    "approve_miner": ("approve", ("m_1",), {}),
    "suspend_miner": ("suspend", ("m_1", "noise"), {}),
    "retire_miner": ("retire", ("m_1",), {}),
    "set_limits": ("set_limits", ("m_1",), {"requests_per_minute": 0}),
    "rotate_key": ("rotate_key", ("c_1", 60), {}),
    "revoke_keys": ("revoke_keys", ("c_1",), {}),
    "create_enrollment_token": ("create_enrollment_token", (), {}),
    "list_all_jobs": ("jobs", (), {"status": "queued", "model": "m", "client_id": "c", "limit": 3, "cursor": "c"}),
    "cancel_any_job": ("cancel_job", ("job_1",), {}),
    "audit_log": ("audit", (), {"limit": 3, "cursor": "c"}),
    "overview": ("overview", (), {}),
    "health": ("health", (), {}),
}

#: Calls that go on: each event is read as it comes.
STREAMS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "job_events": ("events", ("job_1",), {"after": "1-2-3"}),
    "account_events": ("account_events", (), {"after": "4-5-x"}),
}

#: Calls that make something new each time.
KEYED = {
    "submit_job", "submit_batch", "credit_client", "request_payout", "create_payout", "register_miner",
    "create_client", "rotate_key", "create_enrollment_token", "create_webhook", "rotate_webhook_secret", "test_webhook",
    "replay_delivery",
}  # fmt: skip


class Table:
    """A coordinator that holds every request against the table, and answers with the table's response."""

    def __init__(self, sample: Callable[[Any], Any]) -> None:
        self.sample, self.seen, self.requests = sample, list[str](), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        endpoint = next(one for one in ENDPOINTS if self.matches(one, request))
        self.seen.append(endpoint.name)
        self.requests.append(request)
        assert set(request.url.params) <= {query.name for query in endpoint.query}
        # The rest are safe to repeat as they are, and the coordinator need not keep an answer for each.
        assert ("Idempotency-Key" in request.headers) is (endpoint.name in KEYED)
        assert endpoint.idempotent or endpoint.name not in KEYED
        assert "Lease-Token" not in request.headers or endpoint.lease_token
        if endpoint.raw_request:
            assert request.content
        elif request.content:
            msgspec.json.decode(request.content, type=endpoint.request)
        else:
            assert endpoint.request is None or endpoint.body_optional
        if endpoint.streams:
            assert request.headers["Last-Event-ID"] in ("1-2-3", "4-5-x")
            return httpx.Response(204)
        if endpoint.raw_response:
            return httpx.Response(endpoint.status, headers={"Repr-Digest": f"sha-256=:{EMPTY}:"})
        line = b"\n" if "ndjson" in request.headers["Accept"] else b""
        return httpx.Response(endpoint.status, content=encode(self.sample(endpoint.response)) + line)

    @staticmethod
    def matches(endpoint: Endpoint, request: httpx.Request) -> bool:
        pattern = re.sub(r"\{\w+\}", r"[^/]+", endpoint.path)
        # A word goes before a parameter: /v1/jobs/batch is not a job.
        taken = any((one.method, one.path) == (request.method, request.url.path) for one in ENDPOINTS)
        fits = endpoint.path == request.url.path if taken else re.fullmatch(pattern, request.url.path)
        return endpoint.method == request.method and bool(fits)


@pytest.fixture
def table(sample_of: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.chdir(tmp_path)  # What is downloaded is put there.
    return Table(sample_of)


def faces(table: Table) -> Iterator[tuple[Any, dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]]]]:
    transport = httpx.MockTransport(table)
    yield MinerClient(URL, "miner_1", "key_1", transport=transport), MINER_CALLS
    yield Client(URL, "key_1", transport=transport), CLIENT_CALLS
    yield AdminClient(URL, "key_1", transport=transport), ADMIN_CALLS


def test_every_endpoint_is_called_as_the_table_says(table: Table) -> None:
    for client, calls in faces(table):
        with client:
            for method, args, options in calls.values():
                getattr(client, method)(*args, **options)
    assert all(request.headers["Authorization"] == "Bearer key_1" for request in table.requests)
    MinerClient.register(URL, **MACHINE, transport=httpx.MockTransport(table))
    assert "Authorization" not in table.requests[-1].headers
    with Client(URL, "key_1", transport=httpx.MockTransport(table)) as client:
        for method, args, options in STREAMS.values():
            assert list(getattr(client, method)(*args, **options)) == []
    assert table.seen == [*MINER_CALLS, *CLIENT_CALLS, *ADMIN_CALLS, "register_miner", *STREAMS]
    assert sorted(table.seen) == sorted(one.name for one in ENDPOINTS)


def test_the_operator_asks_why_of_anybody_s(table: Table) -> None:
    with AdminClient(URL, "key_1", transport=httpx.MockTransport(table)) as client:
        client.why_miner("m_1")
        client.why_job("job_1")
    assert table.seen == ["why_miner", "why_job"]


async def test_every_endpoint_is_called_as_the_table_says_awaited(table: Table) -> None:
    transport = httpx.MockTransport(table)
    async with AsyncMinerClient(URL, "miner_1", "key_1", transport=transport) as miner:
        for method, args, options in MINER_CALLS.values():
            await getattr(miner, method)(*args, **options)
    async with AsyncClient(URL, "key_1", transport=transport) as client:
        for method, args, options in CLIENT_CALLS.values():
            await getattr(client, method)(*args, **options)
        for method, args, options in STREAMS.values():
            assert [event async for event in getattr(client, method)(*args, **options)] == []
    await AsyncMinerClient.register(URL, **MACHINE, transport=transport)
    assert table.seen == [*MINER_CALLS, *CLIENT_CALLS, *STREAMS, "register_miner"]


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (MinerClient, AsyncMinerClient)])
def test_the_awaited_twin_is_the_same(plain: type, awaited: type) -> None:
    def face(kind: type) -> dict[str, tuple[list[str], str | None]]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: ([str(p) for p in inspect.signature(one).parameters.values()], one.__doc__)
            for name, one in members
            if not name.startswith("_") and name not in ("close", "aclose", "register")
        }

    assert face(plain) == face(awaited)


def test_identifiers_are_quoted_into_the_path() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    with (
        Client(URL + "/under/", "key_1", transport=transport) as client,
        pytest.raises(NotFound, match=r"http://coordinator/under/v1/jobs/..%2Fadmin%2Fx%3Fy%3D1"),
    ):
        client.job("../admin/x?y=1")


def body_of(table: Table) -> Any:
    return msgspec.json.decode(table.requests[-1].content)


def test_a_submit_is_exact_and_asks_for_the_result(table: Table) -> None:
    with Client(URL, "key_1", transport=httpx.MockTransport(table)) as client:
        client.submit("gpt2", {"text": "é"}, price="12345678.000001", timeout=5)
        assert b'"price":12345678.000001' in table.requests[-1].content
        assert body_of(table)["require_result"] is True
        assert body_of(table)["timeout"] == 5
        client.submit("gpt2", msgspec.Raw(b"1.10"), price=0.1, require_result=False, idempotency_key="mine")
        assert b'"input":1.10,"price":0.1,' in table.requests[-1].content
        assert body_of(table)["require_result"] is False
        assert table.requests[-1].headers["Idempotency-Key"] == "mine"


def test_a_heartbeat_carries_only_what_is_said(table: Table) -> None:
    with MinerClient(URL, "miner_1", "key_1", transport=httpx.MockTransport(table)) as miner:
        miner.heartbeat()
        assert table.requests[-1].content == b""
        miner.heartbeat(["job_1"], {"load": 0.5})
        assert body_of(table) == {"jobs": ["job_1"], "telemetry": {"load": 0.5}}


def test_an_update_carries_only_what_changes(table: Table) -> None:
    with MinerClient(URL, "miner_1", "key_1", transport=httpx.MockTransport(table)) as miner:
        miner.update(price_per_hour="0.10", models=None)
        assert table.requests[-1].content == b'{"price_per_hour":0.10,"models":null}'


@pytest.mark.parametrize("price", ["a lot", "nan", "inf", float("nan"), True, None])
def test_a_price_that_is_no_number_is_refused_here(table: Table, price: Any) -> None:
    with Client(URL, "key_1", transport=httpx.MockTransport(table)) as client, pytest.raises(Misused, match="price"):
        client.submit("gpt2", {}, price=price)
    assert not table.requests


def test_an_input_that_is_no_json_is_refused_here(table: Table) -> None:
    with Client(URL, "key_1", transport=httpx.MockTransport(table)) as client:
        with pytest.raises(Misused, match="input cannot be written as JSON"):
            client.submit("gpt2", object(), price=1)
        with pytest.raises(Misused, match="job of the batch"):
            client.submit_batch([{"model": "gpt2"}])
    with pytest.raises(Misused, match="registration"):
        MinerClient.register(URL, name="m", transport=httpx.MockTransport(table))


def test_url_and_key_come_from_the_environment(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITHEAD_URL", "http://of-the-environment")
    monkeypatch.setenv("PITHEAD_KEY", "key_env")
    with Client(transport=httpx.MockTransport(table)) as client:
        client.me()
    assert table.requests[-1].url.host == "of-the-environment"
    assert table.requests[-1].headers["Authorization"] == "Bearer key_env"
    monkeypatch.delenv("PITHEAD_KEY")
    with pytest.raises(Misused, match="set PITHEAD_KEY"):
        Client()
    monkeypatch.delenv("PITHEAD_URL")
    with pytest.raises(Misused, match="set PITHEAD_URL"):
        Client()


@pytest.mark.parametrize(
    "url",
    [
        "coordinator:8080",
        "ftp://x",
        "http://",
        "http://[",
        "http://x/?a=1",
        "localhost",
        "http://a b",
        "http://x:port",
        "http://user:word@x",
    ],
)
def test_a_url_that_cannot_be_one(url: str) -> None:
    with pytest.raises(Misused, match="write it like"):
        Client(url, "key_1")


@pytest.mark.parametrize("key", ["key_1\n", "key 1", "kéy"])
def test_a_key_that_cannot_be_one_is_not_shown(key: str) -> None:
    with pytest.raises(Misused) as caught:
        Client(URL, key)
    assert key not in str(caught.value)


def test_pages_follow_each_other(sample_of: Callable[[Any], Any]) -> None:
    from pithead.wire.jobs import JobView

    one = sample_of(JobView)

    def answer(request: httpx.Request) -> httpx.Response:
        cursor = int(request.url.params.get("cursor", 0))
        page = {"jobs": [{**one, "job_id": f"job_{cursor}"}], "next_cursor": str(cursor + 1) if cursor < 2 else None}
        return httpx.Response(200, content=encode(page))

    with Client(URL, "key_1", transport=httpx.MockTransport(answer)) as client:
        assert [job.job_id for job in client.iter_jobs()] == ["job_0", "job_1", "job_2"]
    with AdminClient(URL, "key_1", transport=httpx.MockTransport(answer)) as operator:
        assert [job.job_id for job in operator.iter_jobs()] == ["job_0", "job_1", "job_2"]


async def test_pages_follow_each_other_awaited(sample_of: Callable[[Any], Any]) -> None:
    from pithead.wire.jobs import JobView

    pages = [{"jobs": [sample_of(JobView)], "next_cursor": "next"}, {"jobs": [], "next_cursor": None}]
    answers = iter(pages)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=encode(next(answers))))
    async with AsyncClient(URL, "key_1", transport=transport) as client:
        assert len([job async for job in client.iter_jobs()]) == 1


def test_an_upload_streams_a_file_with_its_length(table: Table, tmp_path: Path) -> None:
    file = tmp_path / "result"
    file.write_bytes(b"z" * 3_000_000)
    with MinerClient(URL, "miner_1", "key_1", transport=httpx.MockTransport(table)) as miner:
        miner.upload("job_1", file, "token_1")
    request = table.requests[-1]
    assert request.content == file.read_bytes()
    assert (request.headers["Content-Length"], request.headers["Lease-Token"]) == ("3000000", "token_1")
    assert "Transfer-Encoding" not in request.headers
