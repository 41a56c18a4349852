"""How often heartbeats are due, by the leases that are held."""

import asyncio

import pytest
from tests.agent.rig import Rig

from pithead.agent.rhythm import Lease, Rhythm

DAY = 86_400.0


@pytest.mark.parametrize(
    ("leases", "seconds"),
    [
        ([], 15),
        ([Lease(120, DAY)], 15),
        ([Lease(8, DAY)], 2),
        ([Lease(120, DAY), Lease(8, DAY), Lease(60, DAY)], 2),
        ([Lease(0.01, DAY)], 0.1),
        # As long as they get: nothing is gained by renewing them.
        ([Lease(4, 4)], 15),
        ([Lease(4, 4.9), Lease(40, DAY)], 10),
    ],
)
async def test_often_enough_for_the_shortest_lease_that_a_heartbeat_renews(
    leases: list[Lease], seconds: float, dark: Rig
) -> None:
    rhythm = Rhythm(15, dark.time.monotonic)
    rhythm.answered(leases)
    waiting = asyncio.create_task(rhythm.due())
    await dark.passes(seconds - 0.05, step=0.05)
    assert not waiting.done()
    await dark.passes(0.1)
    assert waiting.done()


async def test_a_lease_that_is_taken_during_the_wait_shortens_it_and_never_makes_it_longer(dark: Rig) -> None:
    rhythm = Rhythm(15, dark.time.monotonic)
    waiting = asyncio.create_task(rhythm.due())
    await dark.passes(1)
    rhythm.taken(Lease(8, DAY))
    rhythm.taken(Lease(120, DAY))
    await dark.passes(0.5)
    assert not waiting.done()
    await dark.passes(0.5)
    assert waiting.done()
