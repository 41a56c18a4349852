"""Payouts: asked for, decided, paid, exported, and made by the schedule; every step of them in the ledger."""

import csv
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.http.exchange import Client, Miner, Party, World, body, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
DAY = 86_400


async def earner(
    world: World, amount: float, destination: str | None = "DE00 1234", client: Client | None = None
) -> Miner:
    """A miner that earned this, and said where to send it."""
    client = client or await world.client()
    miner = await world.miner(price_per_hour=0)
    job = await client.submit(price=amount, timeout=40 * DAY)
    await miner.take(job)
    body(await miner.complete(job))
    if destination is not None:
        body(await miner.put(json={"payout_destination": destination}))
    return miner


async def ask(miner: Miner, amount: float | None = None) -> dict[str, Any]:
    return body(await miner.post("/payouts", json=None if amount is None else {"amount": amount}), 201)


async def sound(world: World) -> None:
    found = body(await world.operator.get("/ledger/check"))
    assert found["sound"], found["faults"]


async def test_a_payout_is_requested_approved_and_paid(world: World) -> None:
    miner = await earner(world, 5)
    payout = await ask(miner, 3)
    assert payout == {
        "payout_id": payout["payout_id"], "miner_id": miner.id, "miner_name": "my-miner", "amount": 3,
        "destination": "DE00 1234", "status": "requested", "scheduled": False, "requested_at": world.clock.now,
        "decided_at": None, "paid_at": None, "reference": "", "note": "",
    }  # fmt: skip
    assert payout["payout_id"].startswith("payout_")
    assert body(await miner.get("/payouts"))["balance"] == 2
    assert (await world.ledger()).items() >= {"miner": 2, "payouts": 3, "issued": -100}.items()
    path = f"/payouts/{payout['payout_id']}"
    await world.later(10)
    approved = body(await world.operator.post(path + "/approve"))
    assert (approved["status"], approved["decided_at"]) == ("approved", world.clock.now)
    await world.later(10)
    paid = body(await world.operator.post(path + "/paid", json={"reference": "SEPA 7", "note": "thanks"}))
    assert (paid["status"], paid["paid_at"], paid["reference"], paid["note"]) == (
        "paid", world.clock.now, "SEPA 7", "thanks",
    )  # fmt: skip
    # What is paid out has left for the world from which credit comes.
    assert (await world.ledger()).items() >= {"miner": 2, "payouts": 0, "issued": -97}.items()
    assert body(await world.operator.get(path)) == paid
    assert body(await miner.get("/payouts")) == {"balance": 2, "payouts": [paid], "next_cursor": None}
    # Earnings are what was earned, whatever became of it.
    assert (await miner.stats())["earnings"] == 5
    entries = body(await world.operator.get(f"/accounts/{miner.id}/ledger"))["entries"]
    assert [(e["cause"], e["amount"], e["balance"], e["payout_id"]) for e in entries] == [
        ("payout", -3, 2, payout["payout_id"]), ("payment", 5, 5, None),
    ]  # fmt: skip
    reserved = body(await world.operator.get("/accounts/payouts/ledger"))["entries"]
    assert [(e["cause"], e["amount"]) for e in reserved] == [("payout_paid", -3), ("payout", 3)]
    log = body(await world.operator.get("/audit"))["entries"]
    assert [(e["action"], e["detail"]) for e in log[:2]] == [("payout.paid", "SEPA 7"), ("payout.approve", "3")]
    await sound(world)


@pytest.mark.parametrize("approved", [False, True])
async def test_a_rejected_payout_comes_back(world: World, approved: bool) -> None:
    miner = await earner(world, 5)
    path = f"/payouts/{(await ask(miner))['payout_id']}"
    assert body(await miner.get("/payouts"))["balance"] == 0
    if approved:
        body(await world.operator.post(path + "/approve"))
    rejected = body(await world.operator.post(path + "/reject", json={"note": "no such account"}))
    assert (rejected["status"], rejected["note"]) == ("rejected", "no such account")
    assert body(await miner.get("/payouts"))["balance"] == 5
    await sound(world)
    again = await ask(miner, 5)
    assert again["status"] == "requested"


