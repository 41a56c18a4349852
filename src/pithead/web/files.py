"""A client's files: what there is, one more from a form, and which of them a new job is to read."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response
from starlette.types import Message

from pithead.exchange import inputs
from pithead.exchange.ports import Tx
from pithead.http.api import perform, problem_of
from pithead.http.problems import HttpProblem
from pithead.web.multipart import FileForm, boundary_of, job_name, read_form, too_large
from pithead.web.operator import ROWS
from pithead.web.visits import Done, Visit
from pithead.wire.base import Fault

#: Bytes of a form beside its file.
_AROUND: Final = 65_536
#: Files that a job is offered to read, the newest, and rows of its form that can be filled.
_OFFERED: Final = 50
_MOST_ROWS: Final = 100
_FAULTED: Final = re.compile(r"input_files\W+(\d+)")


class Row(msgspec.Struct, frozen=True):
    """A file of a job's form."""

    sha256: str = ""
    name: str = ""
    fault: str = ""


async def files(visit: Visit) -> Response:
    """The client's files, the newest first."""
    return await _page(visit, None)


async def _page(visit: Visit, problem: HttpProblem | None) -> Response:
    query = {"limit": str(ROWS)} | ({"cursor": str(visit.cursor)} if visit.cursor else {})
    found = await perform(visit.web.services, "list_files", visit.caller, path={}, query=query)
    most = visit.web.services.max_file_bytes
    values = {"found": found, "first": visit.cursor is None, "problem": problem, "most": most}
    response = visit.page("files.html", values, status=problem.status if problem else 200)
    if problem is not None:
        response.headers.update(problem.headers)
    return response


async def upload(visit: Visit) -> Response:
    """Take a file in from a form; back to the files, or on to a job that is to read it."""
    services, request = visit.web.services, visit.request
    limit, silence = services.max_file_bytes, services.upload_silence
    try:
        length = request.headers.get("content-length", "")
        if length.isdigit():
            # Before anything is read: the least that the file can have.
            await _room(visit, max(0, int(length) - _AROUND), limit)
        with FileForm(boundary_of(request), visit.web.settings.folder, limit, visit.check) as form:
            await read_form(request, form, silence)
            visit.check(form.fields)
            if form.spool is None:
                raise HttpProblem(422, "invalid", "There is no file", "choose one, and upload it then")
            spool = form.spool

            async def receive() -> Message:
                piece = await asyncio.to_thread(spool.read)
                return {"type": "http.request", "body": piece, "more_body": bool(piece)}

            file = await perform(
                services,
                "upload_file",
                visit.caller,
                path={"sha256": spool.digest},
                receive=receive,
                length=spool.size,
            )
    except Exception as error:
        problem = error if isinstance(error, HttpProblem) else problem_of(error)
        if problem is None:
            raise
        if problem.status == 403:
            raise problem from None
        return await _page(visit, problem)
    name = job_name(form.filename)
    visit.tell(Done(f"{name} is uploaded."))
    if form.fields.get("then") == "job":
        return visit.go(f"/dashboard/submit?{urlencode({'file': file.sha256, 'name': name})}")
    return visit.go("/dashboard/files")


async def _room(visit: Visit, size: int, limit: int) -> None:
    """Whether the account may have a file of so many bytes more. Raises `HttpProblem`, `OverQuota`."""
    if size > limit:
        raise too_large(limit)
    rules, client_id = visit.exchange.rules, visit.caller.id

    def check(tx: Tx) -> None:
        inputs.check_room(tx, rules, client_id, size)

    await visit.exchange.peek(check)


# -- of a job


def asked_for(visit: Visit) -> dict[str, str]:
    """The files that the address names, as fields of a job's form."""
    given = visit.request.query_params
    hashes, names = given.getlist("file")[:_MOST_ROWS], given.getlist("name")
    found = {f"file{n}": sha256 for n, sha256 in enumerate(hashes)}
    return found | {f"name{n}": name for n, name in enumerate(names[: len(hashes)])}


def named(given: Mapping[str, str]) -> list[dict[str, str]]:
    """The files that a job's form names, as the API takes them."""
    return [{"name": row.name, "sha256": row.sha256} for row in _rows(given)]


def _rows(given: Mapping[str, str]) -> list[Row]:
    found: list[Row] = []
    for n in range(_MOST_ROWS):
        if sha256 := given.get(f"file{n}", "").strip():
            found.append(Row(sha256, given.get(f"name{n}", "").strip() or f"file-{len(found) + 1}"))
    return found


async def for_job(visit: Visit, given: Mapping[str, str], faults: Sequence[Fault]) -> dict[str, Any]:
    """What a job's form shows of files: a row for each that it names, another for one more, and what there is to choose."""
    page = await perform(visit.web.services, "list_files", visit.caller, path={}, query={"limit": str(_OFFERED)})
    rows = _rows(given)
    for fault in faults:
        if (found := _FAULTED.match(fault.field)) and int(found[1]) < len(rows):
            rows[int(found[1])] = msgspec.structs.replace(rows[int(found[1])], fault=fault.message)
    offered = [file for file in page.files if file.size is not None]
    there = {file.sha256 for file in offered}
    # Named by their hash alone: older ones than those, or none of this account's, which submitting tells.
    others = [row.sha256 for row in rows if row.sha256 not in there]
    return {"file_rows": [*rows, Row()][:_MOST_ROWS], "offered": offered, "others": others}
