"""`pithead account` and `pithead miner earnings`: people's own money."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from click.testing import CliRunner, Result
from tests.http.exchange import Api

from pithead.cli.income import _together
from pithead.cli.main import cli
from pithead.wire.ledger import EarningsRow

ENTRY: dict[str, Any] = {
    "entry": 7, "at": 1.7e9, "cause": "refund", "amount": 0.05, "balance": 100, "job_id": "job_1",
    "payout_id": None, "note": "",
}  # fmt: skip


def test_an_account_shows_its_balance(keyed: Any, coordinator: Any, shapes: Any) -> None:
    coordinator.answers["GET /v1/clients/me"] = shapes["client"]
    outcome = keyed("account", "show")
    assert outcome.exit_code == 0
    for text in ("client_1", "99.95", "credit line  5", "0.05"):
        assert text in outcome.stdout
    assert json.loads(keyed("account", "show", "--json").stdout) == shapes["client"]


def test_an_account_shows_its_postings(keyed: Any, coordinator: Any) -> None:
    coordinator.answers["GET /v1/clients/me/ledger"] = {"balance": 100, "entries": [ENTRY], "next_cursor": None}
    outcome = keyed("account", "ledger", "--held")
    assert outcome.exit_code == 0
    for text in ("refund", "job_1", "100"):
        assert text in outcome.stdout
    assert dict(coordinator.requests[-1].url.params) == {"account": "held", "limit": "50"}
    assert json.loads(keyed("account", "ledger", "--json").stdout) == {"entries": [ENTRY]}
    [head, row] = keyed("account", "ledger", "--csv").stdout.splitlines()
    assert (head, row) == (",".join(ENTRY), "7,1700000000.0,refund,0.05,100,job_1,,")
    assert dict(coordinator.requests[-1].url.params) == {"account": "balance", "limit": "200"}


async def test_a_miner_sees_what_it_earned(api: Api) -> None:
    client, miner = await api.client(), await api.miner()
    job = await client.submit(price=0.25)
    await miner.take(job)
    assert (await miner.complete(job)).status_code == 200
    who = {"PITHEAD_MINER_ID": miner.id, "PITHEAD_KEY": miner.key, "PITHEAD_URL": str(api.http.base_url)}

    def earnings(*options: str) -> str:
        outcome = CliRunner().invoke(cli, ["miner", "earnings", *options], env=who)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        return outcome.stdout

    assert "gpt2" in earnings("--by", "model")
    assert earnings("--by", "client", "--csv").splitlines() == ["client,jobs,earned", f"{client.id},1,0.25"]
    found = json.loads(earnings("--json"))
    assert (found["jobs"], found["earned"], len(found["rows"])) == (1, 0.25, 1)
    today = found["rows"][0]["key"]
    assert json.loads(earnings("--from", today, "--to", today, "--json"))["jobs"] == 1
    assert json.loads(earnings("--to", "2020-01-01", "--json"))["rows"] == []
    year = today[:4]
    assert earnings("--year", year, "--by", "month", "--csv").splitlines() == [
        "month,jobs,earned",
        f"{today[:7]},1,0.25",
    ]
    assert json.loads(earnings("--by", "year", "--json"))["rows"] == [{"key": year, "jobs": 1, "earned": 0.25}]
    assert json.loads(earnings("--year", "2020", "--json"))["rows"] == []
    both = CliRunner().invoke(cli, ["miner", "earnings", "--year", year, "--from", today], env=who)
    assert (both.exit_code, both.stderr.count("\n")) == (2, 1)


def test_days_are_added_up_by_month() -> None:
    days = [("2025-12-31", 1), ("2026-01-01", 2), ("2026-01-31", 4), ("2026-02-01", 8)]
    rows = [EarningsRow(key=day, jobs=number, earned=Decimal(number)) for day, number in days]
    assert [(row.key, row.jobs, row.earned) for row in _together(rows, 7)] == [
        ("2025-12", 1, Decimal(1)), ("2026-01", 6, Decimal(6)), ("2026-02", 8, Decimal(8)),
    ]  # fmt: skip
    assert [(row.key, row.earned) for row in _together(rows, 4)] == [("2025", Decimal(1)), ("2026", Decimal(14))]


async def test_a_miner_asks_to_be_paid_out(api: Api) -> None:
    client, miner = await api.client(), await api.miner()
    job = await client.submit(price=2.5)
    await miner.take(job)
    assert (await miner.complete(job)).status_code == 200
    who = {"PITHEAD_MINER_ID": miner.id, "PITHEAD_KEY": miner.key, "PITHEAD_URL": str(api.http.base_url)}

    def payout(*words: str) -> Result:
        return CliRunner().invoke(cli, ["miner", "payout", *words], env=who)

    refused = payout("request")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "set one first ('pithead miner payout destination')" in refused.stderr
    assert "DE00 1234" in payout("destination", "DE00 1234").stdout
    made = json.loads(payout("request", "1", "--idempotency-key", "monday", "--json").stdout)
    again = json.loads(payout("request", "1", "--idempotency-key", "monday", "--json").stdout)
    assert (made["amount"], made["destination"], again) == (1, "DE00 1234", made)
    assert "1.5" in payout("request").stdout
    shown = payout("list").stdout
    assert made["payout_id"] in shown
    assert shown.splitlines()[-1] == "To be asked for: 0"
    page = json.loads(payout("list", "--limit", "1", "--json").stdout)
    assert (page["balance"], [one["amount"] for one in page["payouts"]]) == (0, [1.5])
