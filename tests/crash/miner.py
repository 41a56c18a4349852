"""`python -m tests.crash.miner`: simulated miners in a process of their own, which can be killed at any moment.

Each takes jobs, delivers, fails, hands back, is too slow and loses its lease, asks to be paid out, and writes all of it
down. Started anew, it takes up what it holds.
"""

import asyncio
import signal
import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import msgspec
from tests.crash.history import Recorder
from tests.crash.people import shortly

from pithead.client import AsyncMinerClient
from pithead.client.errors import PitheadError
from pithead.wire.miners import Assignment


class Machine(msgspec.Struct, frozen=True):
    """What a miner is started with."""

    url: str
    miner_id: str
    key: str
    history: str
    seed: int
    #: Seconds that a lease lasts, which a slow miner lets pass.
    ttl: float


class SimulatedMiner:
    """One miner that does one job after the other."""

    def __init__(self, machine: Machine, client: AsyncMinerClient, recorder: Recorder, stopping: asyncio.Event) -> None:
        self._machine, self._client, self._recorder, self._stopping = machine, client, recorder, stopping
        self._random = Random(machine.seed)

    async def run(self) -> None:
        """Until it is told to stop: then what it holds is done first."""
        while not self._stopping.is_set():
            try:
                beat = await self._client.heartbeat()
                # What it held when it was killed; accepting again gives the same lease.
                for lease in beat.leases:
                    await self._take(lease.job_id)
                offered = (await self._client.available(limit=8, wait=0.5)).jobs
            except PitheadError:
                await asyncio.sleep(0.2)
                continue
            if offered:
                await self._take(self._random.choice(offered).job_id)
            if self._random.random() < 0.1:
                await self._ask_for_money()

    async def _take(self, job_id: str) -> None:
        assignment = await self._recorder.call(
            "accept",
            {"job": job_id},
            self._client.accept(job_id),
            lambda answer: {"token": answer.lease_token, "attempt": answer.attempt},
        )
        if assignment is not None:
            await self._work(assignment)

    async def _work(self, job: Assignment) -> None:
        about = {"job": job.job_id, "token": job.lease_token}
        chance = self._random.random()
        await asyncio.sleep(self._random.uniform(0.0, 0.05))
        if chance < 0.06:
            await self._recorder.call(
                "fail", about, self._client.fail(job.job_id, "no luck", lease_token=job.lease_token), _status
            )
            return
        if chance < 0.12:
            await self._recorder.call(
                "release", about, self._client.release(job.job_id, lease_token=job.lease_token), _status
            )
            return
        if chance < 0.17:
            # Too slow, and silent: somebody else may have the job by now.
            await asyncio.sleep(self._machine.ttl * self._random.uniform(1.0, 2.0))
        elif chance < 0.4:
            await self._recorder.call(
                "progress", about, self._client.progress(job.job_id, 0.5, lease_token=job.lease_token), _status
            )
        content = f"{self._machine.miner_id} {job.lease_token} {self._random.random()}".encode()
        digest = sha256(content).hexdigest()
        if job.require_result:
            await self._recorder.call(
                "upload",
                about | {"digest": digest},
                self._client.upload(job.job_id, content, job.lease_token),
                lambda answer: {"size": answer.size},
            )
        for _ in range(2 if chance > 0.9 else 1):
            await self._recorder.call(
                "complete",
                about | {"hash": f"sha256:{digest}"},
                self._client.complete(job.job_id, f"sha256:{digest}", lease_token=job.lease_token),
                lambda answer: {"earned": round(answer.earned * 1_000_000), "receipt": answer.receipt.receipt_id},
            )

    async def _ask_for_money(self) -> None:
        # An amount and a key belong together: so the payout can be told from all others.
        amount = self._random.randint(1_000, 50_000)
        key = f"{self._machine.miner_id}-{amount}"
        await self._recorder.call(
            "payout",
            {"key": key, "amount": amount},
            self._client.request_payout(f"{amount / 1_000_000:.6f}", idempotency_key=key),
            lambda answer: {"payout": answer.payout_id},
        )


def _status(answer: object) -> dict[str, str]:
    return {"status": str(getattr(answer, "status", ""))}


async def main() -> None:
    """The miners that standard input describes."""
    machines = msgspec.json.decode(await asyncio.to_thread(sys.stdin.buffer.read), type=list[Machine])
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.gather(*(_mine(machine, stopping) for machine in machines))


async def _mine(machine: Machine, stopping: asyncio.Event) -> None:
    recorder = Recorder(Path(machine.history), machine.miner_id)
    client = AsyncMinerClient(machine.url, machine.miner_id, machine.key, timeout=3.0, retry_for=30.0, sleep=shortly)
    async with client:
        await SimulatedMiner(machine, client, recorder, stopping).run()
    recorder.close()


if __name__ == "__main__":
    asyncio.run(main())
