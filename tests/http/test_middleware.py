"""The public middleware in front of applications that know nothing of it: alone, and as a stack."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
import time_machine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.http.exchange import problem

from pithead.http.middleware import HttpProblem, Keys, Limiter, Problems, RateLimits, RequestId, Rule

OWNERS = {"key_ada": "ada", "key_bob": "bob"}


class Foreign:
    """An ASGI application that uses no framework. It answers with what the state says of the request."""

    def __init__(self) -> None:
        self.served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "foreign." + scope["type"]})
            return
        self.served += 1
        match scope["path"]:
            case "/problem":
                raise HttpProblem(418, "teapot", "I am a teapot", "no coffee here", headers={"X-Brew": "tea"})
            case "/starlette":
                raise HTTPException(403, "Not for you", headers={"X-Why": "because"})
            case "/crash":
                raise RuntimeError("the secret is 42")
            case "/half":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise RuntimeError("cut")
        state = scope.get("state", {})
        told = {name: state.get(name) for name in ("request_id", "principal")}
        headers = [(b"content-type", b"application/json"), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def told(request: Request) -> PlainTextResponse:
    return PlainTextResponse(json.dumps({n: getattr(request.state, n, None) for n in ("request_id", "principal")}))


async def crash(request: Request) -> PlainTextResponse:
    raise RuntimeError("the secret is 42")


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            yield str(number).encode()

    return StreamingResponse(parts())


ROUTES = [Route("/", told), Route("/crash", crash), Route("/stream", stream)]


def by_path(limit: int, name: str = "requests") -> Callable[[Scope], Sequence[Rule]]:
    """So many requests a minute for each owner, or else for everybody together; none on /free."""

    def policies(scope: Scope) -> Sequence[Rule]:
        owner = scope.get("state", {}).get("principal") or "everybody"
        return () if scope["path"] == "/free" else (Rule(name, owner, limit, 60),)

    return policies


async def ask(app: ASGIApp, path: str = "/", **headers: str) -> httpx.Response:
    """Make one request."""
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://foreign") as http:
        return await http.get(path, headers=named)


# -- each alone


async def test_request_id_alone() -> None:
    app = RequestId(Foreign())
    first, second = await ask(app), await ask(app)
    for answer in (first, second):
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert answer.headers["x-own"] == "1"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("given", ["trace-1", "A.b_c-9", "x" * 64])
async def test_a_request_id_of_the_callers_is_kept(given: str) -> None:
    answer = await ask(RequestId(Foreign()), X_Request_Id=given)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", "a;b", "<script>", "über"])
async def test_a_request_id_that_is_not_sane_is_not(given: str) -> None:
    answer = await ask(RequestId(Foreign()), X_Request_Id=given)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] != given


async def test_a_request_id_under_another_name() -> None:
    answer = await ask(RequestId(Foreign(), header="Trace-Id"), Trace_Id="mine")
    assert answer.headers["trace-id"] == "mine"
    assert "x-request-id" not in answer.headers


async def test_problems_alone() -> None:
    app = Problems(Foreign())
    assert (await ask(app)).json() == {"request_id": None, "principal": None}
    teapot = await ask(app, "/problem")
    assert teapot.headers["content-type"] == "application/problem+json"
    assert teapot.headers["x-brew"] == "tea"
    assert (teapot.status_code, teapot.json()) == (
        418,
        {"type": "/problems/teapot", "title": "I am a teapot", "status": 418, "detail": "no coffee here"},
    )
    refused = await ask(app, "/starlette")
    assert refused.headers["x-why"] == "because"
    assert refused.json().items() >= {"status": 403, "title": "Not for you"}.items()


async def test_what_nobody_foresaw_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(RequestId(Problems(Foreign())), "/crash", X_Request_Id="trace-7")
    assert problem(answer, 500)["request_id"] == "trace-7"
    assert "secret" not in answer.text
    (record,) = caplog.records
    assert "trace-7" in record.getMessage()
    assert record.exc_info is not None


async def test_half_an_answer_is_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="cut"):
        await ask(Problems(Foreign()), "/half")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("headers", "owner"),
    [
        ({"Authorization": "Bearer key_ada"}, "ada"),
        ({"Authorization": "bEARER   key_bob "}, "bob"),
        ({"X_Api_Key": "key_ada"}, "ada"),
        ({"X_Api_Key": "key_ada", "Authorization": "Bearer key_ada"}, "ada"),
        ({"X_Api_Key": "key_ada", "Authorization": "Basic xyz"}, "ada"),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
async def test_keys_alone(headers: dict[str, str], owner: str, waits: bool) -> None:
    async def later(key: str) -> str | None:
        return OWNERS.get(key)

    lookup: Callable[[str], str | Awaitable[str | None] | None] = later if waits else OWNERS.get
    answer = await ask(Keys(Foreign(), lookup), **headers)
    assert answer.json()["principal"] == owner


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "send a key"),
        ({"Authorization": "Bearer key_eve"}, "unknown"),
        ({"X_Api_Key": "key_eve"}, "unknown"),
        ({"X_Api_Key": ""}, "send a key"),
        ({"Authorization": "key_ada"}, "form"),
        ({"Authorization": "Bearer key_ada", "X_Api_Key": "key_bob"}, "two different"),
    ],
)
async def test_keys_refuse(headers: dict[str, str], why: str) -> None:
    foreign = Foreign()
    with pytest.raises(HttpProblem) as caught:
        await ask(Keys(foreign, OWNERS.get), **headers)
    assert caught.value.status == 401
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    if headers != {"X_Api_Key": ""}:
        assert why in caught.value.detail
    problem(await ask(RequestId(Problems(Keys(foreign, OWNERS.get))), **headers), 401)
    assert foreign.served == 0


async def test_keys_where_none_is_needed() -> None:
    app = Keys(Foreign(), OWNERS.get, public=lambda scope: scope["path"] == "/open")
    assert (await ask(app, "/open")).json()["principal"] is None
    assert (await ask(app, "/open", X_Api_Key="key_eve")).json()["principal"] is None
    assert (await ask(app, "/open", X_Api_Key="key_ada")).json()["principal"] == "ada"


async def test_rate_limits_alone() -> None:
    foreign = Foreign()
    with time_machine.travel(1_800_000_000, tick=False) as time:
        app = RateLimits(foreign, Limiter(), by_path(3))
        for left in (2, 1, 0):
            answer = await ask(app)
            assert answer.headers["ratelimit"] == f'"requests";r={left};t=60'
            assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=60'
            assert answer.headers["ratelimit-limit"] == "3"
            assert answer.headers["ratelimit-remaining"] == str(left)
            assert answer.headers["ratelimit-reset"] == "60"
            assert answer.headers["x-own"] == "1"
        for _ in range(3):
            with pytest.raises(HttpProblem) as caught:
                await ask(app)
            assert caught.value.status == 429
            assert caught.value.headers["Retry-After"] == "60"
        assert "ratelimit" not in (await ask(app, "/free")).headers
        assert foreign.served == 4
        time.shift(60.5)
        assert (await ask(app)).headers["ratelimit-remaining"] == "2"


async def test_a_refusal_carries_its_headers_whatever_else_is_stacked() -> None:
    for wrap in (Problems, lambda app: Problems(Keys(app, OWNERS.get)), lambda app: RequestId(Problems(app))):
        app = wrap(RateLimits(Foreign(), Limiter(), by_path(1)))
        await ask(app, X_Api_Key="key_ada")
        answer = await ask(app, X_Api_Key="key_ada")
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["ratelimit-remaining"] == "0"
        assert answer.headers["ratelimit-policy"] == '"requests";q=1;w=60'


async def test_several_rules_must_all_admit() -> None:
    rules = (Rule("wide", "x", 4, 60), Rule("narrow", "x", 2, 10), Rule("none", "x", 0, 60))
    with time_machine.travel(1_800_000_000, tick=False) as time:
        limiter = Limiter()
        app = Problems(RateLimits(Foreign(), limiter, lambda scope: rules))
        answers = [await ask(app) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
        assert answers[1].headers["ratelimit"] == '"wide";r=2;t=60, "narrow";r=0;t=10'
        assert answers[4].headers["retry-after"] == "10"
        time.shift(10.5)
        # The refused ones were counted by neither rule.
        assert [(await ask(app)).status_code for _ in range(3)] == [200, 200, 429]
        time.shift(10.5)
        refused = await ask(app)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == str(60 - 21)


async def test_other_kinds_of_scope_pass() -> None:
    """A lifespan is the application's own business."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asks")

    app = RequestId(Problems(Keys(RateLimits(Foreign(), Limiter(), by_path(1)), OWNERS.get)))
    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == [{"type": "foreign.lifespan"}]


