"""Hears at once what heartbeats would tell later: a question that the coordinator holds until there is something to hear.

A courtesy of newer coordinators. Nothing depends on it but how soon: what is not heard here is told with a heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pithead.agent.line import Pace
from pithead.client import AsyncMinerClient, NotFound, PitheadError, RateLimited, Unauthorized
from pithead.wire.miners import Orders

log = logging.getLogger(__name__)


async def listen(
    client: AsyncMinerClient, pace: Pace, clock: Callable[[], float], heed: Callable[[Orders, float], None]
) -> None:
    """Hear, until cancelled. `heed` gets what there is, and when it was asked for."""
    version: str | None = None
    pauses = pace.pauses()
    while True:
        asked_at = clock()
        pause = pace.breath
        try:
            orders = await client.orders(None if version is None else pace.listen, version)
        except NotFound:
            log.info("the coordinator does not know how to be listened to: heartbeats will tell")
            pause = pace.deaf
        except RateLimited as limited:
            pause = max(next(pauses), limited.retry_after)
        except Unauthorized:
            # What that means is for the heartbeats to say.
            pause = pace.longest_pause
        except PitheadError:
            pause = next(pauses)
        else:
            pauses = pace.pauses()
            if orders.version != version:
                version = orders.version
                heed(orders, asked_at)
        await asyncio.sleep(max(0.0, pause - (clock() - asked_at)))