async def test_every_step_may_be_repeated_and_none_skipped_or_taken_back(world: World) -> None:
    miner = await earner(world, 5)
    path = f"/payouts/{(await ask(miner, 1))['payout_id']}"
    operator = world.operator
    problem(await operator.post(path + "/paid", json={"reference": "x"}), 409)
    assert body(await operator.post(path + "/approve")) == body(await operator.post(path + "/approve"))
    first = body(await operator.post(path + "/paid", json={"reference": "x"}))
    await world.later(10)
    assert body(await operator.post(path + "/paid", json={"reference": "x"})) == first
    assert "'x'" in problem(await operator.post(path + "/paid", json={"reference": "y"}), 409)["detail"]
    problem(await operator.post(path + "/approve"), 409)
    problem(await operator.post(path + "/reject"), 409)
    other = f"/payouts/{(await ask(miner, 1))['payout_id']}"
    assert body(await operator.post(other + "/reject")) == body(await operator.post(other + "/reject"))
    problem(await operator.post(other + "/approve"), 409)
    problem(await operator.post(other + "/paid", json={"reference": "x"}), 409)
    assert body(await miner.get("/payouts"))["balance"] == 4
    await sound(world)


async def test_what_cannot_be_paid_out(open_world: OpenWorld) -> None:
    async with open_world(payouts={"minimum": 0.5}) as world:
        miner = await earner(world, 2, destination=None)
        assert "payout_destination" in problem(await miner.post("/payouts"), 409)["detail"]
        body(await miner.put(json={"payout_destination": "wallet 1"}))
        problem(await miner.post("/payouts", json={"amount": 2.000001}), 409)
        problem(await miner.post("/payouts", json={"amount": 0.499999}), 422, "amount")
        problem(await miner.post("/payouts", json={"amount": 0.0000001}), 422, "amount")
        problem(await miner.post("/payouts", json={"amount": -1}), 422, "amount")
        await ask(miner, 1.75)
        assert "0.5" in problem(await miner.post("/payouts"), 409)["detail"]
        nobody = await world.miner()
        body(await nobody.put(json={"payout_destination": "wallet 2"}))
        problem(await nobody.post("/payouts"), 409)
        await sound(world)


async def test_a_repeated_request_is_one_payout(world: World) -> None:
    miner = await earner(world, 5)
    once = {"Idempotency-Key": "monday"}
    first = body(await miner.post("/payouts", json={"amount": 1}, headers=once), 201)
    assert body(await miner.post("/payouts", json={"amount": 1}, headers=once), 201) == first
    problem(await miner.post("/payouts", json={"amount": 2}, headers=once), 422, "Idempotency-Key")
    assert body(await miner.get("/payouts"))["balance"] == 4


async def test_a_new_destination_does_not_redirect_what_was_requested(world: World) -> None:
    miner = await earner(world, 5)
    before = await ask(miner, 1)
    body(await miner.put(json={"payout_destination": "somewhere else"}))
    after = await ask(miner, 1)
    path = f"/payouts/{before['payout_id']}"
    body(await world.operator.post(path + "/approve"))
    assert body(await world.operator.get(path))["destination"] == "DE00 1234"
    assert after["destination"] == "somewhere else"
    table = (await world.operator.get("/payouts?status=approved&format=csv")).text
    assert "DE00 1234" in table
    assert "somewhere else" not in table


@pytest.mark.parametrize("text", ["=1+1", "+49", "-1", "@me", " x", "a\nb", "x" * 501])
async def test_a_destination_is_one_line_and_no_formula(world: World, text: str) -> None:
    miner = await world.miner()
    problem(await miner.put(json={"payout_destination": text}), 422, "payout_destination")
    assert body(await miner.get())["payout_destination"] == ""


