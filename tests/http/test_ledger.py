"""Statements, earnings, credit lines, and the proof of the whole ledger, over HTTP."""

import csv
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any

import msgspec
from tests.http.exchange import JOB, Party, World, body, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
DAY = 86_400


def rows_of(answer: Any) -> list[list[str]]:
    """The lines of a table."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.text)))


async def test_a_credit_line_lets_the_balance_go_below_0_and_no_further(world: World) -> None:
    client = await world.client(1)
    path = f"/clients/{client.id}/credit-line"
    problem(await client.post("/v1/jobs", json=JOB | {"price": 1.5}), 402)
    view = body(await world.operator.put(path, json={"amount": 0.5}))
    assert (view["balance"], view["credit_line"]) == (1, 0.5)
    job = await client.submit(price=1.5)
    assert await client.balance() == (-0.5, 1.5)
    refused = problem(await client.post("/v1/jobs", json=JOB | {"price": 0.000001}), 402)
    assert "credit line of 0.5" in refused["detail"]
    body(await client.delete(f"/v1/jobs/{job}"))
    assert await client.balance() == (1, 0)


async def test_a_credit_line_that_is_taken_back_stops_the_next_job_only(world: World) -> None:
    client, miner = await world.client(0), await world.miner()
    path = f"/clients/{client.id}/credit-line"
    body(await world.operator.put(path, json={"amount": 5}))
    job = await client.submit(price=5)
    body(await world.operator.put(path, json={"amount": 0}))
    await miner.take(job)
    assert body(await miner.complete(job))["earned"] == 5
    problem(await client.post("/v1/jobs", json=JOB | {"price": 0.1}), 402)
    # A client that owes is credited what it pays, also where that is not the whole of it; nothing can be taken from it.
    credit = f"/clients/{client.id}/credit"
    assert body(await world.operator.post(credit, json={"amount": 2}))["balance"] == -3
    problem(await world.operator.post(credit, json={"amount": -1}), 409)
    problem(await world.operator.put("/clients/client_unknown/credit-line", json={"amount": 1}), 404)
    problem(await world.operator.put(path, json={"amount": -1}), 422, "amount")
    log = body(await world.operator.get("/audit?limit=200"))["entries"]
    assert [e["detail"] for e in log if e["action"] == "client.credit-line"] == ["5 -> 0", "0 -> 5"]


async def test_a_client_reads_every_posting_with_the_balance_after_it(world: World) -> None:
    client, miner = await world.client(10), await world.miner()
    done, undone = await client.submit(price=4), await client.submit(price=1)
    await miner.take(done)
    body(await miner.complete(done))
    body(await client.delete(f"/v1/jobs/{undone}"))
    body(await world.operator.post(f"/clients/{client.id}/credit", json={"amount": 0.5, "note": "May"}))
    page = body(await client.get("/v1/clients/me/ledger"))
    assert (page["balance"], page["next_cursor"]) == (6.5, None)
    told = [(e["cause"], e["amount"], e["balance"], e["job_id"], e["note"]) for e in page["entries"]]
    assert told == [
        ("credit", 0.5, 6.5, None, "May"),
        ("refund", 1, 6, undone, ""),
        ("hold", -1, 5, undone, ""),
        ("hold", -4, 6, done, ""),
        ("credit", 10, 10, None, "opening credit"),
    ]
    held = body(await client.get("/v1/clients/me/ledger?account=held"))
    assert [(e["cause"], e["amount"], e["balance"]) for e in held["entries"]] == [
        ("refund", -1, 0), ("payment", -4, 1), ("hold", 1, 5), ("hold", 4, 4),
    ]  # fmt: skip
    assert body(await world.operator.get(f"/accounts/{client.id}/ledger")) == page
    assert body(await world.operator.get(f"/accounts/{client.id}/ledger?account=held")) == held
    earned = body(await world.operator.get(f"/accounts/{miner.id}/ledger"))
    assert [(e["cause"], e["amount"], e["balance"]) for e in earned["entries"]] == [("payment", 4, 4)]
    issued = body(await world.operator.get("/accounts/issued/ledger"))
    assert (issued["balance"], [e["amount"] for e in issued["entries"]]) == (-10.5, [-0.5, -10])


async def test_a_statement_is_read_in_pages_while_it_grows(world: World) -> None:
    client = await world.client(10)
    for _ in range(7):
        await client.submit(price=0.1)
    whole = body(await client.get("/v1/clients/me/ledger"))["entries"]
    found: list[Any] = []
    cursor = None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = body(await client.get("/v1/clients/me/ledger", params=query))
        found += page["entries"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await client.submit(price=0.1)  # what comes meanwhile is on no later page
    assert found == whole
    for wrong in ("1", "x_1", "1_", "0_1", "1_x", "9" * 19 + "_1", "-1_1"):
        problem(await client.get("/v1/clients/me/ledger", params={"cursor": wrong}), 422, "cursor")
    problem(await client.get("/v1/clients/me/ledger?account=miner"), 422, "account")


async def test_nobody_reads_what_is_not_his(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    problem(await Party(world.http, other.key).get(miner.base + "/earnings"), 404)
    problem(await Party(world.http, client.key).get(miner.base + "/earnings"), 404)
    problem(await client.get("/v1/admin/ledger"), 403)
    problem(await client.get("/v1/admin/ledger/check"), 403)
    problem(await Party(world.http, miner.key).get("/v1/clients/me/ledger"), 403)
    for unknown in ("client_unknown", "operator"):
        problem(await world.operator.get(f"/accounts/{unknown}/ledger"), 404)
    problem(await world.operator.get(f"/accounts/{miner.id}/ledger?account=held"), 404)
    # A table refuses before its first line.
    problem(await world.operator.get("/accounts/client_unknown/ledger?format=csv"), 404)


async def test_the_whole_ledger_names_both_sides(open_world: OpenWorld) -> None:
    async with open_world(fee_basis_points=1000) as world:
        client, miner = await world.client(10), await world.miner()
        job = await client.submit(price=2)
        await miner.take(job)
        body(await miner.complete(job))
        page = body(await world.operator.get("/ledger"))
        told = [
            (e["cause"], e["amount"], e["from_account"], e["from_class"], e["to_account"], e["to_class"], e["job_id"])
            for e in page["entries"]
        ]
        assert told == [
            ("fee", 0.2, client.id, "escrow", "operator", "fees", job),
            ("payment", 1.8, client.id, "escrow", miner.id, "miner", job),
            ("hold", 2, client.id, "client", client.id, "escrow", job),
            ("credit", 10, "operator", "issued", client.id, "client", None),
        ]
        first = body(await world.operator.get("/ledger?limit=3"))
        rest = body(await world.operator.get("/ledger", params={"cursor": first["next_cursor"]}))
        assert first["entries"] + rest["entries"] == page["entries"]
        assert rest["next_cursor"] is None
        table = rows_of(await world.operator.get("/ledger?format=csv"))
        assert table[0] == list(page["entries"][0])
        assert [(row[2], Decimal(row[3])) for row in table[1:]] == [(t[0], Decimal(str(t[1]))) for t in told]
        assert len(rows_of(await world.operator.get("/ledger?format=csv&limit=2"))) == 3


async def test_earnings_add_up_by_day_model_and_client(world: World) -> None:
    first, second, miner = await world.client(), await world.client(), await world.miner(price_per_hour=0)
    world.clock.now = 20_000 * DAY + DAY - 2.0  # two seconds before midnight, UTC

    async def earn(client: Any, model: str, price: float) -> None:
        job = await client.submit(model=model, price=price, timeout=9 * DAY)
        await miner.take(job)
        body(await miner.complete(job))

    await earn(first, "gpt2", 0.5)
    world.clock.now += 1.75
    await earn(second, "bert", 0.25)
    world.clock.now += 0.25
    await miner.beat()
    await earn(first, "gpt2", 0.125)
    await earn(first, "free", 0)  # paid nothing, so it is in no row

    async def rows(**query: Any) -> list[tuple[str, int, float]]:
        found = body(await miner.get("/earnings", params=query))
        assert found["by"] == query.get("by", "day")
        assert (found["jobs"], found["earned"]) == (
            sum(r["jobs"] for r in found["rows"]), sum(r["earned"] for r in found["rows"]),
        )  # fmt: skip
        return [(row["key"], row["jobs"], row["earned"]) for row in found["rows"]]

    assert await rows() == [("2024-10-04", 2, 0.75), ("2024-10-05", 1, 0.125)]
    assert await rows(by="model") == [("bert", 1, 0.25), ("gpt2", 2, 0.625)]
    assert await rows(by="client") == sorted([(first.id, 2, 0.625), (second.id, 1, 0.25)])
    midnight = 20_001 * DAY
    assert await rows(**{"from": midnight}) == [("2024-10-05", 1, 0.125)]
    assert await rows(to=midnight, by="model") == [("bert", 1, 0.25), ("gpt2", 1, 0.5)]
    assert await rows(**{"from": midnight + DAY}) == []
    problem(await miner.get("/earnings?by=hour"), 422, "by")
    problem(await miner.get("/earnings?from=-1&to=x"), 422, "from", "to")
    assert rows_of(await miner.get("/earnings?by=model&format=csv")) == [
        ["model", "jobs", "earned"], ["bert", "1", "0.25"], ["gpt2", "2", "0.625"],
    ]  # fmt: skip


async def test_a_table_is_asked_for_by_accept_too_and_runs_no_formula(world: World) -> None:
    client = await world.client(1)
    for note in ('=HYPERLINK("http://x")', "+1", "-1", "@x", 'a, "b"'):
        body(await world.operator.post(f"/clients/{client.id}/credit", json={"amount": -0.1, "note": note}))
    table = rows_of(await client.get("/v1/clients/me/ledger", headers={"Accept": "text/csv"}))
    assert table[0] == ["entry", "at", "cause", "amount", "balance", "job_id", "payout_id", "note"]
    assert [row[7] for row in table[1:-1]] == ['a, "b"', "'@x", "'-1", "'+1", '\'=HYPERLINK("http://x")']
    # Amounts are numbers, negative ones too.
    assert [row[3] for row in table[1:-1]] == ["-0.1"] * 5
    for accept in ("application/json, text/csv", "*/*", "text/html"):
        assert body(await client.get("/v1/clients/me/ledger", headers={"Accept": accept}))["entries"]
    csv_but_json = await client.get("/v1/clients/me/ledger?format=json", headers={"Accept": "text/csv"})
    assert body(csv_but_json)["entries"]
    some = rows_of(await client.get("/v1/clients/me/ledger?format=csv&limit=2"))
    assert len(some) == 3
    nobody = await world.register()
    assert rows_of(await nobody.get("/earnings?format=csv")) == [["day", "jobs", "earned"]]


async def test_the_check_says_what_it_looked_at(world: World) -> None:
    client, miner = await world.client(10), await world.miner()
    job = await client.submit(price=2)
    await client.submit(price=0)
    await miner.take(job)
    body(await miner.complete(job))
    found = body(await world.operator.get("/ledger/check"))
    assert found == {"sound": True, "accounts": 6, "jobs": 2, "payouts": 0, "transfers": 3, "faulty": 0, "faults": []}
    answer = await world.operator.get("/ledger/check", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    *steps, last = [msgspec.json.decode(line) for line in answer.content.splitlines()]
    assert last == found
    assert steps == [
        {"part": "accounts", "done": 6, "total": 6},
        {"part": "jobs", "done": 2, "total": 2},
        {"part": "postings", "done": 1, "total": 1},
    ]


async def test_the_check_names_what_is_wrong(world: World) -> None:
    client = await world.client(10)
    job = await client.submit(price=2)
    world.tamper(f"UPDATE jobs SET price = 3000000 WHERE id = '{job}'")
    found = body(await world.operator.get("/ledger/check"))
    assert (found["sound"], found["faulty"]) == (False, 2)
    assert [(f["kind"], f["subject"]) for f in found["faults"]] == [("account", f"{client.id} (escrow)"), ("job", job)]
    assert "its price is 3, and 2 was set aside" in found["faults"][1]["message"]
