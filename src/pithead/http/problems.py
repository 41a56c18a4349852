"""Errors as `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping, Sequence

from starlette.types import Send

from pithead.wire.base import Fault, Problem, encode

CONTENT_TYPE = b"application/problem+json"


class HttpProblem(Exception):
    """An answer that is a problem. Raise it from anything behind the `Problems` middleware."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[Fault] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.errors = list(errors) if errors is not None else None
        self.headers = dict(headers or {})


def internal(request_id: str) -> HttpProblem:
    """What nobody foresaw."""
    detail = f"this is our fault, not yours; it is in the log under {request_id}"
    return HttpProblem(500, "internal", "Something went wrong", detail)


def render_problem(problem: HttpProblem, request_id: str) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """The problem as an answer: its content type, its body, and further headers."""
    body = encode(
        Problem(
            type=f"/problems/{problem.slug}",
            title=problem.title,
            status=problem.status,
            detail=problem.detail,
            errors=problem.errors,
            request_id=request_id,
        )
    )
    return CONTENT_TYPE, body, [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]


async def send_problem(send: Send, problem: HttpProblem, request_id: str = "") -> None:
    """Answer with the problem."""
    kind, body, more = render_problem(problem, request_id)
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
