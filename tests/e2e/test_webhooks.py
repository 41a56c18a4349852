"""A served coordinator tells a real receiver, by itself."""

import asyncio
from pathlib import Path
from typing import Any

from tests.http.receiver import receiving
from tests.http.server import OPERATOR_KEY, serve

from pithead.client import AdminClient, AsyncClient, AsyncMinerClient


async def test_a_completed_job_is_told_as_it_happens(tmp_path: Path) -> None:
    with serve(tmp_path, PITHEAD_WEBHOOKS__ALLOWED_NETWORKS="127.0.0.0/8") as url:
        with AdminClient(url, OPERATOR_KEY) as operator:
            key = await asyncio.to_thread(lambda: operator.create_client("lab", 1).api_key)
        machine: dict[str, Any] = {
            "gpu_type": "cpu",
            "gpu_count": 1,
            "location": "",
            "price_per_hour": 0,
            "max_concurrent": 1,
        }
        made = await AsyncMinerClient.register(url, name="m", **machine)
        async with (
            receiving() as told,
            AsyncClient(url, key) as client,
            AsyncMinerClient(url, made.miner_id, made.api_key) as miner,
        ):
            webhook = await client.create_webhook(told.url)
            await miner.heartbeat()
            job = await client.submit("m", {"prompt": "Hi"}, price="0.01", require_result=False)
            await miner.accept(job.job_id)
            await miner.complete(job.job_id, "sha256:ab")
            await asyncio.wait_for(told.arrived.wait(), 10)
            said = told.told[0].says(webhook.secret)
            assert (said["type"], said["data"]["job_id"]) == ("job.completed", job.job_id)
