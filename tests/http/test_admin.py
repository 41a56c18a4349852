"""The operator's side."""

from typing import Any

import pytest
from tests.http.exchange import Party, World, body, problem


async def audit(world: World) -> list[tuple[str, str]]:
    """What the audit log says was done, to what, the newest first."""
    return [(e["action"], e["subject"]) for e in body(await world.operator.get("/audit?limit=200"))["entries"]]


async def test_clients(world: World) -> None:
    made = body(await world.operator.post("/clients", json={"name": "lab", "credit": 1.5}), 201)
    assert made.keys() == {"client_id", "api_key", "balance"}
    assert (made["client_id"][:7], made["api_key"][:4], made["balance"]) == ("client_", "key_", 1.5)
    shown = body(await world.operator.get(f"/clients/{made['client_id']}"))
    assert shown.items() >= {"name": "lab", "balance": 1.5, "held": 0}.items()
    assert body(await Party(world.http, made["api_key"]).get("/v1/clients/me")) == shown
    others = [(await world.client()).id for _ in range(3)]
    first = body(await world.operator.get("/clients?limit=2"))
    rest = body(await world.operator.get("/clients", params={"limit": 2, "cursor": first["next_cursor"]}))
    assert [c["client_id"] for c in first["clients"] + rest["clients"]] == [*others[::-1], made["client_id"]]
    assert rest["next_cursor"] is None
    problem(await world.operator.get("/clients/client_unknown"), 404)
    problem(await world.operator.post("/clients", json={"name": "", "credit": -1}), 422, "name", "credit")


async def test_credit(world: World) -> None:
    client = await world.client(10)
    path = f"/clients/{client.id}/credit"
    await client.submit(price=4)
    assert body(await world.operator.post(path, json={"amount": 2.5, "note": "May"}))["balance"] == 8.5
    problem(await world.operator.post(path, json={"amount": -8.500001}), 409)
    answer = body(await world.operator.post(path, json={"amount": -8.5}))
    assert (answer["balance"], answer["held"]) == (0, 4)
    problem(await world.operator.post("/clients/client_unknown/credit", json={"amount": 1}), 404)
    problem(await world.operator.post(path, json={"amount": "1", "notes": ""}), 422, "amount", "notes")
    assert (await world.ledger()).items() >= {"client": 0, "escrow": 4, "issued": -4}.items()


async def test_miners(world: World) -> None:
    active, pending, draining = await world.miner(), await world.register(), await world.miner()
    body(await draining.put(json={"draining": True}))

    async def listed(**query: Any) -> list[str]:
        page = body(await world.operator.get("/miners", params=query))
        return [miner["miner_id"] for miner in page["miners"]]

    assert await listed() == [draining.id, pending.id, active.id]
    for status, miner in (("active", active), ("pending", pending), ("draining", draining)):
        assert await listed(status=status) == [miner.id]
    assert await listed(status="retired") == []
    problem(await world.operator.get("/miners?status=sleeping"), 422, "status")
    await world.later(180)
    assert await listed(status="offline", limit=1) == [draining.id]
    assert await listed(status="pending") == [pending.id]


async def test_inspecting_a_miner(world: World) -> None:
    client, miner = await world.client(), await world.miner(models=["gpt2"])
    await miner.take(await client.submit())
    body(await miner.post("/heartbeat", json={"telemetry": {"temperature": 61.5}}))
    body(await miner.post("/heartbeat"))  # without telemetry: the last one stays
    shown = body(await world.operator.get(f"/miners/{miner.id}"))
    assert shown == body(await miner.get()) | {
        "jobs_assigned": 1, "telemetry": {"temperature": 61.5}, "stats": await miner.stats(),
        "speeds": {},
    }  # fmt: skip
    problem(await world.operator.get("/miners/miner_unknown"), 404)


@pytest.mark.parametrize("call", ["approve", "suspend", "retire"])
async def test_decisions_about_nobody(world: World, call: str) -> None:
    problem(await world.operator.post(f"/miners/miner_unknown/{call}"), 404)


async def test_suspending_says_why(world: World) -> None:
    miner = await world.miner()
    body(await world.operator.post(f"/miners/{miner.id}/suspend", json={"reason": "too hot"}))
    (entry,) = body(await world.operator.get("/audit"))["entries"]
    assert entry == {
        "at": world.clock.now, "actor": "operator", "action": "miner.suspend", "subject": miner.id, "detail": "too hot",
    }  # fmt: skip
    problem(await world.operator.post(f"/miners/{miner.id}/suspend", json={"why": "x"}), 422, "why")


async def test_limits(world: World) -> None:
    miner = await world.miner()
    path = f"/miners/{miner.id}/limits"
    given = {"requests_per_minute": 1, "job_operations_per_minute": None}
    assert body(await world.operator.put(path, json=given))["limits"] == given
    body(await miner.get("/stats"))
    problem(await miner.get("/stats"), 429)
    body(await world.operator.put(path, json={}))
    assert body(await miner.get())["limits"] == {"requests_per_minute": None, "job_operations_per_minute": None}
    wrong = {"requests_per_minute": -1, "job_operations_per_minute": 1_000_001}
    problem(await world.operator.put(path, json=wrong), 422, *wrong)
    problem(await world.operator.put("/miners/miner_unknown/limits", json={}), 404)


async def test_rotating_a_key_with_grace(world: World) -> None:
    miner, client = await world.miner(), await world.client()
    for party, path in ((miner, "/stats"), (client, "/v1/clients/me")):
        made = body(await world.operator.post(f"/accounts/{party.id}/keys", json={"grace": 60}), 201)
        assert made["account_id"] == party.id
        new = Party(world.http, made["api_key"], party.base)
        assert body(await party.get(path)) == body(await new.get(path))
        await world.later(59)
        body(await party.get(path))
        await world.later(1)
        problem(await party.get(path), 401)
        body(await new.get(path))


