"""`pithead admin`: what each command asks, and what it prints."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

ADMIN = "/v1/admin"


def test_client_create_is_spelt_for_ever(run: Any, coordinator: Any) -> None:
    coordinator.answers[f"POST {ADMIN}/clients"] = {"client_id": "client_1", "api_key": "key_9", "balance": 100}
    line = "admin --url http://u --key k client create alice --credit 100.000001 --json"
    outcome = run(*line.split())
    assert outcome.exit_code == 0
    document = json.loads(outcome.stdout)
    assert (document["client_id"], document["api_key"]) == ("client_1", "key_9")
    [request] = coordinator.requests
    assert (request.url.host, request.headers["Authorization"]) == ("u", "Bearer k")
    assert request.content == b'{"name":"alice","credit":100.000001}'
    for variant in (
        "admin client --url http://u --key k --json create alice",
        "admin --json --key k client create alice",
    ):
        assert json.loads(run(*variant.split()).stdout) == document
    assert run(*["admin", "client", "create", "alice", "--key", "k"]).stdout.splitlines() == [
        "client id  client_1", "api key    key_9", "balance    100"
    ]  # fmt: skip


ENTRY: dict[str, Any] = {
    "entry": 7, "at": 1.7e9, "cause": "hold", "amount": -0.05, "balance": 99.95, "job_id": "job_1",
    "payout_id": None, "note": "=1+1",
}  # fmt: skip
TRANSFER: dict[str, Any] = {
    "entry": 7, "at": 1.7e9, "cause": "hold", "amount": 0.05, "from_account": "client_1", "from_class": "client",
    "to_account": "client_1", "to_class": "escrow", "job_id": "job_1",
    "payout_id": None, "note": "=1+1",
}  # fmt: skip
CASES: list[tuple[str, str, Any, Any, list[str]]] = [
    ("client list", f"GET {ADMIN}/clients", {"clients": ["client"], "next_cursor": None}, None, ["alice", "99.95"]),
    ("client show client_1", f"GET {ADMIN}/clients/client_1", "client", None, ["alice", "99.95", "0.05"]),
    ("client credit client_1 0.1 --note gift", f"POST {ADMIN}/clients/client_1/credit", "client",
     {"amount": 0.1, "note": "gift"}, ["99.95"]),
    ("client credit client_1 -- -5", f"POST {ADMIN}/clients/client_1/credit", "client",
     {"amount": -5, "note": ""}, ["99.95"]),
    ("client credit-line client_1 2.5", f"PUT {ADMIN}/clients/client_1/credit-line", "client", {"amount": 2.5},
     ["credit line  5"]),
    ("ledger list", f"GET {ADMIN}/ledger", {"entries": [TRANSFER], "next_cursor": None}, None,
     ["client_1 (client)", "client_1 (escrow)", "job_1"]),
    ("ledger list --account client_1 --held", f"GET {ADMIN}/accounts/client_1/ledger",
     {"balance": 0.5, "entries": [ENTRY], "next_cursor": None}, None, ["hold", "99.95", "job_1"]),
    ("payout list --status approved", f"GET {ADMIN}/payouts", {"payouts": ["payout"], "next_cursor": None}, None,
     ["payout_1", "=rig", "2.5", "DE00 1234"]),
    ("payout show payout_1", f"GET {ADMIN}/payouts/payout_1", "payout", None, ["=rig (miner_1)", "approved"]),
    ("payout create miner_1 2.5 --destination there", f"POST {ADMIN}/miners/miner_1/payouts", "payout",
     {"amount": 2.5, "destination": "there"}, ["payout_1"]),
    ("payout reject payout_1 --note why", f"POST {ADMIN}/payouts/payout_1/reject", "payout", {"note": "why"},
     ["payout_1"]),
    ("payout paid payout_1 --reference x7", f"POST {ADMIN}/payouts/payout_1/paid", "payout",
     {"reference": "x7", "note": ""}, ["payout_1"]),
    ("miner list", f"GET {ADMIN}/miners", {"miners": ["miner"], "next_cursor": None}, None, ["rig", "2 × v100", "–"]),
    ("miner show miner_1", f"GET {ADMIN}/miners/miner_1", "miner", None,
     ["rig", "98.0% completed", "50.5", '{"load":0.5}']),
    ("miner approve miner_1", f"POST {ADMIN}/miners/miner_1/approve", "miner", None, ["active"]),
    ("miner suspend miner_1 --reason noise", f"POST {ADMIN}/miners/miner_1/suspend", "miner",
     {"reason": "noise"}, ["rig"]),
    ("miner retire miner_1", f"POST {ADMIN}/miners/miner_1/retire", "miner", None, ["rig"]),
    ("key rotate client_1 --grace 60", f"POST {ADMIN}/accounts/client_1/keys",
     {"account_id": "client_1", "api_key": "key_9"}, {"grace": 60}, ["key_9"]),
    ("key revoke client_1", f"DELETE {ADMIN}/accounts/client_1/keys", {"account_id": "client_1", "revoked": 2}, None,
     ["keys ended  2"]),
    ("enrollment-token create --uses 3", f"POST {ADMIN}/enrollment-tokens",
     {"enrollment_token": "enr_1", "uses": 3, "expires_at": 1.7e9}, {"uses": 3, "expires_in": 604800}, ["enr_1"]),
    ("job list --client client_1", f"GET {ADMIN}/jobs", {"jobs": ["job"], "next_cursor": None}, None, ["job_1", "gpt2"]),
    ("job cancel job_1", f"DELETE {ADMIN}/jobs/job_1", "job", None, ["job_1"]),
    ("audit", f"GET {ADMIN}/audit",
     {"entries": [{"at": 1.7e9, "actor": "operator", "action": "credit", "subject": "client_1", "detail": "5"}],
      "next_cursor": None}, None, ["operator", "credit"]),
    ("overview", f"GET {ADMIN}/overview",
     {"version": "0.1.0", "miners": {"active": 2}, "jobs": {}, "ledger": {"clients": -1.5}, "now": 1.7e9}, None,
     ["2 active", "none", "ledger clients  -1.5"]),
]  # fmt: skip


def filled(answer: Any, shapes: Any) -> Any:
    if isinstance(answer, str):
        return shapes.get(answer, answer)
    if isinstance(answer, dict):
        return {k: [filled(v, shapes) for v in vs] if isinstance(vs, list) else vs for k, vs in answer.items()}
    return answer


@pytest.mark.parametrize(("line", "call", "answer", "body", "shown"), CASES, ids=[case[0] for case in CASES])
def test_each_command(
    keyed: Any, coordinator: Any, shapes: Any, line: str, call: str, answer: Any, body: Any, shown: list[str]
) -> None:
    answer = filled(answer, shapes)
    coordinator.answers[call] = answer
    outcome = keyed("admin", *line.split())
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    for text in shown:
        assert text in outcome.stdout
    assert coordinator.bodies == ([] if body is None else [body])
    words = line.split()
    at = words.index("--") if "--" in words else len(words)
    document = json.loads(keyed("admin", *words[:at], "--json", *words[at:]).stdout)
    assert document.keys() <= answer.keys()
    assert json.loads(keyed("admin", "--json", *words).stdout) == document


def test_limits_that_are_not_named_stay(keyed: Any, coordinator: Any, shapes: Any) -> None:
    coordinator.answers[f"GET {ADMIN}/miners/miner_1"] = shapes["miner"]
    coordinator.answers[f"PUT {ADMIN}/miners/miner_1/limits"] = shapes["miner"]
    limits = ("admin", "miner", "limits", "miner_1")
    assert keyed(*limits, "--job-operations-per-minute", "20").exit_code == 0
    assert keyed(*limits, "--requests-per-minute", "default").exit_code == 0
    outcome = keyed(*limits, "--requests-per-minute", "0", "--job-operations-per-minute", "0")
    assert coordinator.bodies == [
        {"requests_per_minute": 7, "job_operations_per_minute": 20},
        {"requests_per_minute": None, "job_operations_per_minute": None},
        {"requests_per_minute": 0, "job_operations_per_minute": 0},
    ]
    assert "requests per minute        7" in outcome.stdout
    assert "job operations per minute  as set for all" in outcome.stdout


def test_a_table_has_all_of_it_and_runs_no_formula(keyed: Any, coordinator: Any) -> None:
    pages = [{"entries": [TRANSFER], "next_cursor": "7"}, {"entries": [TRANSFER], "next_cursor": None}]
    coordinator.answers[f"GET {ADMIN}/ledger"] = list(pages)
    outcome = keyed("admin", "ledger", "list", "--csv")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    line = "7,1700000000.0,hold,0.05,client_1,client,client_1,escrow,job_1,,'=1+1"
    assert outcome.stdout.splitlines() == [",".join(TRANSFER), line, line]
    coordinator.answers[f"GET {ADMIN}/ledger"] = list(pages)
    assert len(keyed("admin", "ledger", "list", "--csv", "--limit", "1").stdout.splitlines()) == 2
    coordinator.answers[f"GET {ADMIN}/accounts/m_1/ledger"] = {"balance": 1, "entries": [ENTRY], "next_cursor": None}
    [head, row] = keyed("admin", "ledger", "list", "--csv", "--account", "m_1").stdout.splitlines()
    assert (head, row) == (",".join(ENTRY), "7,1700000000.0,hold,-0.05,99.95,job_1,,'=1+1")


def test_an_export_is_a_table_the_oldest_first(keyed: Any, coordinator: Any, shapes: Any) -> None:
    newer = shapes["payout"] | {"payout_id": "payout_2"}
    coordinator.answers[f"GET {ADMIN}/payouts"] = {"payouts": [newer, shapes["payout"]], "next_cursor": None}
    outcome = keyed("admin", "payout", "export")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert coordinator.requests[-1].url.params["status"] == "approved"
    head, first, second = outcome.stdout.splitlines()
    assert head == ",".join(shapes["payout"])
    assert first == "payout_1,miner_1,'=rig,2.5,DE00 1234,approved,False,1700000000.0,1700000000.0,,,"
    assert second.startswith("payout_2,")


def test_several_payouts_are_approved_at_once(keyed: Any, coordinator: Any, shapes: Any) -> None:
    for number in (1, 2):
        answer = shapes["payout"] | {"payout_id": f"payout_{number}"}
        coordinator.answers[f"POST {ADMIN}/payouts/payout_{number}/approve"] = answer
    outcome = keyed("admin", "payout", "approve", "payout_1", "payout_2")
    assert outcome.stdout.splitlines() == ["payout_1  approved", "payout_2  approved"]


def test_held_is_about_somebody(keyed: Any, refused: Any) -> None:
    assert "name it with --account" in refused(keyed("admin", "ledger", "list", "--held"))


FAULT = {"kind": "job", "subject": "job_1", "message": "it was paid 2 times"}
CHECK = {"sound": True, "accounts": 5, "jobs": 2, "payouts": 1, "transfers": 3, "faulty": 0, "faults": []}


def checked(*lines: Any) -> httpx.Response:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return httpx.Response(200, headers={"Content-Type": "application/x-ndjson"}, content=text)


def test_a_check_tells_how_far_it_is_and_what_it_found(keyed: Any, coordinator: Any) -> None:
    steps = [{"part": "jobs", "done": done, "total": 40} for done in range(1, 41)]
    coordinator.answers[f"GET {ADMIN}/ledger/check"] = checked(*steps, CHECK)
    outcome = keyed("admin", "ledger", "check")
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("The ledger is sound: 5 accounts, 2 jobs, 1 payouts and 3 transfers")
    assert outcome.stderr.splitlines() == [f"jobs: {4 * tenth} of 40" for tenth in range(1, 11)]
    quiet = keyed("admin", "ledger", "check", "--json")
    assert (json.loads(quiet.stdout), quiet.stderr) == (CHECK, "")


def test_a_check_that_finds_something_ends_with_1_and_names_it(keyed: Any, coordinator: Any) -> None:
    found = CHECK | {"sound": False, "faulty": 2, "faults": [FAULT]}
    coordinator.answers[f"GET {ADMIN}/ledger/check"] = checked(found)
    outcome = keyed("admin", "ledger", "check")
    assert outcome.exit_code == 1
    assert "job_1" in outcome.stdout
    assert "it was paid 2 times" in outcome.stdout
    assert outcome.stderr == "pithead: the ledger has 2 faults; the first is of job job_1\n"
    scripted = keyed("admin", "ledger", "check", "--json")
    assert (scripted.exit_code, json.loads(scripted.stdout)) == (1, found)
