"""Jobs: the list, and the page of one, for operators and for the client whose it is."""

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.responses import Response

from pithead.core.jobs import State, is_finished
from pithead.core.money import units
from pithead.exchange import pages
from pithead.exchange.blobs import BlobError
from pithead.exchange.pages import JobStory
from pithead.exchange.ports import JobFilter, Tx
from pithead.http import shapes
from pithead.http.api import perform
from pithead.web.operator import ROWS
from pithead.web.passing import Passed
from pithead.web.render import money
from pithead.web.visits import Visit

STATES: Final = tuple(str(state) for state in State)
#: Bytes of an input or a result that a page shows.
_PREVIEW: Final = 4096


async def listing(visit: Visit) -> Response:
    """Jobs, the newest first: all of them, or the client's own."""
    state, model, whose, before = visit.query("status"), visit.query("model"), visit.query("client"), visit.cursor
    state = state if state in STATES else None
    if visit.caller.kind == "client":
        whose = visit.caller.id

    def read(tx: Tx) -> dict[str, Any]:
        found = None if whose is None else tx.client_by_id(whose)
        nobody = whose is not None and found is None
        where = JobFilter(found.seq if found else None, state, model)
        some = [] if nobody else tx.jobs_page(where, before, ROWS + 1)
        return {
            "jobs": [shapes.job_view(tx, job) for job in some[:ROWS]],
            "following": some[ROWS - 1].seq if len(some) > ROWS else None,
            "first": before is None,
            "account": shapes.client_view(tx, found) if found and visit.caller.kind == "client" else None,
        }

    values = await visit.exchange.read(read)
    filters = {
        "status": state or "",
        "model": model or "",
        "client": (whose or "") if visit.caller.kind == "operator" else "",
    }
    live = "mine" if visit.caller.kind == "client" else "all"
    return visit.page("jobs.html", values | {"filters": filters, "states": STATES, "live": live})


async def job(visit: Visit) -> Response:
    """A job: how it stands, all that happened to it, what went in and what came out."""
    job_id, client_id = visit.path["job_id"], visit.caller.id if visit.caller.kind == "client" else None

    def read(tx: Tx) -> dict[str, Any]:
        found = pages.story(tx, job_id, client_id)
        return {"story": found, "job": shapes.job_view(tx, found.job)}

    values = await visit.exchange.peek(read)
    story: JobStory = values["story"]
    why = None
    if story.job.state is State.QUEUED:
        why = await perform(visit.web.services, "why_job", visit.caller, path={"job_id": job_id})
    result, whole = await _preview(visit, story)
    values |= {
        "why": why,
        "happened": happened(story),
        "finished": is_finished(story.job),
        "input": _text(story.input[:_PREVIEW]),
        "input_cut": len(story.input) > _PREVIEW,
        "result": result,
        "result_cut": not whole,
        "earned": units(story.settlement.earned) if story.settlement else None,
        "live": "" if is_finished(story.job) else f"job:{job_id}",
        "output": story.output,
    }
    return visit.page("job.html", values)


async def _preview(visit: Visit, story: JobStory) -> tuple[str | None, bool]:
    """The beginning of the result as text, and whether that is all of it; `None` where there are no bytes to be shown."""
    size = story.job.result_size or 0
    if story.blob is None or not size:
        return None, True
    chunks = visit.web.services.blobs.get(story.blob, 0, min(size, _PREVIEW))
    content = b""
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                content += chunk
    except BlobError:
        return None, True
    return _text(content), size <= _PREVIEW


def _text(content: bytes) -> str | None:
    """As text; `None` for what is none. The last character may be cut."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3:
            return None
        text = content[: error.start].decode("utf-8")
    return None if any(ord(character) < 9 for character in text) else text


class Happened(msgspec.Struct, frozen=True):
    """Something that happened to a job."""

    at: float
    #: How it is marked: `good`, `bad`, `busy`, `wait` or nothing.
    mark: str
    said: str
    miner_id: str = ""
    miner_name: str = ""
    detail: str = ""


_ENDED: Final = {
    "completed": ("good", "delivered"),
    "failed": ("bad", "failed"),
    "lapsed": ("bad", "was not heard of: the lease lapsed"),
    "released": ("", "handed it back"),
    "cancelled": ("", "was told to stop: the job was cancelled"),
    "expired": ("bad", "was told to stop: the job expired"),
}
_POSTED: Final = {
    "hold": ("", "was set aside"),
    "payment": ("good", "was paid to the miner"),
    "fee": ("", "went to the operator as a fee"),
    "refund": ("", "went back to the client"),
}


def happened(story: JobStory) -> Sequence[Happened]:
    """All that happened to the job, the oldest first."""
    job = story.job
    found = [Happened(job.created_at, "wait", "Submitted"), *_posted(story, "hold")]
    for one in reversed(story.attempts):
        who = (one.miner_id, one.miner_name)
        found.append(Happened(one.accepted_at, "busy", f"Attempt {one.number}: accepted by", *who))
        if one.ended_at is not None and one.outcome is not None:
            mark, said = _ENDED[one.outcome]
            found.append(Happened(one.ended_at, mark, f"Attempt {one.number}: {said}", detail=one.reason))
    found += _posted(story, "payment", "fee", "refund")
    if job.finished_at is not None:
        mark = "good" if job.state is State.COMPLETED else "" if job.state is State.CANCELLED else "bad"
        why = job.failure_reason or "" if job.state is State.FAILED else ""
        found.append(Happened(job.finished_at, mark, f"The job is {job.state}", detail=why))
    # What happened in one transaction stays in the order in which it is said here.
    return sorted(found, key=lambda one: one.at)


def _posted(story: JobStory, *causes: str) -> list[Happened]:
    some = [posted for posted in story.postings if posted.cause in causes]
    return [
        Happened(one.at, _POSTED[one.cause][0], f"{money(units(one.amount))} {_POSTED[one.cause][1]}") for one in some
    ]


async def result(visit: Visit) -> Response:
    """The bytes of a client's result, as a file."""
    answer = await perform(visit.web.services, "get_result", visit.caller, path={"job_id": visit.path["job_id"]})
    return Passed(answer)
