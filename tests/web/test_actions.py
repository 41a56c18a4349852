"""Actions: each is one call of the API, asked once more before it is made, and can be undone where that is possible."""

from html import unescape
from typing import Any

import pytest
from tests.http.exchange import Client, body, hash_of
from tests.web.conftest import Place
from tests.web.visitor import Visitor, inputs


async def seen(place: Place, miner: str) -> dict[str, Any]:
    return body(await place.world.operator.get(f"/miners/{miner}"))


async def client_of(place: Place) -> dict[str, Any]:
    return body(await place.world.operator.get(f"/clients/{place.town.client}"))


async def undo(visitor: Visitor, answer: Any) -> None:
    """Follow the page that an action leads to, and what it offers to take it back."""
    assert answer.status_code == 303, answer.text
    page = (await visitor.get(answer.headers["location"])).text
    where = unescape(page.partition('role="status"')[2].partition('href="')[2].partition('"')[0])
    form = (await visitor.get(where)).text
    fields = inputs(form[form.index('action="/dashboard/do/') :])
    again = await visitor.post(where.partition("?")[0], **fields)
    assert again.status_code == 303, again.text


async def test_a_miner_is_approved_suspended_and_approved_again(place: Place) -> None:
    miner = place.town.pending_miner
    answer = await place.operator.do("approve_miner", miner_id=miner)
    assert answer.headers["location"] == f"/dashboard/miners/{miner}"
    assert (await seen(place, miner))["status"] == "active"
    await undo(place.operator, answer)
    assert (await seen(place, miner))["status"] == "suspended"
    answer = await place.operator.do("suspend_miner", {"reason": "too slow"}, miner_id=place.town.miner)
    assert (await seen(place, place.town.miner))["status"] == "suspended"
    entry = body(await place.world.operator.get("/audit"))["entries"][0]
    assert (entry["action"], entry["detail"]) == ("miner.suspend", "too slow")
    await undo(place.operator, answer)
    assert (await seen(place, place.town.miner))["status"] == "active"


async def test_what_was_done_is_told_once(place: Place) -> None:
    answer = await place.operator.do("approve_miner", miner_id=place.town.pending_miner)
    where = answer.headers["location"]
    assert "The miner may work." in (await place.operator.get(where)).text
    assert "The miner may work." not in (await place.operator.get(where)).text


@pytest.mark.parametrize(
    "planted", ["%7B", "%7B%22said%22:%22x%22,%22undo%22:%22https://evil.example%22%7D", "null", "%"]
)
async def test_a_planted_cookie_leads_nowhere(place: Place, planted: str) -> None:
    place.operator.cookies["pithead_done"] = planted
    page = await place.operator.get("/dashboard")
    assert page.status_code == 200
    assert "evil" not in page.text


async def test_a_miner_is_retired(place: Place) -> None:
    assert (await place.operator.do("retire_miner", miner_id=place.town.miner)).status_code == 303
    assert (await seen(place, place.town.miner))["status"] == "retired"
    # Its sessions have ended with its keys.
    assert (await place.miner.get("/dashboard")).status_code == 303


async def test_limits_are_set_and_set_back(place: Place) -> None:
    async def limits() -> Any:
        found = (await seen(place, place.town.miner))["limits"]
        return found["requests_per_minute"], found["job_operations_per_minute"]

    answer = await place.operator.do("set_limits", {"requests_per_minute": "30"}, miner_id=place.town.miner)
    assert await limits() == (30, None)
    await undo(place.operator, answer)
    assert await limits() == (None, None)


async def test_balances_and_credit_lines_change_and_change_back(place: Place) -> None:
    before = (await client_of(place))["balance"]
    answer = await place.operator.do("credit_client", {"amount": "12.5", "note": "gift"}, client_id=place.town.client)
    assert (await client_of(place))["balance"] == pytest.approx(before + 12.5)
    await undo(place.operator, answer)
    assert (await client_of(place))["balance"] == pytest.approx(before)
    answer = await place.operator.do("set_credit_line", {"amount": "40"}, client_id=place.town.client)
    assert (await client_of(place))["credit_line"] == 40
    await undo(place.operator, answer)
    assert (await client_of(place))["credit_line"] == 0


