"""Live events: one job's and an account's, as they happen, resumable, each party's own, and bounded."""

import asyncio
from typing import Any

import pytest
from tests.http.exchange import HASH, Client, Miner, Party, World, body, parked, problem
from tests.http.streams import Event, watching

from pithead.core.outputs import MOST
from pithead.exchange import live
from pithead.http import events as handlers
from pithead.http import sse
from pithead.store.errors import StoreError


async def tell(miner: Miner, job: str, text: str, offset: int, token: str | None = None, **more: Any) -> Any:
    headers = {} if token is None else {"Lease-Token": token}
    said = {"output": text, "output_offset": offset} | more
    return await miner.post(f"/jobs/{job}/progress", json=said, headers=headers)


def text_of(events: list[Event]) -> str:
    """The output that these events bring, which must join up."""
    whole = ""
    for event in events:
        if event.kind == "output":
            assert event.data["offset"] == len(whole)
            whole += event.data["text"]
    return whole


async def test_a_job_is_followed_from_its_queue_to_its_end_with_what_it_brings_forth(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    async with watching(world, client, f"/v1/jobs/{job}/events") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (await stream.until("job")).data == await client.job(job)
        await miner.take(job)
        assert (await stream.until("job", status="assigned")).data["miner_id"] == miner.id
        body(await tell(miner, job, "Once ", 0, fraction=0.25, message="5 tokens"))
        piece = await stream.until("output")
        assert piece.data == {"job_id": job, "attempt": 1, "offset": 0, "text": "Once "}
        await stream.until("job", status="running", progress=0.25, progress_message="5 tokens")
        body(await tell(miner, job, "upon", 5))
        assert (await stream.until("output")).data["text"] == "upon"
        body(await miner.complete(job))
        assert (await stream.until("job", status="completed")).data["result_hash"] == HASH
        assert await stream.rest() == []


async def test_whoever_was_cut_off_goes_on_behind_the_last_event_and_misses_nothing(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    path = f"/v1/jobs/{job}/events"
    body(await tell(miner, job, "one ", 0))
    async with watching(world, client, path) as stream:
        first = await stream.until("output")
    body(await tell(miner, job, "two ", 4))
    async with watching(world, client, path, after=first.id) as stream:
        second = await stream.until("output")
        assert second.data == {"job_id": job, "attempt": 1, "offset": 4, "text": "two "}
    body(await miner.complete(job))
    async with watching(world, client, path, after=second.id) as stream:
        [last] = await stream.rest()
        assert (last.kind, last.data["status"]) == ("job", "completed")
    # There is nothing more to come: browsers are told not to ask again.
    async with watching(world, client, path, after=last.id) as stream:
        assert stream.status == 204


@pytest.mark.parametrize("after", ["", "x", "1-2", "1-2-3-4", "-1-0-0", "1-99999999999999999999-0", "a-b-c"])
async def test_an_id_that_says_nothing_is_the_beginning(world: World, after: str) -> None:
    client = await world.client()
    job = await client.submit()
    for party in (client, world.operator):
        async with watching(world, party, f"/v1/jobs/{job}/events", after=after, query="wait=0") as stream:
            assert [event.kind for event in await stream.rest()] == ["job"]


async def test_a_new_attempt_begins_its_output_anew(world: World) -> None:
    client, first, second = await world.client(), await world.miner(), await world.miner(name="other")
    job = await client.submit()
    token = (await first.take(job))["lease_token"]
    body(await tell(first, job, "lost work", 0, token))
    async with watching(world, client, f"/v1/jobs/{job}/events") as stream:
        assert (await stream.until("output")).data["attempt"] == 1
        body(await first.fail(job))
        await stream.until("job", status="queued")
        newer = (await second.take(job))["lease_token"]
        # Whoever held it before is fenced off.
        problem(await tell(first, job, "more of it", 9, token), 409)
        problem(await tell(second, job, "x", 0, token), 409)
        body(await tell(second, job, "good work", 0, newer))
        piece = await stream.until("output")
        assert piece.data == {"job_id": job, "attempt": 2, "offset": 0, "text": "good work"}


async def test_a_piece_told_twice_or_over_a_gap_changes_nothing(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    assert body(await tell(miner, job, "abc", 0))["output_size"] == 3
    assert body(await tell(miner, job, "abc", 0))["output_size"] == 3
    assert body(await tell(miner, job, "bcde", 1))["output_size"] == 5
    assert body(await tell(miner, job, "z", 9))["output_size"] == 5
    assert body(await tell(miner, job, "\N{GRINNING FACE}\x00", 5))["output_size"] == 7
    shown = (await client.job(job))["output"]
    assert shown == {"attempt": 1, "offset": 0, "text": "abcde\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"}
    problem(await tell(miner, job, "a" * 65_537, 0), 422, "output")
    problem(await tell(miner, job, "a", -1), 422, "output_offset")


async def test_output_is_bounded_and_of_a_long_one_the_end_is_shown(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    size = 0
    while size < MOST:
        size = body(await tell(miner, job, f"{size:08}" + "x" * 60_000, size))["output_size"]
    assert size == MOST
    assert body(await tell(miner, job, "more", size))["output_size"] == MOST
    shown = (await client.job(job))["output"]
    assert shown["offset"] + len(shown["text"]) == MOST
    async with watching(world, client, f"/v1/jobs/{job}/events", query="wait=0") as stream:
        pieces = await stream.rest()
    assert len(text_of(pieces)) == MOST
    # Once it is finished, the result is what counts; some time later nothing is left of this.
    body(await miner.complete(job))
    assert (await client.job(job))["output"] is None
    await world.later(700)
    await world.application.coordinator.say_alive()
    assert await world.application.coordinator.peek(lambda tx: tx.output_size(1, 1)) == 0


async def test_each_party_sees_its_own_and_the_operator_all(world: World) -> None:
    mine, other = await world.client(), await world.client()
    miner, idle = await world.miner(), await world.miner(name="idle")
    feeds = "/v1/account/events"
    async with (
        watching(world, mine, feeds) as mine_sees,
        watching(world, other, feeds) as other_sees,
        watching(world, miner, feeds) as miner_sees,
        watching(world, idle, feeds) as idle_sees,
        watching(world, world.operator, feeds) as operator_sees,
    ):
        for stream in (mine_sees, other_sees, miner_sees, idle_sees, operator_sees):
            assert (await stream.until("sync")).data == {"resumed": False}
        job = await mine.submit()
        await miner.take(job)
        body(await miner.post(f"/jobs/{job}/progress", json={"fraction": 0.5}))
        body(await miner.post(f"/jobs/{job}/progress", json={"fraction": 0.75}))
        body(await miner.complete(job))
        body(await miner.put(json={"payout_destination": "a bank"}))
        payout = body(await miner.post("/payouts"), 201)["payout_id"]
        body(await world.operator.post(f"/payouts/{payout}/reject", json={"note": "no"}))
        theirs = await other.submit()

        seen = [(await mine_sees.until("job")).data for _ in range(5)]
        assert [(one["status"], one["progress"]) for one in seen] == [
            ("queued", None), ("assigned", None), ("running", 0.5), ("running", 0.75), ("completed", None),
        ]  # fmt: skip
        assert {(one["job_id"], one["client_id"]) for one in seen} == {(job, mine.id)}
        assert (await other_sees.until("job")).data["job_id"] == theirs
        assert [(await miner_sees.until("job")).data["status"] for _ in range(4)][-1] == "completed"
        await miner_sees.until("payout", status="requested", payout_id=payout)
        await miner_sees.until("payout", status="rejected")
        # Words about progress alone are not everybody's business.
        seen = [(await operator_sees.until("job")).data for _ in range(5)]
        assert [one["status"] for one in seen] == ["queued", "assigned", "running", "completed", "queued"]
        body(await world.operator.post(f"/miners/{idle.id}/suspend"))
        assert (await idle_sees.until("miner")).data["status"] == "suspended"
        await operator_sees.until("miner", miner_id=idle.id, status="suspended")


async def test_an_account_goes_on_behind_its_last_event(world: World) -> None:
    client = await world.client()
    path = "/v1/account/events"
    async with watching(world, client, path) as stream:
        begun = await stream.until("sync")
        one = await client.submit()
        seen = await stream.until("job", job_id=one)
    two = await client.submit()
    async with watching(world, client, path, after=seen.id) as stream:
        assert (await stream.until("sync")).data == {"resumed": True}
        assert (await stream.until("job")).data["job_id"] == two
    async with watching(world, client, path, after=begun.id, query="wait=0") as stream:
        assert [event.data.get("job_id") for event in await stream.rest()] == [None, one, two]


async def test_where_something_may_be_missing_it_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEPT", 3)
    client = await world.client()
    path = "/v1/account/events"
    async with watching(world, client, path) as stream:
        begun = await stream.until("sync")
    # Another coordinator's id, of a time that this one has kept.
    number, at, _ = begun.id.split("-")
    world.clock.now += 10
    await client.submit()
    late = f"{number}-{int(at) + 8000}-other"
    for after, resumed in ((begun.id, True), (late, True), ("1-1-other", False), ("x", False)):
        async with watching(world, client, path, after=after, query="wait=0") as stream:
            assert (await stream.until("sync")).data == {"resumed": resumed}
    for _ in range(4):
        await client.submit()
    async with watching(world, client, path, after=begun.id, query="wait=0") as stream:
        assert [event.data for event in await stream.rest()] == [{"resumed": False}]
    # Once nobody has watched for long enough, nothing is kept.
    await world.later(live.KEPT_FOR + 1)
    assert not world.application.coordinator.live.watched


async def test_a_reader_that_falls_behind_is_cut_off_and_resumes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEHIND", 2)
    client = await world.client()
    path = "/v1/account/events"
    async with watching(world, client, path, room=1) as stream:
        submitted = [await client.submit() for _ in range(8)]
        seen = await stream.rest()
    assert 0 < len(seen) < 8
    read = [event.data["job_id"] for event in seen if event.kind == "job"]
    assert read == submitted[: len(read)]
    monkeypatch.setattr(live, "BEHIND", 1000)
    async with watching(world, client, path, after=seen[-1].id, query="wait=0") as stream:
        assert [event.data.get("job_id") for event in await stream.rest()] == [None, *submitted[len(read) :]]


async def test_a_reader_that_does_not_read_is_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PATIENCE", 0.01)
    client = await world.client()
    async with watching(world, client, "/v1/account/events", room=1) as stream:
        for _ in range(4):
            await client.submit()
        await asyncio.wait_for(asyncio.shield(stream.task), 5)


async def test_a_stream_that_is_silent_says_that_it_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "PING_EVERY", 0.001)
    client = await world.client()
    job = await client.submit()
    for path in ("/v1/account/events", f"/v1/jobs/{job}/events"):
        async with watching(world, client, path, query="wait=0.05") as stream:
            await stream.rest()
            assert stream.pings


async def test_nobody_watches_what_is_not_theirs_or_with_a_key_that_has_ended(world: World) -> None:
    client, stranger, miner = await world.client(), await world.client(), await world.miner()
    job = await client.submit()
    problem(await stranger.get(f"/v1/jobs/{job}/events"), 404)
    problem(await client.get("/v1/jobs/job_unknown/events"), 404)
    problem(await world.http.get(f"/v1/jobs/{job}/events"), 401)
    problem(await Party(world.http, miner.key).get(f"/v1/jobs/{job}/events"), 403)
    problem(await world.http.get("/v1/account/events"), 401)
    problem(await client.get("/v1/account/events", params={"wait": "-1"}), 422, "wait")
    for path in ("/v1/account/events", f"/v1/jobs/{job}/events"):
        watcher = await world.client() if path.startswith("/v1/account") else client
        async with watching(world, watcher, path) as stream:
            await stream.next()
            body(await world.operator.delete(f"/accounts/{watcher.id}/keys"))
            if watcher is client:
                body(await world.operator.delete(f"/jobs/{job}"))
            else:
                world.application.coordinator.live.gap()
            assert await stream.rest() == []


async def test_streams_end_with_the_coordinator(world: World) -> None:
    client = await world.client()
    job = await client.submit()
    async with (
        watching(world, client, "/v1/account/events") as account,
        watching(world, client, f"/v1/jobs/{job}/events") as one,
    ):
        await account.next(), await one.next()
        await parked(account.task)
        world.application.coordinator.stop()
        assert await account.rest() == await one.rest() == []


async def test_where_nobody_watches_nothing_is_kept(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    body(await miner.complete(job))
    assert not world.application.coordinator.live.watched
    assert isinstance(client, Client)
    async with watching(world, client, f"/v1/jobs/{job}/events") as stream:
        assert [event.kind for event in await stream.rest()] == ["job"]
    assert not world.application.coordinator.live.watched


async def test_an_account_has_so_many_streams_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STREAMS", 2)
    client, other = await world.client(), await world.client()
    job = await client.submit()
    path = f"/v1/jobs/{job}/events"
    async with watching(world, client, path), watching(world, client, "/v1/account/events"):
        refused = await client.get(path, params={"wait": 0})
        assert problem(refused, 429)["type"] == "/problems/too-many-streams"
        assert refused.headers["Retry-After"] == "10"
        problem(await client.get("/v1/account/events", params={"wait": 0}), 429)
        assert (await other.get("/v1/account/events", params={"wait": 0})).status_code == 200
    assert (await client.get(path, params={"wait": 0})).status_code == 200


async def test_a_stream_ends_where_the_database_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await world.client()
    job = await client.submit()
    async with watching(world, client, f"/v1/jobs/{job}/events") as stream:
        seen = await stream.until("job")

        async def away(read: object) -> object:
            raise StoreError("the database does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(world.application.coordinator, "peek", away)
            world.application.coordinator.live.ring_all()
            await asyncio.wait_for(asyncio.shield(stream.task), 5)
    assert not [record for record in caplog.records if record.exc_info]
    body(await client.delete(f"/v1/jobs/{job}"))
    async with watching(world, client, f"/v1/jobs/{job}/events", after=seen.id) as stream:
        await stream.until("job", status="cancelled")
