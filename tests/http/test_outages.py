"""A database that takes no change, as on a full disk: everybody is told so, nothing has happened, and asking again is safe."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from tests.http.exchange import HASH, JOB, REGISTRATION, Client, Miner, World, body, problem


def refuse_writes(world: World, refuse: bool) -> None:
    world.refuse_writes(refuse)


class Scene:
    """A job in the hands of a miner, another in the queue, and all the calls that change something."""

    def __init__(self, world: World, client: Client, miner: Miner, held: str, queued: str) -> None:
        self.world, self.client, self.miner, self.held, self.queued = world, client, miner, held, queued

    def calls(self) -> dict[str, Callable[[], Awaitable[httpx.Response]]]:
        world, client, miner = self.world, self.client, self.miner
        once = {"Idempotency-Key": "order-1"}
        return {
            "register": lambda: world.http.post("/v1/miners", json=REGISTRATION),
            "update": lambda: miner.put(json={"location": "elsewhere"}),
            "accept": lambda: miner.accept(self.queued),
            "progress": lambda: miner.post(f"/jobs/{self.held}/progress", json={"fraction": 0.5}),
            "upload": lambda: miner.upload(self.held, b"bytes"),
            "complete": lambda: miner.complete(self.held, HASH),
            "fail": lambda: miner.fail(self.held),
            "release": lambda: miner.release(self.held),
            "submit": lambda: client.post("/v1/jobs", json=JOB, headers=once),
            "submit a batch": lambda: client.post("/v1/jobs/batch", json={"jobs": [JOB, JOB]}, headers=once),
            "cancel": lambda: client.delete(f"/v1/jobs/{self.held}"),
            "create a client": lambda: world.operator.post("/clients", json={"name": "x", "credit": 1}),
            "credit": lambda: world.operator.post(f"/clients/{client.id}/credit", json={"amount": 1}, headers=once),
            "suspend": lambda: world.operator.post(f"/miners/{miner.id}/suspend"),
            "rotate a key": lambda: world.operator.post(f"/accounts/{miner.id}/keys"),
            "revoke keys": lambda: world.operator.delete(f"/accounts/{miner.id}/keys"),
        }

    async def seen(self) -> list[object]:
        """What everybody can see: reads go on throughout."""
        return [
            body(await self.miner.get()),
            await self.miner.stats(),
            await self.miner.offered(),
            await self.client.job(self.held),
            await self.client.job(self.queued),
            body(await self.client.get("/v1/jobs")),
            await self.client.balance(),
            body(await self.world.operator.get("/clients")),
            body(await self.world.operator.get("/audit")),
            await self.world.ledger(),
        ]


@pytest.fixture
async def scene(world: World) -> Scene:
    client, miner = await world.client(), await world.miner()
    held, queued = await client.submit(), await client.submit()
    await miner.take(held)
    return Scene(world, client, miner, held, queued)


async def test_everybody_is_told_and_nothing_has_happened(scene: Scene) -> None:
    before = await scene.seen()
    refuse_writes(scene.world, True)
    for name, call in scene.calls().items():
        answer = await call()
        told = problem(answer, 503)
        assert told["type"] == "/problems/store-unavailable", name
        assert answer.headers["retry-after"] == "5"
        assert await scene.seen() == before, name
    refuse_writes(scene.world, False)
    assert await scene.seen() == before


@pytest.mark.parametrize(
    "name",
    ["register", "update", "accept", "progress", "upload", "complete", "fail", "release", "submit", "submit a batch",
     "cancel", "create a client", "credit", "suspend", "rotate a key", "revoke keys"],
)  # fmt: skip
async def test_asking_again_does_it_once(scene: Scene, name: str) -> None:
    call = scene.calls()[name]
    refuse_writes(scene.world, True)
    for _ in range(2):
        problem(await call(), 503)
    refuse_writes(scene.world, False)
    answer = await call()
    assert answer.status_code in (200, 201), answer.text
    await scene.world.ledger()
    if name in ("accept", "progress", "upload", "complete", "fail", "release", "submit", "credit", "cancel"):
        # A repeat after a lost answer: likewise.
        assert (await call()).status_code == answer.status_code
    money = {"submit": (99.85, 0.15), "submit a batch": (99.8, 0.2), "credit": (100.9, 0.1), "complete": (99.9, 0.05)}
    wanted = money.get(name, (99.95, 0.05) if name == "cancel" else (99.9, 0.1))
    assert await scene.client.balance() == wanted


async def test_offers_and_waits_are_as_if_it_had_not_been_asked(scene: Scene) -> None:
    """What is kept in memory does not run ahead of what is stored."""
    refuse_writes(scene.world, True)
    for call in ("accept", "submit", "cancel", "revoke keys", "release"):
        problem(await scene.calls()[call](), 503)
    assert await scene.miner.offered() == [scene.queued]
    assert (await scene.client.job(scene.held))["status"] == "assigned"
    refuse_writes(scene.world, False)
    await scene.miner.take(scene.queued)
    assert await scene.miner.offered() == []
