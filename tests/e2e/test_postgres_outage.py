"""PostgreSQL is gone for a while under a coordinator in a process of its own: told clearly, and over by itself."""

import asyncio
import signal
from pathlib import Path

from tests.http.exchange import JOB, body, connect, hash_of, problem
from tests.http.server import OPERATOR_KEY, UNLIMITED, serve
from tests.postgres import Server


async def test_everybody_is_told_nothing_is_lost_and_it_ends_by_itself(tmp_path: Path) -> None:
    with Server() as server:
        database = server.tcp_url(server.create())
        # It must end in order, and with no traceback in its log.
        with serve(tmp_path / "data", PITHEAD_DATABASE=database, **UNLIMITED) as url:
            async with connect(url, OPERATOR_KEY) as api:
                client, miner = await api.client(), await api.miner()
                held, queued = await client.submit(require_result=True), await client.submit()
                token = (await miner.take(held))["lease_token"]
                body(await miner.upload(held, b"bytes"))
                order = {"json": JOB, "headers": {"Idempotency-Key": "order-1"}}

                server.stop(signal.SIGKILL)
                asked = await asyncio.gather(
                    client.post("/v1/jobs", **order),
                    client.delete(f"/v1/jobs/{queued}"),
                    miner.complete(held, hash_of(b"bytes"), token),
                    client.get(f"/v1/jobs/{held}"),
                )
                for answer in asked:
                    assert problem(answer, 503)["type"] == "/problems/store-unavailable"
                    assert int(answer.headers["retry-after"]) > 0
                assert body(await api.http.get("/healthz"))["status"] == "ok"

                await asyncio.to_thread(server.start_again)
                # Whoever asks again, as the 503 said, is served: nobody has to time it.
                async with asyncio.timeout(30):
                    while (await client.post("/v1/jobs", **order)).status_code == 503:  # noqa: ASYNC110 (a server is asked)
                        await asyncio.sleep(0.2)
                answers = [body(await client.post("/v1/jobs", **order), 201) for _ in range(2)]
                assert answers[0] == answers[1]
                assert (await client.job(queued))["status"] == "queued"
                assert body(await miner.complete(held, hash_of(b"bytes"), token))["earned"] == 0.05
                assert body(await client.delete(f"/v1/jobs/{queued}"))["status"] == "cancelled"
                assert len(body(await client.get("/v1/jobs"))["jobs"]) == 3
                assert await client.balance() == (99.9, 0.05)
                assert sum((await api.ledger()).values()) == 0
