"""A small exchange with two weeks behind it, made through the API on a clock that is moved: what pages are shown of."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.http.exchange import Client, Clock, Miner, World, body, hash_of, run_world

OPERATOR_KEY = "key_operator-of-these-tests"
_DAY = 86_400.0
_MODELS = ("llama-3.1-8b", "sdxl-turbo", "whisper-large-v3")
_MINERS: Sequence[tuple[str, str, int, str, float]] = (
    ("basement-3090", "rtx3090", 2, "Bergen", 0.18), ("rack-a1", "a100", 4, "Frankfurt", 0.9), ("rack-a2", "a100", 4, "Frankfurt", 0.9),
    ("studio-4090", "rtx4090", 1, "Lyon", 0.3), ("lab-v100", "v100", 8, "Delft", 0.25), ("attic", "rtx3060", 1, "Graz", 0.08),
    ("garage-4090", "rtx4090", 2, "Porto", 0.28), ("old-faithful", "v100", 1, "Turku", 0.12), ("newcomer", "rtx4080", 1, "Cork", 0.2),
)  # fmt: skip


class Town(msgspec.Struct, frozen=True):
    """Who lives there, with their keys and ids."""

    folder: Path
    client: str
    client_key: str
    miner: str
    miner_key: str
    #: Ids of jobs in certain states.
    completed: str
    running: str
    queued: str
    failed: str
    #: A payout that waits to be decided, and one that was approved.
    requested: str
    approved: str
    pending_miner: str
    #: What its clock says.
    now: float


def _telemetry(dice: random.Random, gpus: int, busy: bool) -> dict[str, Any]:
    return {
        "gpus": [
            {"index": n, "utilization_percent": dice.randint(70, 99) if busy else dice.randint(0, 9),
             "temperature_celsius": dice.randint(58, 74) if busy else dice.randint(34, 40),
             "memory_used_bytes": dice.randint(9, 20) * 2**30, "memory_total_bytes": 24 * 2**30,
             "power_watts": dice.randint(180, 310) if busy else dice.randint(20, 35)}
            for n in range(gpus)
        ]
    }  # fmt: skip


class Builder:
    """Lets the town live through its two weeks."""

    def __init__(self, world: World, jobs: int) -> None:
        self.world = world
        self.jobs = jobs
        self.dice = random.Random(7)
        self.miners: list[tuple[Miner, int]] = []

    async def at(self, instant: float) -> None:
        """Let time go on to there, with the coordinator up."""
        self.world.clock.now = instant
        await self.world.application.coordinator.run(lambda tx, now: tx.set_alive(now))

    async def build(self, folder: Path, until: float) -> Town:
        """Through the API, up to this instant."""
        world, dice = self.world, self.dice
        atelier = body(await world.operator.post("/clients", json={"name": "Atelier Nord", "credit": 400}), 201)
        lab = body(await world.operator.post("/clients", json={"name": "Lab 7", "credit": 120}), 201)
        clients = [Client(world.http, made["api_key"], id=made["client_id"]) for made in (atelier, lab)]
        await world.operator.put(f"/clients/{lab['client_id']}/credit-line", json={"amount": 50})
        for name, gpu, count, place, price in _MINERS[:-1]:
            miner = await world.miner(name=name, gpu_type=gpu, gpu_count=count, location=place, price_per_hour=price)
            await miner.put("", json={"payout_destination": f"IBAN of {name}"})
            self.miners.append((miner, count))
        # Most of it long ago, and the last hour has its fill too.
        start = world.clock.now
        past = sorted(dice.uniform(start, until - 4000) for _ in range(self.jobs * 6 // 10))
        recent = sorted(dice.uniform(until - 3500, until - 500) for _ in range(self.jobs - len(past)))
        for number, instant in enumerate([*past, *recent]):
            await self.at(max(world.clock.now, instant))
            await self._job(dice.choice(clients), number)
        await self.at(until - 40)
        return await self._now(folder, clients[0], lab)

    async def _job(self, client: Client, number: int) -> None:
        dice = self.dice
        miner, _ = dice.choice(self.miners[:-1])
        await miner.beat()
        job = await client.submit(
            model=dice.choice(_MODELS), gpu_type="any", estimated_time=30, price=round(dice.uniform(0.05, 0.4), 3),
            input={"prompt": f"Question {number}", "max_tokens": 64},
        )  # fmt: skip
        await miner.take(job)
        if dice.random() < 0.04:
            body(await miner.fail(job, kind="bad_input"))
            return
        content = f"The answer to question {number}.".encode()
        body(await miner.upload(job, content))
        self.world.clock.now += dice.uniform(2, 6)
        body(await miner.complete(job, hash_of(content), execution_time_seconds=12.5, gpu_time_seconds=11.0))

    async def _now(self, folder: Path, client: Client, lab: dict[str, Any]) -> Town:
        world, dice = self.world, self.dice
        end = world.clock.now
        for minutes in range(180, 0, -2 if self.jobs > 50 else -20):
            await self.at(end - minutes * 60)
            for miner, gpus in self.miners[:4]:
                await miner.post("/heartbeat", json={"telemetry": _telemetry(dice, gpus, 30 < minutes < 120)})
            await world.application.coordinator.write_down()
        await self.at(end)
        first, second = self.miners[0][0], self.miners[1][0]
        newcomer = await world.register(name="newcomer", gpu_type="rtx4080", location="Cork", price_per_hour=0.2)
        await world.operator.post(f"/miners/{self.miners[6][0].id}/suspend", json={"reason": "fails too often"})
        await self.miners[3][0].put("", json={"draining": True})
        requested = body(await first.post("/payouts", json={"amount": 0.05}), 201)["payout_id"]
        approved = body(await second.post("/payouts", json={"amount": 0.03}), 201)["payout_id"]
        await world.operator.post(f"/payouts/{approved}/approve")
        for miner, gpus in [*self.miners[:3], *self.miners[4:6]]:
            await miner.post("/heartbeat", json={"telemetry": _telemetry(dice, gpus, True)})
        job = {
            "price": 0.2,
            "gpu_type": "any",
            "estimated_time": 60,
            "input": {"prompt": "Why is the sky blue?", "max_tokens": 200},
        }
        done = await client.submit(**job, model=_MODELS[0], require_result=True)
        await second.take(done)
        world.clock.now += 6
        body(await second.fail(done, kind="error"))
        await first.take(done)
        world.clock.now += 5
        content = b"Short wavelengths scatter more strongly in air than long ones, so the sky looks blue."
        body(await first.upload(done, content))
        body(
            await first.complete(
                done,
                hash_of(content),
                execution_time_seconds=4.2,
                gpu_time_seconds=4.0,
                prompt_tokens=9,
                completion_tokens=31,
            )
        )
        failed = await client.submit(**job, model=_MODELS[1], max_attempts=1)
        await first.take(failed)
        body(await first.fail(failed, kind="out_of_memory"))
        running = await client.submit(**job, model=_MODELS[0])
        await first.take(running)
        await first.post(f"/jobs/{running}/progress", json={"fraction": 0.4, "message": "80 of 200 tokens"})
        for number in range(14):
            await client.submit(**job | {"price": 0.01 + number % 3 / 100}, model=_MODELS[number % 3])
        queued = await client.submit(**job | {"gpu_type": "h100"}, model="llama-3.1-405b")
        return Town(
            folder, client.id, client.key, first.id, first.key, done, running, queued, failed, requested, approved,
            newcomer.id, world.clock.now,
        )  # fmt: skip


async def build(folder: Path, jobs: int = 60) -> Town:
    """The town in a folder, up to now by the real clock, for a coordinator that is started on it later."""
    clock, until = Clock(), time.time()
    clock.now = until - 14 * _DAY
    async with run_world(folder, clock) as world:
        return await Builder(world, jobs).build(folder, until)
