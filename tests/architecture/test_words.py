"""Lists that stand in two places, since one room must not know the other: here they are held together."""

import re
from importlib.resources import files
from typing import Any, get_args

import pytest
from tests.architecture.source import modules

from pithead.client import watch
from pithead.core import money, payouts
from pithead.core.jobs import FINISHED, State
from pithead.core.leases import FINAL_FAILURES
from pithead.core.miners import Admission, Status
from pithead.exchange import events
from pithead.exchange import ledger as exchange_ledger
from pithead.exchange.ports import Grouping, OwnerKind
from pithead.exchange.rules import Enrollment
from pithead.http.app import JOB_OPERATIONS
from pithead.settings import NOT_SETTINGS, options
from pithead.web.actions import ACTIONS
from pithead.wire import ledger, miners
from pithead.wire import payouts as wire_payouts
from pithead.wire.endpoints import ENDPOINTS, Audience

#: How an attempt ends, as `core.jobs.Attempt` documents it.
OUTCOMES = ("completed", "failed", "lapsed", "released", "cancelled", "expired")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (list(State), get_args(miners.JobStatus)),
        (list(Status), get_args(miners.MinerStatus)),
        (list(payouts.State), get_args(wire_payouts.PayoutStatus)),
        (get_args(money.Cause), get_args(ledger.Cause)),
        (get_args(Grouping), get_args(ledger.EarningsBy)),
        (get_args(OwnerKind), tuple(kind for kind in get_args(Audience) if kind not in ("public", "account"))),
        (sorted(FINISHED), sorted(watch.TERMINAL)),
    ],
    ids=["jobs", "miners", "payouts", "causes", "earnings", "keys", "finished"],
)
def test_the_wire_says_what_the_core_says(ours: Any, theirs: Any) -> None:
    """The same words in the same order."""
    assert [str(word) for word in ours] == list(theirs)


def test_failures_that_end_a_job_are_ones_that_a_miner_can_report() -> None:
    assert set(get_args(miners.FailureKind)) >= FINAL_FAILURES


def test_the_check_of_the_ledger_says_what_the_wire_lets_it_say() -> None:
    assert get_args(exchange_ledger.Part) == get_args(ledger.CheckProgress.__annotations__["part"])


def test_filters_offer_every_state() -> None:
    choices = {(e.name, query.name): query.choices for e in ENDPOINTS for query in e.query if query.choices}
    for call in ("list_jobs", "list_all_jobs"):
        assert choices[call, "status"] == get_args(miners.JobStatus)
    assert choices["list_miners", "status"] == get_args(miners.MinerStatus)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("column", "words"),
    [("state", list(State)), ("admission", list(Admission)), ("outcome", OUTCOMES), ("kind", get_args(OwnerKind))],
    ids=["state", "admission", "outcome", "keys"],
)
def test_the_database_takes_the_states_that_the_core_has(dialect: str, column: str, words: list[str]) -> None:
    text = (files("pithead.store") / "migrations" / dialect / "0001_first.sql").read_text(encoding="utf-8")
    checks = re.findall(rf"CHECK \({column} IN \(([^)]*)\)", text)
    assert [str(word) for word in words] in [re.findall(r"'(\w+)'", check) for check in checks]


def test_job_operations_are_the_same_for_the_limits_and_in_the_document() -> None:
    counted = {e.path.rpartition("/")[2] for e in ENDPOINTS if e.job_operation}
    assert {path.removeprefix("/") for path in JOB_OPERATIONS} == counted
    # Those of the contract: an upload and a progress report count as a request only.
    assert counted == {"accept", "complete", "fail", "release"}


def test_enrolment_is_set_to_what_the_exchange_knows() -> None:
    (option,) = [option for option in options() if option.name == "enrollment"]
    assert get_args(get_args(option.type)[0]) == get_args(Enrollment)


def test_every_event_takes_effect_somewhere() -> None:
    source = (files("pithead.exchange") / "coordinator.py").read_text(encoding="utf-8")
    source += (files("pithead.exchange") / "presence.py").read_text(encoding="utf-8")
    source += (files("pithead.exchange") / "tally.py").read_text(encoding="utf-8")
    source += (files("pithead.exchange") / "live.py").read_text(encoding="utf-8")
    for event in get_args(events.Event):
        assert f"case {event.__name__}(" in source or f"isinstance(event, {event.__name__}" in source, event


def test_every_variable_that_is_read_is_a_setting_or_known_as_none() -> None:
    """Else the coordinator would warn of one that another command of ours asks for."""
    known = {option.variable for option in options()} | {f"PITHEAD_{name}" for name in NOT_SETTINGS}
    named = {name for tree in modules() for name in re.findall(r"PITHEAD_[A-Z][A-Z_]*[A-Z]", _text(tree))}
    assert named <= known


def _text(module: str) -> str:
    return files("pithead").joinpath(module).read_text(encoding="utf-8")


#: What the API can change and the dashboard cannot, and why.
NOT_BY_HAND = {
    "register_miner": "the agent registers its machine",
    "heartbeat": "the agent's", "accept_job": "the agent's", "complete_job": "the agent's", "fail_job": "the agent's",
    "release_job": "the agent's", "report_progress": "the agent's", "upload_result": "the agent's",
    "upload_file": "a file is hashed before it is sent: the command line and the SDK do",
    "submit_job": "a page of its own", "submit_batch": "a file's worth of jobs is for the command line",
}  # fmt: skip


def test_whatever_the_api_can_change_can_be_done_on_the_dashboard() -> None:
    """Else add it to `web.actions`, or say above why not."""
    changing = {endpoint.name for endpoint in ENDPOINTS if endpoint.method != "GET"}
    assert changing == ACTIONS.keys() | NOT_BY_HAND.keys()
