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


async def send_problem(send: Send, problem: HttpProblem, request_id: str = "") -> None:
    """Answer with the problem."""
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
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
