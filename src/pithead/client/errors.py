"""What can go wrong, as exceptions. The first line of a docstring is the template of the message; its fields are attributes."""

from __future__ import annotations

from typing import Any

from pithead.wire.base import Fault, Problem
from pithead.wire.jobs import JobView


class PitheadError(Exception):
    """something went wrong"""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        template = (type(self).__doc__ or type(self).__name__).partition("\n")[0]
        super().__init__(template.format(**fields))


class Misused(PitheadError, ValueError):
    """{what}"""


class Unreachable(PitheadError):
    """the coordinator at {url} cannot be reached ({why}); check the URL, and that it is running

    Raised once the time for retries is used up.
    """

    url: str
    why: str


class BadAnswer(PitheadError):
    """{url} does not answer like a Pithead coordinator ({why}); check the URL"""

    url: str
    why: str


class Corrupted(PitheadError):
    """the result of {job_id} arrived damaged ({why}); fetch it again"""

    job_id: str
    why: str


class FileCorrupted(PitheadError):
    """the file {sha256} arrived damaged ({why}); fetch it again"""

    sha256: str
    why: str


class WaitTimeout(PitheadError):
    """{job_id} is still {status} after {waited:g} s; wait again, or cancel it

    `job` is the job as last seen.
    """

    job_id: str
    status: str
    waited: float
    job: JobView


class JobFailed(PitheadError):
    """{job_id} {ended}; there is no result

    `job` is the job as it ended.
    """

    job: JobView
    job_id: str

    def __init__(self, job: JobView) -> None:
        why = f" ({job.failure.kind}: {job.failure.reason})" if job.failure else ""
        ended = "was completed by its hash alone" if job.status == "completed" else f"is {job.status}{why}"
        super().__init__(job=job, job_id=job.job_id, ended=ended)


class ApiError(PitheadError):
    """the coordinator answered {status}: {detail}

    `problem` is the error as the coordinator sent it, `status` its HTTP status.
    """

    problem: Problem
    status: int
    detail: str

    def __init__(self, problem: Problem, **fields: Any) -> None:
        detail = problem.detail or problem.title
        if problem.status >= 500 and problem.request_id:
            detail += f" (request {problem.request_id} in the coordinator's log)"
        super().__init__(problem=problem, status=problem.status, detail=detail, **fields)


class Unauthorized(ApiError):
    """the key is not accepted: {detail}"""


class PaymentRequired(ApiError):
    """not enough credit: {detail}"""


class Forbidden(ApiError):
    """not allowed: {detail}"""


class NotFound(ApiError):
    """not found: {detail}"""


class Conflict(ApiError):
    """not possible as things stand: {detail}"""


class Gone(ApiError):
    """no longer kept: {detail}"""


class Invalid(ApiError):
    """the request has faults: {faults}

    `errors` lists every one of them, with its field.
    """

    errors: list[Fault]

    def __init__(self, problem: Problem) -> None:
        errors = problem.errors or []
        faults = "; ".join(f"{f.field}: {f.message}" if f.field else f.message for f in errors)
        super().__init__(problem, errors=errors, faults=faults or problem.detail or problem.title)


class RateLimited(ApiError):
    """over the rate limit; try again in {retry_after:g} s

    `retry_after` is in seconds; 0 where the coordinator did not say.
    """

    retry_after: float

    def __init__(self, problem: Problem, retry_after: float = 0.0) -> None:
        super().__init__(problem, retry_after=retry_after)


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
}


def api_error(problem: Problem, retry_after: float | None) -> ApiError:
    """The exception for an error answer."""
    if problem.status == 422:
        return Invalid(problem)
    if problem.status == 429:
        return RateLimited(problem, retry_after or 0.0)
    return _BY_STATUS.get(problem.status, ApiError)(problem)