async def test_only_the_miner_and_the_operator_see_it(world: World) -> None:
    miner, other, client = await earner(world, 5), await world.miner(), await world.client()
    payout = await ask(miner)
    assert body(await miner.get())["payout_destination"] == "DE00 1234"
    assert body(await world.operator.get(f"/miners/{miner.id}"))["payout_destination"] == "DE00 1234"
    problem(await Party(world.http, other.key).get(miner.base + "/payouts"), 404)
    problem(await Party(world.http, other.key).post(miner.base + "/payouts"), 404)
    problem(await client.get("/v1/admin/payouts"), 403)
    problem(await Party(world.http, miner.key).post(f"/v1/admin/payouts/{payout['payout_id']}/approve"), 403)
    job = await client.submit()
    await other.take(job)
    assert "DE00" not in (await client.get(f"/v1/jobs/{job}")).text
    problem(await world.operator.get("/payouts/payout_unknown"), 404)
    for call in ("approve", "reject"):
        problem(await world.operator.post(f"/payouts/payout_unknown/{call}"), 404)
    problem(await world.operator.post("/payouts/payout_unknown/paid", json={"reference": "x"}), 404)
    problem(await world.operator.post(f"/payouts/{payout['payout_id']}/paid", json={"reference": ""}), 422, "reference")


async def test_pages_and_the_export(world: World) -> None:
    client = await world.client()
    miners = [await earner(world, 3, f"account {n}", client) for n in range(2)]
    made = [(await ask(miner, 1))["payout_id"] for miner in miners for _ in range(3)]
    for payout_id in made[:4]:
        body(await world.operator.post(f"/payouts/{payout_id}/approve"))
    body(await world.operator.post(f"/payouts/{made[0]}/paid", json={"reference": "=x", "note": "+1"}))

    async def listed(**query: Any) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = body(await world.operator.get("/payouts", params=query | ({"cursor": cursor} if cursor else {})))
            found += [p["payout_id"] for p in page["payouts"]]
            cursor = page["next_cursor"]
        return found

    assert await listed(limit=4) == made[::-1]
    assert await listed(status="approved", limit=2) == made[1:4][::-1]
    assert await listed(status="paid") == made[:1]
    assert await listed(status="rejected") == []
    problem(await world.operator.get("/payouts?status=late"), 422, "status")
    page = body(await miners[0].get("/payouts?limit=2"))
    rest = body(await miners[0].get("/payouts", params={"cursor": page["next_cursor"]}))
    assert [p["payout_id"] for p in page["payouts"] + rest["payouts"]] == made[:3][::-1]
    answer = await world.operator.get("/payouts?format=csv&status=paid")
    assert answer.headers["content-disposition"] == 'attachment; filename="payouts.csv"'
    head, row = csv.reader(io.StringIO(answer.text))
    assert head == [
        "payout_id", "miner_id", "miner_name", "amount", "destination", "status", "scheduled", "requested_at",
        "decided_at", "paid_at", "reference", "note",
    ]  # fmt: skip
    assert row[:7] == [made[0], miners[0].id, "my-miner", "1", "account 0", "paid", "False"]
    assert row[10:] == ["'=x", "'+1"]
    approved = list(csv.reader(io.StringIO((await world.operator.get("/payouts?format=csv&status=approved")).text)))
    assert [line[0] for line in approved[1:]] == made[1:4][::-1]
    assert len((await world.operator.get("/payouts?format=csv&limit=2")).text.splitlines()) == 3


