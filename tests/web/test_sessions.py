"""Sessions: a key is exchanged for a cookie, which ends by itself, with its key, and at one's wish."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.http.exchange import Clock, World, body, run_world
from tests.web.visitor import Visitor, inputs


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with run_world(tmp_path, Clock(), dashboard={"session": 3600, "sign_ins_per_minute": 5}) as world:
        yield world


@pytest.fixture
async def operator(world: World) -> Visitor:
    visitor = Visitor(world.http)
    assert (await visitor.sign_in("key_operator-of-these-tests")).status_code == 303
    return visitor


async def test_a_key_opens_a_session_whose_cookie_scripts_cannot_read(world: World) -> None:
    visitor = Visitor(world.http)
    assert (await visitor.get("/dashboard")).headers["location"].startswith("/dashboard/sign-in?next=")
    answer = await visitor.sign_in("key_operator-of-these-tests")
    assert answer.status_code == 303
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith("pithead_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert (await visitor.get("/dashboard")).status_code == 200


async def test_over_tls_the_cookie_is_for_tls_alone(world: World) -> None:
    transport = httpx.ASGITransport(world.application.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="https://pithead") as http:
        visitor = Visitor(http)
        answer = await visitor.sign_in("key_operator-of-these-tests")
        assert all("Secure" in line for line in answer.headers.get_list("set-cookie"))
        assert "strict-transport-security" in answer.headers


async def test_the_database_has_neither_the_key_nor_the_token(world: World, operator: Visitor) -> None:
    stored = world.stored()
    assert operator.cookies["pithead_session"].encode() not in stored
    assert b"key_operator-of-these-tests" not in stored


async def test_a_session_is_no_key_of_the_api_and_a_key_is_no_session(world: World, operator: Visitor) -> None:
    token = operator.cookies["pithead_session"]
    for given in (token, f"session {token}", f"session\t{token}"):
        answer = await world.http.get("/v1/admin/overview", headers={"Authorization": f"Bearer {given}"})
        assert answer.status_code == 401
    stranger = Visitor(world.http)
    stranger.cookies["pithead_session"] = "key_operator-of-these-tests"
    assert (await stranger.get("/dashboard")).status_code == 303
    assert (await stranger.sign_in(token)).status_code == 403


async def test_a_session_ends_after_its_time(world: World, operator: Visitor) -> None:
    world.clock.now += 3599
    assert (await operator.get("/dashboard")).status_code == 200
    world.clock.now += 2
    assert (await operator.get("/dashboard")).status_code == 303


async def test_signing_out_ends_the_session_and_not_only_the_cookie(world: World, operator: Visitor) -> None:
    token = operator.cookies["pithead_session"]
    form = inputs((await operator.get("/dashboard")).text)
    answer = await operator.post("/dashboard/sign-out", csrf=form["csrf"])
    assert answer.headers["location"] == "/dashboard/sign-in"
    assert "pithead_session" not in operator.cookies
    thief = Visitor(world.http)
    thief.cookies["pithead_session"] = token
    assert (await thief.get("/dashboard")).status_code == 303


async def test_a_revoked_key_ends_its_sessions(world: World) -> None:
    client = await world.client()
    visitor = Visitor(world.http)
    await visitor.sign_in(client.key)
    assert (await visitor.get("/dashboard")).status_code == 200
    body(await world.operator.delete(f"/accounts/{client.id}/keys"))
    assert (await visitor.get("/dashboard")).status_code == 303


async def test_a_session_lasts_no_longer_than_a_key_that_is_to_end(world: World) -> None:
    client = await world.client()
    await world.operator.post(f"/accounts/{client.id}/keys", json={"grace": 60})
    visitor = Visitor(world.http)
    await visitor.sign_in(client.key)
    world.clock.now += 61
    assert (await visitor.get("/dashboard")).status_code == 303


async def test_an_unknown_key_is_refused_and_attempts_are_limited(world: World) -> None:
    visitor = Visitor(world.http)
    answers = [await visitor.sign_in("key_wrong") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [403] * 5 + [429]
    assert "The key is unknown, or has been revoked." in answers[0].text
    assert (await visitor.sign_in("key_operator-of-these-tests")).status_code == 429


@pytest.mark.parametrize("path", ["/dashboard/sign-out", "/dashboard/theme", "/dashboard/do/create_client"])
async def test_a_form_without_its_token_is_refused(operator: Visitor, path: str) -> None:
    for forged in ({}, {"csrf": ""}, {"csrf": "0" * 64}):
        answer = await operator.post(path, name="evil", **forged)
        assert answer.status_code == 403
        assert "does not come from this dashboard" in answer.text


async def test_a_form_of_one_session_is_nothing_to_another(world: World, operator: Visitor) -> None:
    other = Visitor(world.http)
    await other.sign_in("key_operator-of-these-tests")
    csrf = inputs((await other.get("/dashboard")).text)["csrf"]
    assert (await operator.post("/dashboard/do/create_client", csrf=csrf, name="evil")).status_code == 403


async def test_signing_in_leads_on_within_the_dashboard_only(world: World) -> None:
    for wanted, reached in (
        ("/dashboard/jobs?status=queued", "/dashboard/jobs?status=queued"), ("//evil.example", "/dashboard"),
        ("https://evil.example", "/dashboard"), ("/dashboard\\@evil.example", "/dashboard"), ("/v1/jobs", "/dashboard"),
    ):  # fmt: skip
        visitor = Visitor(world.http)
        form = inputs((await visitor.get("/dashboard/sign-in", params={"next": wanted})).text)
        answer = await visitor.post(
            "/dashboard/sign-in", **form | {"key": "key_operator-of-these-tests", "next": wanted}
        )
        assert answer.headers["location"] == reached


async def test_signing_in_as_operator_is_in_the_audit_log(world: World, operator: Visitor) -> None:
    entries = body(await world.operator.get("/audit"))["entries"]
    assert [entry["action"] for entry in entries] == ["session.open"]


async def test_every_answer_forbids_what_it_does_not_need(operator: Visitor) -> None:
    for path in ("/dashboard", "/dashboard/sign-in", "/dashboard/nothing", "/dashboard/static/pithead.js"):
        headers = (await operator.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]


async def test_light_or_dark_is_kept(operator: Visitor) -> None:
    csrf = inputs((await operator.get("/dashboard")).text)["csrf"]
    answer = await operator.post("/dashboard/theme", csrf=csrf, theme="dark", back="/dashboard/jobs")
    assert answer.headers["location"] == "/dashboard/jobs"
    assert 'data-theme="dark"' in (await operator.get("/dashboard/jobs")).text


async def test_a_dashboard_that_is_switched_off_is_not_there(tmp_path: Path) -> None:
    async with run_world(tmp_path, Clock(), dashboard={"enabled": False}) as world:
        assert (await world.http.get("/dashboard")).status_code == 401
        answer = await world.http.get("/", headers={"Accept": "text/html"})
        assert answer.json()["name"] == "pithead"


async def test_a_browser_at_the_front_door_is_led_to_the_dashboard(world: World) -> None:
    for path in ("/", "/dashboard/"):
        answer = await world.http.get(path, headers={"Accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    assert (await world.http.get("/")).json()["name"] == "pithead"


async def test_requests_are_logged_as_those_of_the_api_and_no_key_is_among_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_world(tmp_path, Clock(), log_requests=True) as world:
        visitor = Visitor(world.http)
        with caplog.at_level("INFO", "pithead.requests"):
            await visitor.sign_in("key_operator-of-these-tests")
            await visitor.get("/dashboard/miners")
    assert "GET /dashboard/miners by operator: 200" in caplog.text
    assert "key_operator-of-these-tests" not in caplog.text
    assert visitor.cookies["pithead_session"] not in caplog.text
