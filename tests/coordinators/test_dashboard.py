"""The dashboard where several coordinators share a PostgreSQL database."""

from hashlib import sha256

from tests.coordinators.conftest import Pair, until
from tests.http.exchange import body
from tests.web.visitor import Visitor


async def test_a_session_holds_everywhere_and_ends_everywhere_with_its_key(pair: Pair) -> None:
    client = await pair.a.client()
    here, there = Visitor(pair.a.http), Visitor(pair.b.http)
    await here.sign_in(client.key)
    there.cookies = here.cookies
    assert (await there.get("/dashboard")).status_code == 200
    body(await pair.a.operator.delete(f"/accounts/{client.id}/keys"))
    assert (await here.get("/dashboard")).status_code == 303

    async def ended() -> bool:
        return (await there.get("/dashboard")).status_code == 303

    await until(ended)


async def test_every_page_is_there(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner(gpu_type="v100")
    done, failed, queued = [await client.submit() for _ in range(3)]
    await miner.take(done)
    content = b"an answer"
    body(await miner.upload(done, content))
    body(await miner.complete(done, "sha256:" + sha256(content).hexdigest(), gpu_time_seconds=3))
    await miner.take(failed)
    body(await miner.fail(failed))
    await miner.put("", json={"payout_destination": "somewhere"})
    body(await miner.post("/payouts", json={"amount": 0.01}), 201)
    await miner.post("/heartbeat", json={"telemetry": {"load": 0.5}})
    # Where each role looks, at the other coordinator; and a word that has to be there.
    looked = {
        "key_operator-of-these-tests": [
            ("/dashboard", "an hour ago"), ("/dashboard/miners", "my-miner"), (f"/dashboard/miners/{miner.id}", "Load"),
            ("/dashboard/jobs", queued), (f"/dashboard/jobs/{done}", "receipt_"), (f"/dashboard/jobs/{failed}", "no luck"),
            ("/dashboard/clients", client.id), (f"/dashboard/clients/{client.id}", "hold"), ("/dashboard/money", "somewhere"),
            ("/dashboard/money/payouts", "somewhere"), (f"/dashboard/money/accounts/{client.id}", "hold"),
            ("/dashboard/audit", "session.open"), ("/dashboard/settings", "postgresql://"),
        ],
        client.key: [("/dashboard", queued), (f"/dashboard/jobs/{queued}", "Why it waits"), ("/dashboard/spending", "gpt2"), ("/dashboard/submit", "v100"), ("/dashboard/files", "No file yet")],
        miner.key: [("/dashboard", "my-miner"), ("/dashboard/earnings", "gpt2"), ("/dashboard/payouts", "somewhere")],
    }  # fmt: skip
    for key, pages in looked.items():
        visitor = Visitor(pair.b.http)
        await visitor.sign_in(key)
        for path, word in pages:
            answer = await visitor.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert word in answer.text, path