async def test_a_form_that_is_sent_twice_does_it_once(place: Place) -> None:
    before = (await client_of(place))["balance"]
    page = (await place.operator.get("/dashboard/do/credit_client", params={"client_id": place.town.client})).text
    form = inputs(page[page.index('action="/dashboard/do/') :]) | {"amount": "5"}
    for _ in range(2):
        assert (await place.operator.post("/dashboard/do/credit_client", **form)).status_code == 303
    assert (await client_of(place))["balance"] == pytest.approx(before + 5)


async def test_payouts_are_approved_paid_rejected_and_made(place: Place) -> None:
    async def state(payout: str) -> Any:
        return body(await place.world.operator.get(f"/payouts/{payout}"))["status"]

    assert (await place.operator.do("approve_payout", payout_id=place.town.requested)).status_code == 303
    assert await state(place.town.requested) == "approved"
    await place.operator.do("mark_payout_paid", {"reference": "SEPA 1"}, payout_id=place.town.requested)
    assert await state(place.town.requested) == "paid"
    await place.operator.do("reject_payout", {"note": "wrong account"}, payout_id=place.town.approved)
    assert await state(place.town.approved) == "rejected"
    assert (await place.operator.do("create_payout", {"amount": "0.1"}, miner_id=place.town.miner)).status_code == 303
    # A refusal is told in the form, with what was typed still there.
    refused = await place.operator.do("create_payout", {"amount": "99999"}, miner_id=place.town.miner)
    assert refused.status_code == 409
    assert 'value="99999"' in refused.text
    assert "The balance is" in refused.text or "the balance is" in refused.text


async def test_jobs_are_cancelled_by_whom_they_concern(place: Place) -> None:
    town = place.town
    assert (await place.operator.do("cancel_any_job", job_id=town.queued)).headers[
        "location"
    ] == f"/dashboard/jobs/{town.queued}"
    assert (await place.client.do("cancel_job", job_id=town.running)).status_code == 303
    for job in (town.queued, town.running):
        assert "cancelled" in (await place.operator.get(f"/dashboard/jobs/{job}")).text
    late = await place.client.do("cancel_job", job_id=town.completed)
    assert late.status_code == 409
    assert "there is nothing left to cancel" in late.text


async def test_keys_are_shown_once_and_work(place: Place) -> None:
    made = await place.operator.do("create_client", {"name": "New & co", "credit": "3"})
    key = made.text.partition('id="secret">')[2].partition("<")[0]
    visitor = Visitor(place.world.http)
    assert (await visitor.sign_in(key)).status_code == 303
    visitor.cookies.clear()
    account = place.town.client
    rotated = await place.operator.do("rotate_key", {"grace": "0"}, account_id=account)
    assert (await place.client.get("/dashboard")).status_code == 303
    key = rotated.text.partition('id="secret">')[2].partition("<")[0]
    assert (await visitor.sign_in(key)).status_code == 303
    assert (await place.operator.do("revoke_keys", account_id=account)).status_code == 303
    assert (await visitor.get("/dashboard")).status_code == 303
    token = await place.operator.do("create_enrollment_token", {"uses": "3"})
    assert "enroll_" in token.text


async def test_faults_stand_at_their_fields(place: Place) -> None:
    answer = await place.operator.do("credit_client", {"amount": "much"}, client_id=place.town.client)
    assert answer.status_code == 422
    assert 'id="x-amount"' in answer.text
    answer = await place.operator.do("create_client", {"name": ""})
    assert answer.status_code == 422
    assert 'id="x-name"' in answer.text


async def test_a_client_submits_from_the_form(place: Place) -> None:
    async def submit(**fields: str) -> Any:
        page = (await place.client.get("/dashboard/submit")).text
        form = inputs(page[page.index('action="/dashboard/submit"') :])
        return await place.client.post("/dashboard/submit", **form | fields)

    answer = await submit(prompt="Hello <there>", max_tokens="20", model="gpt2", price="0.05")
    assert answer.status_code == 303
    page = (await place.client.get(answer.headers["location"])).text
    assert "Hello &lt;there&gt;" in page
    assert "The job is queued" in page
    answer = await submit(json='{"messages": [1, 2]}', model="gpt2", price="0.05")
    assert "messages" in (await place.client.get(answer.headers["location"])).text
    for fields, fault in (({"json": "{"}, "x-json"), ({"model": ""}, "x-model"), ({"max_tokens": "x"}, "x-max_tokens")):
        answer = await submit(**{"model": "gpt2", "price": "0.05"} | fields)
        assert answer.status_code == 422
        assert f'id="{fault}"' in answer.text
    answer = await submit(prompt="x", model="gpt2", price="1000000")
    assert answer.status_code == 402
    assert "balance" in answer.text


