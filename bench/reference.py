"""What the figures are ratios to: the same routes as an ordinary Starlette + msgspec application, with no database and no keys.

It decodes the same requests and encodes answers of the same shapes and lengths. `python -m bench.reference FD` serves it
on a listening socket that it inherits, under uvicorn with the options of `pithead serve`.
"""

import socket
import sys
from decimal import Decimal
from typing import Final

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bench import fleet
from pithead.wire import jobs, miners
from pithead.wire.base import Answer, encode

_heartbeat: Final = msgspec.json.Decoder(miners.Heartbeat)
_complete: Final = msgspec.json.Decoder(miners.Complete)
_submit: Final = msgspec.json.Decoder(jobs.SubmitJob)

JOB_ID: Final = "job_1m86z1my1mgn9zey93rh"
CLIENT_ID: Final = "client_1m86z1my1mgn9zey93rh"
_RATE: Final = Decimal("0.05")
_NOW: Final = 1795530336.48966
#: As many as `available` gives where the caller names no limit.
OFFERS: Final = [
    miners.Offer(
        job_id=JOB_ID,
        model="gpt2",
        gpu_type="v100",
        gpu_count=1,
        estimated_time=fleet.ESTIMATED_TIME,
        price=_RATE,
        priority=0,
        require_result=False,
        client_id=CLIENT_ID,
    )
] * 20


def beat_of(body: bytes) -> miners.HeartbeatAnswer:
    beat = _heartbeat.decode(body) if body else None
    held = len(beat.jobs) if beat else 0
    return miners.HeartbeatAnswer(
        status="ok", jobs_assigned=held, queue_length=1000, miner_status="active", stop=[], leases=[]
    )


def assignment_of(job_id: str) -> miners.Assignment:
    return miners.Assignment(
        job_id=job_id,
        status="assigned",
        model="gpt2",
        client_id=CLIENT_ID,
        input=msgspec.Raw(fleet.INPUT),
        gpu_type="v100",
        gpu_count=1,
        estimated_time=fleet.ESTIMATED_TIME,
        price=_RATE,
        require_result=False,
        attempt=1,
        lease_token="lease_8E6R3q6PPqaHRa1q1vE0TA",
        lease_expires_at=_NOW,
        lease_expires_in=119.998792,
        attempt_expires_in=86399.894848,
    )


def completed_of(miner_id: str, job_id: str, body: bytes) -> miners.Completed:
    given = _complete.decode(body)
    receipt = miners.Receipt(
        receipt_id="receipt_1m86z1my1mgn9zey93rh",
        job_id=job_id,
        miner_id=miner_id,
        attempt=1,
        result_hash=given.result_hash,
        amount=_RATE,
        completed_at=_NOW,
        key_id="f51b8247b9a34f5d",
        signature="I67b53tqL/fuV+6GHMhyqT9XajJeg4oAZBqS2PUTKpwbSLTm2nkt2xH6LopCAbGsEm148YSTYsWECOZYYsoADQ==",
    )
    return miners.Completed(job_id=job_id, status="completed", earned=_RATE, receipt=receipt)


def submitted_of(body: bytes) -> jobs.Submitted:
    _submit.decode(body)
    return jobs.Submitted(job_id=JOB_ID, status="queued")


def _json(answer: Answer, status: int = 200) -> Response:
    return Response(encode(answer), status, media_type="application/json")


async def heartbeat(request: Request) -> Response:
    return _json(beat_of(await request.body()))


async def available(request: Request) -> Response:
    return _json(miners.Available(jobs=OFFERS))


async def accept(request: Request) -> Response:
    return _json(assignment_of(request.path_params["job_id"]))


async def complete(request: Request) -> Response:
    return _json(completed_of(request.path_params["miner_id"], request.path_params["job_id"], await request.body()))


async def submit(request: Request) -> Response:
    return _json(submitted_of(await request.body()), 201)


_JOB: Final = "/v1/miners/{miner_id}/jobs/{job_id}"
app = Starlette(
    routes=[
        Route("/v1/miners/{miner_id}/heartbeat", heartbeat, methods=["POST"]),
        Route("/v1/miners/{miner_id}/jobs/available", available, methods=["GET"]),
        Route(_JOB + "/accept", accept, methods=["POST"]),
        Route(_JOB + "/complete", complete, methods=["POST"]),
        Route("/v1/jobs", submit, methods=["POST"]),
    ]
)


def serve(application: ASGIApp) -> None:
    """Serve it on the listening socket whose descriptor is the only argument, with the options of `pithead serve`."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    uvloop.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    serve(app)
