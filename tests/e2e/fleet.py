"""A miner that answers at once, for tests of what clients do with a fleet."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import msgspec

from pithead.client import Conflict, MinerClient

#: A prompt that fails, and one that is answered only once the test says so.
BAD, SLOW = "a bad one", "a slow one"


class Fleet:
    """What a test knows of it."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model
        self.stop = threading.Event()
        #: Set: slow prompts are answered too.
        self.go_on = threading.Event()
        self.taken: list[str] = []


@contextlib.contextmanager
def fleet(url: str, model: str) -> Iterator[Fleet]:
    """One miner for this model, in threads, until the end of the block."""
    known = Fleet(url, model)
    made = MinerClient.register(
        url, name=model, gpu_type=model, gpu_count=1, location="", price_per_hour=0, max_concurrent=100, models=[model]
    )
    with MinerClient(url, made.miner_id, made.api_key) as miner:
        miner.heartbeat()
        work = threading.Thread(target=_work, args=(miner, known))
        work.start()
        try:
            yield known
        finally:
            known.stop.set()
            known.go_on.set()
            work.join(30)


def _work(miner: MinerClient, known: Fleet) -> None:
    waiting: list[threading.Thread] = []
    while not known.stop.is_set():
        for offer in miner.available(limit=20, wait=0.2).jobs:
            try:
                job = miner.accept(offer.job_id)
            except Conflict:
                continue  # Withdrawn meanwhile.
            asked = text_of(msgspec.json.decode(job.input))
            known.taken.append(asked)
            if asked == SLOW and not known.go_on.is_set():
                waiting.append(threading.Thread(target=_late, args=(miner, known, job.job_id, job.lease_token)))
                waiting[-1].start()
            else:
                _answer(miner, job.job_id, job.lease_token, asked)
    for thread in waiting:
        thread.join(30)


def _late(miner: MinerClient, known: Fleet, job_id: str, token: str) -> None:
    known.go_on.wait()
    _answer(miner, job_id, token, SLOW)


def _answer(miner: MinerClient, job_id: str, token: str, asked: str) -> None:
    with contextlib.suppress(Conflict):
        if asked == BAD:
            miner.fail(job_id, "no such word", "bad_input", token)
            return
        answer = msgspec.json.encode({"choices": [{"message": {"content": f"You said: {asked}"}}]})
        miner.upload(job_id, answer, token)
        miner.complete(job_id, "sha256:" + hashlib.sha256(answer).hexdigest(), None, token)


def text_of(given: Any) -> str:
    """What was asked."""
    return str(given["messages"][-1]["content"] if isinstance(given, dict) and "messages" in given else given)