async def test_a_websocket_needs_a_key_too() -> None:
    """What guards an application must not leave its other door open."""
    foreign_saw: list[Any] = []
    sent: list[Any] = []

    async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
        foreign_saw.append(scope["state"]["principal"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    app = RequestId(Problems(Keys(foreign, OWNERS.get)))
    scope = {"type": "websocket", "path": "/", "query_string": b"", "asgi": {"version": "3.0"}}
    await app(scope | {"headers": []}, receive, send)
    assert foreign_saw == []
    assert [message["type"] for message in sent] == ["websocket.close"]
    await app(scope | {"headers": [(b"x-api-key", b"key_ada")]}, receive, send)
    assert foreign_saw == ["ada"]


# -- stacked


def stack(app: ASGIApp, limit: int = 2) -> ASGIApp:
    return RequestId(Problems(Keys(RateLimits(app, Limiter(), by_path(limit)), OWNERS.get)))


@pytest.mark.parametrize("make", [Foreign, lambda: Starlette(routes=ROUTES)], ids=["foreign", "starlette"])
async def test_the_stack(make: Callable[[], ASGIApp]) -> None:
    app = stack(make())
    problem(await ask(app), 401)
    for left in ("1", "0"):
        answer = await ask(app, X_Api_Key="key_ada", X_Request_Id="trace")
        assert answer.status_code == 200
        assert answer.json() == {"request_id": "trace", "principal": "ada"}
        assert answer.headers["x-request-id"] == "trace"
        assert answer.headers["ratelimit-remaining"] == left
    refused = await ask(app, X_Api_Key="key_ada")
    problem(refused, 429)
    assert refused.headers["ratelimit-remaining"] == "0"
    # Everybody has a limit of their own.
    assert (await ask(app, Authorization="Bearer key_bob")).json()["principal"] == "bob"


async def test_no_header_comes_twice() -> None:
    answer = await ask(stack(RequestId(Foreign())), X_Api_Key="key_ada")
    names = [name for name, _ in answer.headers.multi_items()]
    assert names.count("ratelimit") == 1
    assert names.count("ratelimit-policy") == 1


async def test_a_stream_passes_as_it_comes() -> None:
    answer = await ask(stack(Starlette(routes=ROUTES)), "/stream", X_Api_Key="key_ada")
    assert answer.text == "012"
    assert answer.headers["ratelimit-remaining"] == "1"


async def test_as_middleware_within_starlette(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(RequestId),
            Middleware(Problems),
            Middleware(Keys, lookup=OWNERS.get),
            Middleware(RateLimits, limiter=Limiter(), policies=by_path(3)),
        ],
    )
    problem(await ask(app), 401)
    assert (await ask(app, X_Api_Key="key_ada")).json()["principal"] == "ada"
    crashed = await ask(app, "/crash", X_Api_Key="key_ada")
    problem(crashed, 500)
    assert crashed.headers["ratelimit-remaining"] == "1"
    assert len(caplog.records) == 1
    assert (await ask(app, "/stream", X_Api_Key="key_ada")).text == "012"
    problem(await ask(app, X_Api_Key="key_ada"), 429)


async def test_two_stacks_share_nothing() -> None:
    one, two = stack(Foreign(), 1), stack(Foreign(), 1)
    for app in (one, two):
        assert (await ask(app, X_Api_Key="key_ada")).status_code == 200
    problem(await ask(one, X_Api_Key="key_ada"), 429)
