"""Webhooks: what happened is told to those who want to know, signed, until it is taken, and never into somebody's house."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any

import pytest
from tests.http.exchange import HASH, Party, World, body, problem
from tests.http.receiver import Receiver, receiving
from tests.http.streams import watching

from pithead.exchange import courier

DAY = 86_400.0
OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
async def told() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def near(open_world: OpenWorld) -> AsyncIterator[World]:
    """A coordinator whose operator lets webhooks point at the loopback."""
    async with open_world(webhooks={"allowed_networks": "127.0.0.0/8"}) as world:
        yield world


async def hook(party: Party, receiver: Receiver, *events: str) -> dict[str, Any]:
    """A webhook of theirs at the receiver."""
    made = await own(party).post("/v1/webhooks", json={"url": receiver.url, "events": list(events)})
    return body(made, 201)


def own(party: Party) -> Party:
    """The same party, with paths from the root."""
    return Party(party.http, party.key)


async def ended(world: World, client: Any, miner: Any) -> str:
    """A job that was completed."""
    job: str = await client.submit()
    await miner.take(job)
    body(await miner.complete(job))
    return job


async def test_a_client_is_told_of_its_jobs_signed(near: World, told: Receiver) -> None:
    client, other, miner = await near.client(), await near.client(), await near.miner()
    made = await hook(client, told)
    assert made["secret"].startswith("whsec_")
    job = await ended(near, client, miner)
    await ended(near, other, miner)
    assert await near.application.courier.turn() == 1
    [one] = told.told
    said = one.says(made["secret"])
    assert (said["type"], said["timestamp"]) == ("job.completed", "2027-01-15T08:00:00.000Z")
    assert said["data"].items() >= {
        "job_id": job, "status": "completed", "price": 0.05, "client_id": client.id, "miner_id": miner.id,
        "result_hash": HASH, "failure": None,
    }.items()  # fmt: skip
    assert one.headers["content-type"] == "application/json"
    # Nobody else's secret fits.
    with pytest.raises(Exception, match="No matching signature"):
        one.says((await hook(other, told))["secret"])
    # It was taken, and is not sent again.
    near.clock.now += 1000
    assert await near.application.courier.turn() == 0
    [log] = body(await own(client).get(f"/v1/webhooks/{made['webhook_id']}/deliveries"))["deliveries"]
    assert log.items() >= {
        "delivery_id": one.id, "event": "job.completed", "status": "delivered", "attempts": 1,
        "response_status": 204, "error": "", "next_attempt_at": None,
    }.items()  # fmt: skip


async def test_each_is_told_what_concerns_it_and_what_it_wants(near: World, told: Receiver) -> None:
    client, miner = await near.client(), await near.miner()
    await hook(client, told, "job.failed", "job.cancelled")
    await hook(miner, told)
    await hook(near.operator, told, "job.expired", "payout.rejected")
    completed = await ended(near, client, miner)
    cancelled = await client.submit()
    body(await client.delete(f"/v1/jobs/{cancelled}"))
    failed = await client.submit(max_attempts=1)
    await miner.take(failed)
    body(await miner.fail(failed))
    expired = await client.submit(timeout=5)
    await near.later(6)
    body(await miner.put(json={"payout_destination": "a bank"}))
    payout = body(await miner.post("/payouts"), 201)["payout_id"]
    body(await near.operator.post(f"/payouts/{payout}/reject"))
    while await near.application.courier.turn():
        pass
    events = [json.loads(one.body) for one in told.told]
    assert sorted((event["type"], event["data"].get("job_id")) for event in events if event["type"].startswith("job")) == [
        ("job.cancelled", cancelled), ("job.completed", completed), ("job.expired", expired),
        ("job.failed", failed),
    ]  # fmt: skip
    assert sorted(event["type"] for event in events if event["type"].startswith("payout")) == [
        "payout.rejected", "payout.rejected", "payout.requested",
    ]  # fmt: skip
    [failure] = [event["data"]["failure"] for event in events if event["type"] == "job.failed"]
    assert failure == {"kind": "error", "reason": "no luck"}


async def test_what_did_not_happen_is_not_told(near: World, told: Receiver) -> None:
    client = await near.client(credit=0.01)
    await hook(client, told)
    problem(await client.post("/v1/jobs", json={"model": "m", "input": 1, "price": 5}), 402)
    job = await client.submit(price=0.01)
    near.refuse_writes(True)
    problem(await client.delete(f"/v1/jobs/{job}"), 503)
    near.refuse_writes(False)
    assert await near.application.courier.turn() == 0
    # Once, however often it is asked for.
    for _ in range(2):
        body(await client.delete(f"/v1/jobs/{job}"))
    assert await near.application.courier.turn() == 1


async def test_what_is_not_taken_is_sent_again_later_and_later(near: World, told: Receiver) -> None:
    client, miner = await near.client(), await near.miner()
    made = await hook(client, told)
    await ended(near, client, miner)
    told.answer(500, 429, 302, more=b"Location: http://127.0.0.1:1/\r\n")
    told.answers.append(b"")
    sender, waited = near.application.courier, []
    for _ in range(4):
        assert await sender.turn() == 1
        assert await sender.turn() == 0
        [log] = body(await own(client).get(f"/v1/webhooks/{made['webhook_id']}/deliveries"))["deliveries"]
        waited.append(log["next_attempt_at"] - near.clock.now)
        near.clock.now = log["next_attempt_at"] + 100
    assert await sender.turn() == 1
    assert len({one.id for one in told.told}) == 1
    assert len(told.told) == 5
    for first, second in pairwise(waited):
        assert second > 1.5 * first
    view = body(await own(client).get(f"/v1/webhooks/{made['webhook_id']}"))
    assert (view["failing_since"], view["enabled"]) == (None, True)


async def test_a_message_is_given_up_after_its_days_and_can_be_sent_again(near: World, told: Receiver) -> None:
    client, miner = await near.client(), await near.miner()
    made = await hook(client, told)
    await ended(near, client, miner)
    told.answer(*[500] * 40)
    path = f"/v1/webhooks/{made['webhook_id']}"
    for _ in range(40):
        await near.application.courier.turn()
        [log] = body(await own(client).get(f"{path}/deliveries"))["deliveries"]
        if log["status"] == "failed":
            break
        near.clock.now = max(log["next_attempt_at"], near.clock.now + 600)
    assert (log["status"], log["error"], log["response_status"]) == ("failed", "answered 500", 500)
    assert 8 < log["attempts"] < 30
    assert body(await own(client).get(f"{path}/deliveries", params={"status": "pending"}))["deliveries"] == []
    told.answers.clear()
    near.clock.now += 601
    again = body(await own(client).post(f"{path}/deliveries/{log['delivery_id']}/replay"))
    assert again["status"] == "pending"
    assert await near.application.courier.turn() == 1
    assert told.told[-1].id == told.told[0].id
    assert told.told[-1].says(made["secret"])["type"] == "job.completed"
    problem(await own(client).post(f"{path}/deliveries/msg_unknown/replay"), 404)


async def test_a_webhook_that_fails_for_days_is_disabled_and_its_account_told(near: World, told: Receiver) -> None:
    client, miner = await near.client(), await near.miner()
    made = await hook(client, told)
    path = f"/v1/webhooks/{made['webhook_id']}"
    told.answer(*[500] * 100)
    async with watching(near, client, "/v1/account/events") as stream:
        await stream.until("sync")
        for _ in range(8):
            await ended(near, client, miner)
            await near.application.courier.turn()
            near.clock.now += DAY
        assert (await stream.until("webhook")).data["webhook_id"] == made["webhook_id"]
    view = body(await own(client).get(path))
    assert not view["enabled"]
    assert "failed for" in view["disabled_reason"]
    before = len(told.told)
    await ended(near, client, miner)
    assert await near.application.courier.turn() == 0
    problem(await own(client).post(f"{path}/test"), 409)
    told.answers.clear()
    body(await own(client).put(path, json={"enabled": True}))
    body(await own(client).post(f"{path}/test"), 201)
    while await near.application.courier.turn():
        pass
    assert len(told.told) > before
    assert [json.loads(one.body)["type"] for one in told.told][-1] == "webhook.test"


async def test_one_that_says_that_it_is_gone_is_disabled_at_once(near: World, told: Receiver) -> None:
    client = await near.client()
    made = await hook(client, told)
    told.answer(410)
    body(await own(client).post(f"/v1/webhooks/{made['webhook_id']}/test"), 201)
    await near.application.courier.turn()
    assert "410" in body(await own(client).get(f"/v1/webhooks/{made['webhook_id']}"))["disabled_reason"]
    assert near.application.coordinator.hooked == set()


async def test_a_slow_receiver_does_not_hold_up_the_others(near: World, told: Receiver) -> None:
    client, other = await near.client(), await near.client()
    slow, quick = await hook(client, told), await hook(other, told)
    for _ in range(10):
        body(await own(client).post(f"/v1/webhooks/{slow['webhook_id']}/test"), 201)
    body(await own(other).post(f"/v1/webhooks/{quick['webhook_id']}/test"), 201)
    assert await near.application.courier.turn() == 5
    assert quick["webhook_id"] in {json.loads(one.body)["data"]["webhook_id"] for one in told.told}


async def test_a_secret_is_shown_once_and_the_one_before_signs_for_a_day(near: World, told: Receiver) -> None:
    client = await near.client()
    made = await hook(client, told)
    path = f"/v1/webhooks/{made['webhook_id']}"
    for answer in (await own(client).get(path), await own(client).get("/v1/webhooks")):
        assert made["secret"] not in answer.text
    newer = body(await own(client).post(f"{path}/secret"), 201)["secret"]
    for later in (0, DAY + 1):
        near.clock.now += later
        body(await own(client).post(f"{path}/test"), 201)
        await near.application.courier.turn()
    both, one = told.told
    assert both.says(newer) == both.says(made["secret"])
    one.says(newer)
    with pytest.raises(Exception, match="No matching signature"):
        one.says(made["secret"])


async def test_webhooks_are_their_accounts_own(near: World, told: Receiver) -> None:
    client, other, miner = await near.client(), await near.client(), await near.miner()
    made = await hook(client, told)
    path = f"/v1/webhooks/{made['webhook_id']}"
    for stranger in (own(other), own(miner), own(near.operator)):
        problem(await stranger.get(path), 404)
        problem(await stranger.put(path, json={"enabled": False}), 404)
        problem(await stranger.delete(path), 404)
        for call in ("/secret", "/test", "/deliveries/x/replay"):
            problem(await stranger.post(path + call), 404)
        problem(await stranger.get(f"{path}/deliveries"), 404)
        assert body(await stranger.get("/v1/webhooks"))["webhooks"] == []
    problem(await near.http.get("/v1/webhooks"), 401)
    changed = body(await own(client).put(path, json={"events": ["job.failed"], "description": "mine"}))
    assert (changed["events"], changed["description"], changed["url"]) == (["job.failed"], "mine", told.url)
    assert near.application.coordinator.hooked
    body(await own(client).delete(path))
    problem(await own(client).get(path), 404)
    assert not near.application.coordinator.hooked


async def test_there_are_bounds(near: World, told: Receiver) -> None:
    client = await near.client()
    for _ in range(20):
        await hook(client, told)
    problem(await own(client).post("/v1/webhooks", json={"url": told.url}), 409)
    problem(await own(client).post("/v1/webhooks", json={"url": told.url, "events": ["job.started"]}), 422, "events[0]")


async def test_who_has_none_pays_nothing(near: World, told: Receiver) -> None:
    client, other, miner = await near.client(), await near.client(), await near.miner()

    async def statements() -> int:
        asked: list[str] = []
        job = await client.submit()
        await miner.take(job)
        database = near.application.database
        if hasattr(database, "writer"):
            database.writer._connection.set_trace_callback(asked.append)
        body(await miner.complete(job))
        if hasattr(database, "writer"):
            database.writer._connection.set_trace_callback(None)
        return len(asked)

    before = await statements()
    await hook(other, told)
    assert await statements() == before


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3/", "https://169.254.169.254/",
        "https://0x7f000001/", "https://2130706433/", "https://127.1/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/",
        "https://[fe80::1]/", "https://[fd00::1]/", "https://100.64.0.1/", "https://[64:ff9b::7f00:1]/", "https://224.0.0.1/",
        "ftp://example.org/", "file:///etc/passwd", "example.org", "https://", "https://user:word@example.org/",
        "https://example.org/#x", "https://192.168.1.1:8443/x",
    ],
)  # fmt: skip
async def test_where_webhooks_may_not_point(world: World, url: str) -> None:
    client = await world.client()
    problem(await own(client).post("/v1/webhooks", json={"url": url}), 422, "url")


async def test_a_name_that_leads_into_the_house_is_not_followed(world: World, told: Receiver) -> None:
    client = await world.client()
    port = told.url.split(":")[2].partition("/")[0]
    made = body(await own(client).post("/v1/webhooks", json={"url": f"https://localhost:{port}/hook"}), 201)
    path = f"/v1/webhooks/{made['webhook_id']}"
    body(await own(client).post(f"{path}/test"), 201)
    assert await world.application.courier.turn() == 1
    [log] = body(await own(client).get(f"{path}/deliveries"))["deliveries"]
    assert "sends nothing to" in log["error"]
    assert (log["status"], log["response_status"], told.connections) == ("pending", None, 0)


async def test_secrets_are_sealed_where_results_are(open_world: OpenWorld, told: Receiver, tmp_path: Any) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32 + "\n")
    key.chmod(0o600)
    settings = {"db_encryption_enabled": True, "db_encryption_key_path": str(key)}
    async with open_world(webhooks={"allowed_networks": "127.0.0.0/8"}, **settings) as world:
        client = await world.client()
        made = await hook(client, told)
        assert made["secret"].removeprefix("whsec_").encode() not in world.stored()
        body(await own(client).post(f"/v1/webhooks/{made['webhook_id']}/test"), 201)
        await world.application.courier.turn()
        assert told.told[0].says(made["secret"])["type"] == "webhook.test"


async def test_it_is_the_commit_that_has_it_sent(near: World, told: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_LOOK_EVERY", 1_000_000)
    sending = asyncio.create_task(near.application.courier.run())
    client, miner = await near.client(), await near.miner()
    await hook(client, told)
    await ended(near, client, miner)
    await asyncio.wait_for(told.arrived.wait(), 10)
    sending.cancel()
    await asyncio.wait([sending])


async def test_the_log_is_forgotten_after_its_time(near: World, told: Receiver) -> None:
    client = await near.client()
    made = await hook(client, told)
    path = f"/v1/webhooks/{made['webhook_id']}"
    body(await own(client).post(f"{path}/test"), 201)
    await near.application.courier.turn()
    for later, left in ((29 * DAY, 1), (2 * DAY, 0)):
        near.clock.now += later
        await near.application.courier.prune()
        assert len(body(await own(client).get(f"{path}/deliveries"))["deliveries"]) == left
