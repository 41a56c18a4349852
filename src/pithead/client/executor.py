"""The fleet behind the standard library's interface for work that is done elsewhere: `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, Self, Unpack

import httpx

from pithead.client.aio import AsyncClient
from pithead.client.calls import JobOptions, Price
from pithead.client.environment import given, of_profile
from pithead.client.errors import JobFailed, Misused, PitheadError

P = ParamSpec("P")


class PitheadExecutor(concurrent.futures.Executor):
    """Has jobs of one model done by the miners of an exchange.

        with PitheadExecutor(model="gpt2", price="0.01") as fleet:
            for answer in fleet.map(ask, ["one", "two"]):
                print(answer.decode())

    What is submitted is a function that makes a job's *input*: it is called here and at once, with the arguments that
    are given, and its value – any JSON – goes to a miner. The future's result is the bytes that come back.

    A future fails with `JobFailed` where the job was not completed, and with whatever else `Client` raises. Cancelling
    one that is not done withdraws its job, and its price comes back. `in_flight`: how many jobs are at the exchange at a time;
    the others wait here. URL, key and options as for `Client`; `shutdown` waits for what was submitted.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        model: str,
        price: Price,
        in_flight: int = 32,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        """Raises `Misused` where there is no URL or key, or `in_flight` is below 1."""
        if in_flight < 1:
            raise Misused(what=f"in_flight is {in_flight}; at least 1 job has to be on its way")
        self._url, self._key = given(url, key)
        self._model, self._price, self._options = model, price, options
        self._in_flight = in_flight
        self._transport = transport
        self._guard = threading.Lock()
        self._futures: set[concurrent.futures.Future[bytes]] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._client: AsyncClient
        self._places: asyncio.Semaphore

    @classmethod
    def from_profile(
        cls,
        profile: str | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        model: str,
        price: Price,
        in_flight: int = 32,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[JobOptions],
    ) -> Self:
        """With URL and key as of `Client.from_profile`."""
        url, key = of_profile(profile, url, key)
        return cls(url, key, model=model, price=price, in_flight=in_flight, transport=transport, **options)

    def submit(  # type: ignore[override]
        self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[bytes]:
        """Submit a job with the input that `fn(*args, **kwargs)` makes; the future of its result."""
        work = fn(*args, **kwargs)
        with self._guard:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name="pithead-executor", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(self._one(work), self._loop)
            self._futures.add(future)
        future.add_done_callback(self._forget)
        return future

    def map(  # type: ignore[override]
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[bytes]:
        """The results for what `fn` makes of the arguments, in their order; see `concurrent.futures.Executor.map`."""
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; wait for what was submitted, or cancel it first."""
        with self._guard:
            first, self._closed = not self._closed, True
            left, thread = set(self._futures), self._thread
        if cancel_futures:
            for future in left:
                future.cancel()
        if thread is None:
            return
        if first:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
        if wait:
            thread.join()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        self._client = AsyncClient(self._url, self._key, transport=self._transport)
        self._places = asyncio.Semaphore(self._in_flight)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(self._client.aclose())
            loop.close()

    async def _one(self, work: Any) -> bytes:
        async with self._places:
            submit = self._client.submit(self._model, work, price=self._price, **self._options)
            submitting = asyncio.ensure_future(submit)
            try:
                job_id = (await asyncio.shield(submitting)).job_id
                job = await self._client.wait(job_id)
            except asyncio.CancelledError:
                # What is being submitted is a job too, whose price is to come back.
                with contextlib.suppress(PitheadError):
                    await self._client.cancel((await submitting).job_id)
                raise
            if job.status != "completed" or job.result_size is None:
                raise JobFailed(job)
            return await self._client.result(job_id)

    async def _finish(self) -> None:
        """End the loop once nothing is left to do."""
        mine = asyncio.current_task()
        while others := [task for task in asyncio.all_tasks() if task is not mine]:
            await asyncio.wait(others)
        self._loop.stop()

    def _forget(self, future: concurrent.futures.Future[bytes]) -> None:
        with self._guard:
            self._futures.discard(future)
