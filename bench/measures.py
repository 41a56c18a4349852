"""What is measured: the requests, and the scripts that the connections follow."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Final

import msgspec

from bench import fleet
from bench.contenders import Contender
from bench.fill import HASH
from bench.fleet import Kind, Miner
from bench.load import Script, Stop, follow
from bench.reference import JOB_ID
from pithead.wire import jobs

_TELEMETRY: Final = (
    b'{"jobs":[],"telemetry":{"gpus":[{"name":"Tesla V100-SXM2-16GB","utilization":0.0,"memory_used":452984832,'
    b'"memory_total":17179869184,"temperature":41,"power":38.5}],"load":[0.12,0.2,0.18],"version":"0.1.0"}}'
)
_METRICS: Final = (
    b'{"result_hash":"%s","metrics":{"execution_time_seconds":600,"gpu_time_seconds":600}}' % HASH.encode()
)
_submitted: Final = msgspec.json.Decoder(jobs.SubmittedBatch)


def request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nAccept: application/json\r\n"
    if body:
        head += "Content-Type: application/json\r\n"
    # As HTTP clients do: a GET without a body says nothing of a length.
    if body or method != "GET":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def job_body(kind: Kind) -> bytes:
    """A submission."""
    return (
        b'{"model":"%s","input":%s,"price":%s,"estimated_time":%d,"gpu_type":"%s"}'
        % (kind.model.encode(), fleet.INPUT, str(kind.price).encode(), fleet.ESTIMATED_TIME, kind.gpu_type.encode())
    )  # fmt: skip


class Target:
    """A server under load: who calls it, and what it was made to do so far."""

    def __init__(self, contender: Contender, connections: int) -> None:
        self.contender = contender
        self.fleet = everybody = contender.fleet
        #: Each connection speaks for some of the miners, in turn.
        self.shares = [everybody.miners[number::connections] for number in range(connections)]
        #: Jobs known to wait for the first miner of each connection.
        self.waiting: list[list[str]] = [[] for _ in range(connections)]
        #: Jobs that it said were completed.
        self.completed = 0


class Measure(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    title: str
    #: What a script does in turn; each has its own latencies.
    steps: tuple[str, ...]
    #: The script of the connection of this number.
    script: Callable[[Target, int, Stop], Script]
    #: Whether each connection has to know of jobs that wait for it before the window begins.
    known_jobs: bool = False
    #: Whether a short run does without.
    only_full: bool = False


def _again(target: Target, number: int, stop: Stop, build: Callable[[Miner], bytes]) -> Script:
    requests = [build(miner) for miner in target.shares[number]]
    for content in cycle(requests):
        yield 0, content
        if stop.set:
            return


def heartbeat(target: Target, number: int, stop: Stop) -> Script:
    return _again(target, number, stop, lambda m: request("POST", f"/v1/miners/{m.id}/heartbeat", m.key))


def heartbeat_telemetry(target: Target, number: int, stop: Stop) -> Script:
    return _again(target, number, stop, lambda m: request("POST", f"/v1/miners/{m.id}/heartbeat", m.key, _TELEMETRY))


def available(target: Target, number: int, stop: Stop) -> Script:
    return _again(target, number, stop, lambda m: request("GET", f"/v1/miners/{m.id}/jobs/available", m.key))


#: Where a job's name goes: replacing it is cheaper than building a request.
_HOLE: Final = b"@"


def work_of(miner: Miner) -> tuple[bytes, bytes]:
    """The accept and the complete of a miner, with `@` for the job's id."""
    path = f"/v1/miners/{miner.id}/jobs/@"
    return request("POST", path + "/accept", miner.key), request("POST", path + "/complete", miner.key, _METRICS)


def accept_complete(target: Target, number: int, stop: Stop) -> Script:
    accept, complete = work_of(target.shares[number][0])
    waiting = target.waiting[number]
    while waiting and not stop.set:
        job = waiting.pop().encode()
        yield 0, accept.replace(_HOLE, job, 1)
        yield 1, complete.replace(_HOLE, job, 1)
        target.completed += 1


def job_cycle(target: Target, number: int, stop: Stop) -> Script:
    plans = []
    for turn, miner in enumerate(target.shares[number]):
        kind = fleet.kind_for(miner, number + turn)
        submit = request("POST", "/v1/jobs", target.fleet.client_key, job_body(kind))
        plans.append((submit, request("GET", f"/v1/miners/{miner.id}/jobs/available", miner.key), *work_of(miner)))
    for submit, look, accept, complete in cycle(plans):
        answer = yield 0, submit
        start = answer.index(b'"job_id":"') + 10
        job = answer[start : answer.index(b'"', start)]
        yield 1, look
        # Its own job and not the best offer: 64 miners that all reach for one would measure refusals.
        yield 2, accept.replace(_HOLE, job, 1)
        yield 3, complete.replace(_HOLE, job, 1)
        target.completed += 1
        if stop.set:
            return


MEASURES: Final = (
    Measure("heartbeat", "heartbeat", ("heartbeat",), heartbeat),
    Measure("heartbeat_telemetry", "heartbeat with telemetry", ("heartbeat",), heartbeat_telemetry, only_full=True),
    Measure("available", "available", ("available",), available),
    Measure("accept_complete", "accept + complete", ("accept", "complete"), accept_complete, known_jobs=True),
    Measure("cycle", "job cycle", ("submit", "available", "accept", "complete"), job_cycle),
)


#: How many jobs a connection submits before it is the next one's turn.
_AT_A_TIME: Final = 4


async def prepare(target: Target) -> None:
    """See to it that each connection knows of jobs that wait for its miner.

    They are submitted in turn, a few for each connection, so that jobs are taken about in the order in which they came, as
    a queue hands them out, and not from all over it.
    """
    count = -(-target.contender.jobs_ahead // len(target.shares))
    if target.contender.takes_anything:
        target.waiting = [[JOB_ID] * count for _ in target.shares]
        return
    for known in range(_AT_A_TIME, count + _AT_A_TIME, _AT_A_TIME):
        scripts = [_submit_batch(target, n, min(known, count)) for n in range(len(target.shares))]
        await follow(target.contender.ports, scripts)


def _submit_batch(target: Target, number: int, count: int) -> Script:
    missing = count - len(target.waiting[number])
    if missing > 0:
        body = b'{"jobs":[%s]}' % b",".join(_bodies(target.shares[number][0], missing))
        answer = yield 0, request("POST", "/v1/jobs/batch", target.fleet.client_key, body)
        # The first to be taken is the last of the list.
        target.waiting[number][:0] = reversed([job.job_id for job in _submitted.decode(answer).jobs])


def _bodies(miner: Miner, count: int) -> Iterator[bytes]:
    return (job_body(fleet.kind_for(miner, n)) for n in range(count))


def chosen(names: Sequence[str], *, full: bool = False) -> list[Measure]:
    """The measures of these names; where none is named, those of a short run or all."""
    return [one for one in MEASURES if (one.name in names if names else full or not one.only_full)]
