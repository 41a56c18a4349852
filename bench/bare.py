"""Reference B: the same answers from a bare ASGI function, without a framework: what the server itself costs.

It reads the body, finds the call by the end of the path, and sends what the other reference would. `python -m bench.bare FD`.
"""

from typing import Final

from starlette.types import Receive, Scope, Send

from bench import reference
from pithead.wire import miners
from pithead.wire.base import Answer, encode

_CONTENT: Final = (b"content-type", b"application/json")


def _answer(path: str, body: bytes) -> tuple[int, Answer]:
    if path.endswith("/heartbeat"):
        return 200, reference.beat_of(body)
    if path.endswith("/available"):
        return 200, miners.Available(jobs=reference.OFFERS)
    *_, miner_id, _jobs, job_id, what = path.split("/") if path != "/v1/jobs" else ("", "", "", "submit")
    if what == "accept":
        return 200, reference.assignment_of(job_id)
    if what == "complete":
        return 200, reference.completed_of(miner_id, job_id, body)
    return 201, reference.submitted_of(body)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application."""
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    status, answer = _answer(scope["path"], body)
    content = encode(answer)
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [_CONTENT, length]})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    reference.serve(app)