async def test_the_schedule_pays_everybody_once_a_period(open_world: OpenWorld) -> None:
    async with open_world(payouts={"schedule": "daily", "minimum": 1}) as world:
        world.clock.now = 20_000 * DAY + 100.0
        await world.later(0)  # the first payday is the next one
        client = await world.client()
        rich, richer = await earner(world, 1, "a", client), await earner(world, 2, "b", client)
        poor, homeless = await earner(world, 0.999999, "c", client), await earner(world, 5, None, client)
        await world.later(DAY - 101.0)
        assert body(await world.operator.get("/payouts"))["payouts"] == []
        await world.later(1)
        made = body(await world.operator.get("/payouts"))["payouts"]
        assert [(p["miner_id"], p["amount"], p["scheduled"], p["status"]) for p in made] == [
            (richer.id, 2, True, "requested"), (rich.id, 1, True, "requested"),
        ]  # fmt: skip
        for miner in (rich, poor, homeless):
            job = await client.submit(price=3, timeout=9 * DAY)
            await miner.beat()
            await miner.take(job)
            body(await miner.complete(job))
        for _ in range(5):
            await world.later(DAY / 6)  # the same day
        assert len(body(await world.operator.get("/payouts"))["payouts"]) == 2
        await world.later(3 * DAY)  # several days late: once
        made = body(await world.operator.get("/payouts"))["payouts"]
        assert [(p["miner_id"], p["amount"]) for p in made[:-2]] == [(poor.id, 3.999999), (rich.id, 3)]
        await world.later(0)
        assert len(body(await world.operator.get("/payouts"))["payouts"]) == 4
        await sound(world)


async def test_the_schedule_carries_on_over_a_restart_and_in_steps(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.exchange.payouts.BATCH", 2)
    settings: dict[str, Any] = {"payouts": {"schedule": "monthly"}}
    async with open_world(**settings) as world:
        world.clock.now = 1_767_139_200.0  # 2025-12-31
        await world.later(0)
        client = await world.client()
        for number in range(5):
            await earner(world, 1, f"account {number}", client)
    async with open_world(**settings) as world:
        await world.later(40 * DAY)
        assert len(body(await world.operator.get("/payouts"))["payouts"]) == 5
    async with open_world(**settings) as world:
        await world.later(60)
        assert len(body(await world.operator.get("/payouts"))["payouts"]) == 5
    async with open_world() as world:  # turned off, and on again: nothing is made up for
        await world.later(0)
        await earner(world, 1)
    async with open_world(payouts={"schedule": "weekly"}) as world:
        await world.later(40 * DAY)
        assert len(body(await world.operator.get("/payouts"))["payouts"]) == 5
        await world.later(7 * DAY)
        assert len(body(await world.operator.get("/payouts"))["payouts"]) == 6
        await sound(world)


async def test_the_operator_makes_one_for_a_miner_that_is_gone(world: World) -> None:
    miner = await earner(world, 3, None)
    body(await world.operator.post(f"/miners/{miner.id}/retire"))
    path = f"/miners/{miner.id}/payouts"
    problem(await world.operator.post(path), 409)
    once = {"Idempotency-Key": "x"}
    made = body(await world.operator.post(path, json={"amount": 1, "destination": "cash"}, headers=once), 201)
    assert (made["amount"], made["destination"], made["scheduled"]) == (1, "cash", False)
    assert body(await world.operator.post(path, json={"amount": 1, "destination": "cash"}, headers=once), 201) == made
    assert body(await world.operator.post(path, json={"destination": "cash"}), 201)["amount"] == 2
    problem(await world.operator.post("/miners/miner_unknown/payouts"), 404)
    assert body(await world.operator.get("/audit"))["entries"][0]["action"] == "payout.create"
    await sound(world)


async def test_the_schedule_pays_a_retired_miner_too(open_world: OpenWorld) -> None:
    async with open_world(payouts={"schedule": "daily"}) as world:
        await world.later(0)
        miner = await earner(world, 1)
        body(await world.operator.post(f"/miners/{miner.id}/retire"))
        await world.later(DAY)
        (payout,) = body(await world.operator.get("/payouts"))["payouts"]
        assert payout["miner_id"] == miner.id