@pytest.mark.parametrize("role", ["operator", "client", "miner"])
async def test_webhooks_are_made_changed_tried_and_deleted(place: Place, role: str) -> None:
    visitor: Visitor = getattr(place, role)
    made = await visitor.do("create_webhook", {"url": "https://hooks.invalid/x", "events": "job.completed, job.failed"})
    assert "whsec_" in made.text
    page = (await visitor.get("/dashboard/webhooks")).text
    hook = page.partition("/dashboard/webhooks/")[2].partition('"')[0]
    assert "job.completed, job.failed" in page
    answer = await visitor.do("update_webhook", {"description": "for the lab"}, webhook_id=hook)
    await undo(visitor, answer)
    assert "for the lab" not in (await visitor.get(f"/dashboard/webhooks/{hook}")).text
    await visitor.do("update_webhook", {"description": "for the lab"}, webhook_id=hook)
    page = (await visitor.get(f"/dashboard/webhooks/{hook}")).text
    assert "for the lab" in page
    assert "job.completed, job.failed" in page
    assert "whsec_" in (await visitor.do("rotate_webhook_secret", webhook_id=hook)).text
    assert (await visitor.do("test_webhook", webhook_id=hook)).status_code == 303
    page = (await visitor.get(f"/dashboard/webhooks/{hook}")).text
    assert "pending" in page
    others = [one for one in (place.operator, place.client, place.miner) if one is not visitor]
    assert [(await one.get(f"/dashboard/webhooks/{hook}")).status_code for one in others] == [404, 404]
    assert (await visitor.do("delete_webhook", webhook_id=hook)).headers["location"] == "/dashboard/webhooks"
    assert hook not in (await visitor.get("/dashboard/webhooks")).text


async def test_a_client_deletes_a_file(place: Place) -> None:
    content = b"some input"
    name = hash_of(content).removeprefix("sha256:")
    await Client(place.world.http, place.town.client_key).put(f"/v1/files/{name}", content=content)
    assert name in (await place.client.get("/dashboard/files")).text
    assert (await place.client.do("delete_file", sha256=name)).headers["location"] == "/dashboard/files"
    assert name not in (await place.client.get("/dashboard/files")).text


async def test_an_owner_changes_the_machine_and_asks_to_be_paid(place: Place) -> None:
    answer = await place.miner.do("update_miner", {"draining": "on", "price_per_hour": "0.5"})
    found = await seen(place, place.town.miner)
    assert (found["status"], found["price_per_hour"], found["models"]) == ("draining", 0.5, None)
    await undo(place.miner, answer)
    found = await seen(place, place.town.miner)
    assert (found["status"], found["price_per_hour"]) == ("active", 0.18)
    assert (await place.miner.do("request_payout", {"amount": "0.2"})).headers["location"] == "/dashboard/payouts"


async def test_an_owner_ends_the_registration(place: Place) -> None:
    assert (await place.miner.do("deregister_miner")).status_code == 303
    assert (await seen(place, place.town.miner))["status"] == "retired"
    assert (await place.miner.get("/dashboard")).headers["location"].startswith("/dashboard/sign-in")


@pytest.mark.parametrize("action", ["approve_miner", "credit_client", "rotate_key"])
async def test_nobody_does_what_is_not_theirs(place: Place, action: str) -> None:
    about = {"miner_id": place.town.miner, "client_id": place.town.client, "account_id": place.town.client}
    for visitor in (place.client, place.miner):
        assert (await visitor.get(f"/dashboard/do/{action}", params=about)).status_code == 404
        csrf = inputs((await visitor.get("/dashboard")).text)["csrf"]
        assert (await visitor.post(f"/dashboard/do/{action}", csrf=csrf, amount="5", **about)).status_code == 404


async def test_an_owner_acts_for_its_own_machine_whatever_the_form_names(place: Place) -> None:
    other = place.town.pending_miner
    await place.miner.do("update_miner", {"name": "renamed"}, miner_id=other)
    assert (await seen(place, other))["name"] == "newcomer"
    assert (await seen(place, place.town.miner))["name"] == "renamed"