async def test_rotating_a_key_at_once(world: World) -> None:
    miner = await world.miner()
    body(await miner.get())  # the key is known by now, and must be forgotten
    made = body(await world.operator.post(f"/accounts/{miner.id}/keys"), 201)
    problem(await miner.get(), 401)
    body(await Party(world.http, made["api_key"], miner.base).get())
    problem(await world.operator.post("/accounts/miner_unknown/keys"), 404)
    problem(await world.operator.post(f"/accounts/{miner.id}/keys", json={"grace": -1}), 422, "grace")


async def test_rotating_the_operators_own_key(world: World) -> None:
    made = body(await world.operator.post("/accounts/operator/keys", json={"grace": 10}), 201)
    body(await world.operator.get("/overview"))
    await world.later(10)
    problem(await world.operator.get("/overview"), 401)
    body(await Party(world.http, made["api_key"]).get("/v1/admin/overview"))
    problem(await Party(world.http, made["api_key"]).delete("/v1/admin/accounts/operator/keys"), 409)


async def test_revoking_takes_effect_at_once(world: World) -> None:
    miner, client = await world.miner(), await world.client()
    body(await world.operator.post(f"/accounts/{miner.id}/keys", json={"grace": 600}), 201)
    body(await miner.get())
    body(await client.get("/v1/clients/me"))
    ended = body(await world.operator.delete(f"/accounts/{miner.id}/keys"))
    assert ended == {"account_id": miner.id, "revoked": 2}
    problem(await miner.get(), 401)
    body(await world.operator.delete(f"/accounts/{client.id}/keys"))
    problem(await client.get("/v1/clients/me"), 401)
    # The account lives on under a new key.
    made = body(await world.operator.post(f"/accounts/{miner.id}/keys"), 201)
    body(await Party(world.http, made["api_key"], miner.base).get())


async def test_cancelling_anybodys_job(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    assert body(await world.operator.delete(f"/jobs/{job}"))["status"] == "cancelled"
    assert (await miner.beat())["stop"] == [{"job_id": job, "reason": "cancelled"}]
    assert await client.balance() == (100, 0)
    problem(await world.operator.delete("/jobs/job_unknown"), 404)
    done = await client.submit()
    await miner.take(done)
    body(await miner.complete(done))
    problem(await world.operator.delete(f"/jobs/{done}"), 409)


async def test_the_audit_log_has_every_decision(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    operator = world.operator
    body(await operator.post(f"/clients/{client.id}/credit", json={"amount": 1}))
    body(await operator.post(f"/miners/{miner.id}/suspend"))
    body(await operator.post(f"/miners/{miner.id}/approve"))
    body(await operator.put(f"/miners/{miner.id}/limits", json={}))
    body(await operator.post(f"/accounts/{client.id}/keys", json={"grace": 5}), 201)
    body(await operator.delete(f"/accounts/{client.id}/keys"))
    body(await operator.post("/enrollment-tokens"), 201)
    body(await operator.delete(f"/jobs/{job}"))
    for _ in range(2):  # the second time there is nothing left to decide
        body(await operator.post(f"/miners/{miner.id}/retire"))
    expected = [
        ("client.create", client.id), ("client.credit", client.id), ("miner.suspend", miner.id),
        ("miner.approve", miner.id), ("miner.limits", miner.id), ("key.rotate", client.id), ("key.revoke", client.id),
        ("enrollment-token.create", "operator"), ("job.cancel", job), ("miner.retire", miner.id),
    ]  # fmt: skip
    assert await audit(world) == expected[::-1]
    # What was refused was not done.
    problem(await operator.post(f"/miners/{miner.id}/suspend"), 409)
    assert len(await audit(world)) == len(expected)
    first = body(await operator.get("/audit?limit=4"))
    second = body(await operator.get("/audit", params={"limit": 200, "cursor": first["next_cursor"]}))
    assert [e["action"] for e in first["entries"] + second["entries"]] == [action for action, _ in expected[::-1]]


async def test_no_secret_is_shown_twice(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    token = body(await world.operator.post("/enrollment-tokens"), 201)["enrollment_token"]
    for path in ("/audit", "/miners", f"/miners/{miner.id}", "/clients", f"/clients/{client.id}", "/overview"):
        text = (await world.operator.get(path)).text
        assert not [secret for secret in (client.key, miner.key, token, world.operator.key) if secret in text]
    stored = world.stored()
    assert not [s for s in (client.key, miner.key, token, world.operator.key) if s.encode() in stored]


async def test_the_overview(world: World) -> None:
    client, miner = await world.client(10), await world.miner()
    await world.register()
    jobs = [await client.submit(price=1) for _ in range(4)]
    for job in jobs[:2]:
        await miner.take(job)
    body(await miner.complete(jobs[0]))
    overview = body(await world.operator.get("/overview"))
    assert overview["miners"] == {"active": 1, "pending": 1}
    assert overview["jobs"] == {"queued": 2, "assigned": 1}
    assert overview["now"] == world.clock.now
    assert overview["version"]
    assert await world.ledger() == {"client": 6, "escrow": 3, "fees": 0, "issued": -10, "miner": 1, "payouts": 0}


async def test_health_needs_no_key(world: World) -> None:
    answer = await world.http.get("/healthz")
    assert body(answer) == {"status": "ok"}
    head = await world.http.head("/healthz")
    assert head.status_code == 200
