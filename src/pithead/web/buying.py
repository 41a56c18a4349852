"""The pages of a client: submitting a job from a form, and what was spent."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from pithead.core.money import escrow_of, units
from pithead.exchange import jobs, ledger, pages
from pithead.exchange.ports import Tx
from pithead.http import shapes
from pithead.http.api import perform
from pithead.http.problems import HttpProblem
from pithead.web import files
from pithead.web.forms import fields, typed
from pithead.web.pictures import columns
from pithead.web.visits import Done, Visit
from pithead.wire.jobs import SubmitJob

DAYS: Final = 30
#: Fields that few need; they stand folded below the others.
_FOLDED: Final = (
    "priority",
    "gpu_count",
    "estimated_time",
    "timeout",
    "attempt_timeout",
    "max_attempts",
    "require_result",
)
#: Models that miners name, offered while one types.
_MODELS: Final = 50


async def form(visit: Visit) -> Response:
    """An empty form for a job, or one with the files that the address names."""
    return await _form(visit, files.asked_for(visit), None)


async def _form(visit: Visit, given: Mapping[str, str], problem: HttpProblem | None) -> Response:
    client_id = visit.caller.id

    def read(tx: Tx) -> dict[str, Any]:
        some = tx.miners_page(None, 200, "active")
        return {
            "account": shapes.client_view(tx, jobs.client(tx, client_id)),
            "models": sorted({model for miner in some for model in miner.models or ()})[:_MODELS],
            "gpu_types": sorted({miner.gpu_type for miner in some})[:_MODELS],
        }

    asked = fields(SubmitJob, given, frozenset({"input"}))
    values = {
        "fields": [field for field in asked if field.name not in _FOLDED],
        "folded": [field for field in asked if field.name in _FOLDED],
        "given": {name: given.get(name, "") for name in ("prompt", "max_tokens", "json")},
        "faults": {fault.field: fault.message for fault in (problem.errors or [])} if problem else {},
        "problem": problem,
        "once": given.get("once") or secrets.token_urlsafe(24),
    } | await files.for_job(visit, given, (problem.errors or []) if problem else [])
    status = problem.status if problem else 200
    return visit.page("submit.html", await visit.exchange.read(read) | values, status=status)


async def submit(visit: Visit) -> Response:
    """Queue the job; on to its page."""
    given = await visit.form()
    try:
        content = typed(fields(SubmitJob, given, frozenset({"input"})), given) | {"input": _input(given)}
        if named := files.named(given):
            content["input_files"] = named
        answer = await perform(
            visit.web.services,
            "submit_job",
            visit.caller,
            path={},
            body=msgspec.json.encode(content),
            once_key=given.get("once") or None,
        )
    except HttpProblem as problem:
        if problem.status not in (402, 409, 422):
            raise
        return await _form(visit, given, problem)
    said = "The job is queued, and its price is set aside."
    visit.tell(Done(f"{said} {answer.warning[0].upper()}{answer.warning[1:]}." if answer.warning else said))
    return visit.go(f"/dashboard/jobs/{answer.job_id}")


def _input(given: Mapping[str, str]) -> Any:
    """What the miner is handed: the JSON that was typed, or one made of the prompt. Raises `HttpProblem`."""
    from pithead.wire.base import Fault

    if text := given.get("json", "").strip():
        try:
            return json.loads(text)
        except ValueError as error:
            fault = Fault(field="json", message=f"is not JSON: {error}")
            raise HttpProblem(422, "invalid", "The request reads, but is not valid", "", errors=[fault]) from None
    made: dict[str, Any] = {"prompt": given.get("prompt", "")}
    if most := given.get("max_tokens", "").strip():
        if not (most.isascii() and most.isdigit()):
            fault = Fault(field="max_tokens", message="must be a whole number")
            raise HttpProblem(422, "invalid", "The request reads, but is not valid", "", errors=[fault])
        made["max_tokens"] = int(most)
    return made


async def spending(visit: Visit) -> Response:
    """What was spent, by day and by model, and the account's newest postings."""
    client_id, now = visit.caller.id, visit.exchange.now()

    def read(tx: Tx) -> dict[str, Any]:
        found = jobs.client(tx, client_id)
        by_day, by_model = pages.sums(tx, escrow_of(found.seq), "given", now, DAYS)
        return {
            "account": shapes.client_view(tx, found),
            "by_day": by_day,
            "by_model": by_model,
            "entries": ledger.statement(tx, found.seq, None, 25).lines,
        }

    values = await visit.exchange.read(read)
    return visit.page("spending.html", values | {"chart": columns(values["by_day"]), "days": DAYS, "units": units})
