"""The owner's word, kept in force by a running agent, with a real coordinator."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.agent.rig import Hands, Rig, answered, lost_request

from pithead.agent.owner.governor import Governor
from pithead.agent.owner.settings import put
from pithead.agent.record import Record, read
from pithead.agent.runners.base import About


class House:
    """An owner's file, what is measured, and what is shown."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.file, self.shown = rig, folder / "miner.toml", folder / "state.json"
        self.gpu: dict[str, Any] = {"index": 0, "temperature_celsius": 50, "others_percent": 0}
        self.free = 1e12

    def set(self, key: str, text: str | None) -> None:
        put(self.file, key, text)

    async def sample(self) -> dict[str, Any]:
        return {"gpus": [dict(self.gpu)]}

    def life(self, hands: Hands | None = None, **more: Any) -> Any:
        time = self.rig.time
        self.record = Record(self.shown, wall=lambda: time.now, miner_id=self.rig.miner.id)
        governor = Governor(
            self.file,
            self.record,
            clock=time.monotonic,
            now=lambda: datetime.fromtimestamp(time.now, UTC),
            memory=lambda: self.free,
        )
        self.governor = governor
        return self.rig.life(hands, governor=governor, record=self.record, telemetry=self.sample, **more)


@pytest.fixture
def house(rig: Rig, tmp_path: Path) -> House:
    return House(rig, tmp_path / "owner")


async def status(rig: Rig) -> str:
    return str((await rig.miner.get()).json()["status"])


async def test_a_pause_takes_effect_without_a_restart_and_so_does_its_end(rig: Rig, house: House) -> None:
    async with house.life() as life:
        running = await life.given()
        house.set("pause", "yes")
        await rig.passes(5)
        assert await status(rig) == "draining"
        waiting = await rig.client.submit()
        await rig.passes(60)
        assert [work.job for work in life.hands.running] == [running.job], "what runs goes on, nothing new is taken"
        running.done()
        await rig.settled()
        assert (await rig.client.job(running.job))["status"] == "completed"
        house.set("pause", None)
        await rig.passes(8)
        assert await status(rig) == "active"
        assert [work.job for work in life.hands.running] == [waiting]


async def test_a_pause_holds_while_the_coordinator_is_away_and_is_told_when_it_is_back(rig: Rig, house: House) -> None:
    async with house.life() as life:
        await rig.passes(3)
        rig.line.next("update", *[lost_request] * 4)
        house.set("pause", "yes")
        await rig.passes(3)
        job = await rig.client.submit()
        await rig.passes(60)
        assert life.hands.works == []
        assert (await rig.client.job(job))["attempts"] == 0
        assert await status(rig) == "draining"


async def test_the_registration_follows_the_owner(rig: Rig, house: House) -> None:
    async with house.life(Hands("gpt2", "llama")) as life:
        before = len(rig.line.calls("update"))
        house.set("max_concurrent", "2")
        house.set("price_per_hour", "0.01")
        house.set("models", "llama,other")
        await rig.passes(3)
        view = (await rig.miner.get()).json()
        assert (view["max_concurrent"], view["price_per_hour"], view["models"]) == (2, 0.01, ["llama"])
        assert life.hands.at_once == 2
        await rig.passes(60)
        assert len(rig.line.calls("update")) == before + 1, "told once, not with every look"


async def test_only_the_kinds_that_the_owner_takes_are_offered_and_taken(rig: Rig, house: House) -> None:
    about = {"gpt2": About("llama"), "command:it": About("command"), "served": About("openai")}
    async with house.life(Hands(*about), about=about) as life:
        house.set("kinds", "llama,openai")
        # Not even before the coordinator has heard of it.
        rig.line.next("update", *[lost_request] * 8)
        await rig.passes(3)
        refused = await rig.client.submit(model="command:it")
        await rig.passes(5)
        assert life.hands.works == []
        assert "jobs of the kind command are not taken" in house.record.state.refused
        await rig.passes(60)
        assert (await rig.miner.get()).json()["models"] == ["gpt2", "served"]
        taken = [await rig.client.submit(model=model) for model in ("gpt2", "served")]
        await rig.passes(5)
        assert {work.job for work in life.hands.running} == set(taken)
        house.set("kinds", None)
        await rig.passes(25)
        assert (await rig.miner.get()).json()["models"] == sorted(about)
        assert refused in {work.job for work in life.hands.running}


async def test_more_and_fewer_at_a_time_hold_while_it_runs_and_what_was_registered_holds_again(
    rig: Rig, house: House
) -> None:
    jobs = [await rig.client.submit() for _ in range(5)]
    house.set("max_concurrent", "1")
    async with house.life(registered={"max_concurrent": 3, "price_per_hour": "0.04"}) as life:
        await rig.passes(5)
        assert len(life.hands.running) == 1
        house.set("max_concurrent", "2")
        await rig.passes(5)
        assert (len(life.hands.running), life.hands.at_once) == (2, 2)
        house.set("max_concurrent", "1")
        await rig.passes(5)
        life.hands.running[0].done()
        await rig.passes(5)
        assert (len(life.hands.running), life.hands.at_once) == (1, 1), "what ran went on, and nothing came after it"
        house.set("max_concurrent", None)
        await rig.passes(5)
        view = (await rig.miner.get()).json()
        assert (view["max_concurrent"], view["price_per_hour"]) == (3, 0.05), "what was never set is not touched"
        assert (len(life.hands.running), life.hands.at_once) == (3, 3)
        assert len(jobs) == 1 + 3 + 1


async def test_what_the_coordinator_refuses_is_logged_and_the_next_change_is_told(
    rig: Rig, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async with house.life():
        rig.line.next("update", answered(422))
        house.set("price_per_hour", "0.0000001")
        await rig.passes(3)
        assert "does not take what the owner set" in caplog.text
        house.set("price_per_hour", "0.02")
        await rig.passes(3)
        assert (await rig.miner.get()).json()["price_per_hour"] == 0.02


async def test_a_hot_gpu_takes_nothing_until_it_has_been_cool_for_a_while(rig: Rig, house: House) -> None:
    house.set("limits.temperature", "80")
    house.set("settle", "30")
    house.gpu["temperature_celsius"] = 90
    job = await rig.client.submit()
    async with house.life() as life:
        await rig.passes(10)
        assert "90 °C at GPU 0" in house.record.state.nothing_because()
        house.gpu["temperature_celsius"] = 70
        await rig.passes(20)
        assert life.hands.works == []
        await rig.passes(30)
        assert [work.job for work in life.hands.running] == [job]


async def test_while_the_owner_uses_the_gpu_nothing_is_taken(rig: Rig, house: House) -> None:
    house.set("limits.others", "10")
    house.set("settle", "0")
    async with house.life() as life:
        house.gpu["others_percent"] = 55
        await rig.passes(3)
        await rig.client.submit()
        await rig.passes(30)
        assert life.hands.works == []
        assert house.record.state.why == "others use 55 % of GPU 0, over the limit of 10"
        house.gpu["others_percent"] = 4
        await rig.passes(10)
        assert len(life.hands.running) == 1


async def test_jobs_of_a_refused_client_are_passed_by_and_others_behind_them_are_not(rig: Rig, house: House) -> None:
    other = await rig.world.client()
    house.set("clients_refused", rig.client.id)
    refused = [await rig.client.submit() for _ in range(12)]
    wanted = await other.submit()
    async with house.life() as life:
        await rig.passes(5)
        assert [work.job for work in life.hands.running] == [wanted]
        assert life.hands.running[0].assignment.client_id == other.id
        life.hands.running[0].done()
        await rig.passes(15)
        assert (await rig.client.job(refused[0]))["attempts"] == 0
        assert house.record.state.nothing_because() == f"what is queued is passed by: {rig.client.id} is refused"


async def test_jobs_that_pay_too_little_are_passed_by(rig: Rig, house: House) -> None:
    house.set("minimum_price", "0.06")
    await rig.client.submit()
    better = await rig.client.submit(price=0.07)
    async with house.life() as life:
        await rig.passes(5)
        assert [work.job for work in life.hands.running] == [better]


async def test_a_file_that_breaks_changes_nothing_and_is_said_once(
    rig: Rig, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.set("max_concurrent", "2")
    async with house.life():
        house.file.write_text("max_concurrent = ")
        await rig.passes(20)
        assert sum("is not valid TOML" in record.message for record in caplog.records) == 1
        assert (await rig.miner.get()).json()["max_concurrent"] == 2
        house.file.unlink()
        await rig.passes(5)
        assert house.governor.owner.max_concurrent is None


async def test_failures_in_a_row_pause_it_and_are_forgiven_after_an_hour(rig: Rig, house: House) -> None:
    house.set("alerts.failures.at", "2")
    house.set("alerts.failures.action", "pause")
    async with house.life() as life:
        for _ in range(2):
            (await life.given(max_attempts=1)).failed("error")
            await rig.passes(3)
        await rig.client.submit()
        await rig.passes(60)
        assert len(life.hands.works) == 2
        assert house.record.state.alerts == ["2 jobs failed one after the other"]
        assert await status(rig) == "draining"
        await rig.passes(3700, step=50)
        assert len(life.hands.works) == 3


async def test_an_alert_throttles_and_runs_the_owners_program_once(rig: Rig, house: House, tmp_path: Path) -> None:
    said = tmp_path / "said"
    house.set("alerts.temperature.at", "80")
    house.set("alerts.temperature.action", "throttle")
    house.set("alerts.command", f"sh -c 'echo \"$0\" >> {said}'")
    house.gpu["temperature_celsius"] = 85
    for _ in range(3):
        await rig.client.submit()
    async with house.life() as life:
        await rig.passes(20)
        assert len(life.hands.running) == 1
        await asyncio.shield(house.governor.bell.quiet())
        assert said.read_text() == "a GPU has 85 °C\n"
        house.gpu["temperature_celsius"] = 60
        await rig.passes(10)
        assert len(life.hands.running) == 3
        assert house.record.state.alerts == []


async def test_what_it_does_is_in_a_file_for_its_owner(rig: Rig, house: House) -> None:
    async with house.life() as life:
        work = await life.given()
        work.report(0.5, "half")
        await rig.passes(3)
        state = read(house.shown)
        assert state is not None
        [job] = state.jobs
        assert (job.job_id, job.state, job.fraction, job.client_id) == (work.job, "running", 0.5, rig.client.id)
        assert (state.miner_status, state.may, state.nothing_because()) == ("active", True, "")
        assert house.shown.stat().st_mode & 0o777 == 0o600
        work.done()
        await rig.passes(20)
        state = read(house.shown)
        assert state is not None
        assert (state.completed, state.earned, state.jobs) == (1, Decimal("0.05"), [])
        assert [(hour.jobs, hour.earned) for hour in state.hours] == [(1, Decimal("0.05"))]
        assert state.nothing_because() == "nothing queued fits this machine"
    # The next life goes on counting.
    async with house.life():
        assert len(house.record.state.hours) == 1
        assert house.record.data_today() == state.data_today > 0


async def test_a_limit_on_data_counts_inputs_and_results_of_the_day(rig: Rig, house: House) -> None:
    house.set("limits.data_per_day", "0.001")
    async with house.life() as life:
        (await life.given()).done(b"x" * 1200)
        await rig.passes(3)
        await rig.client.submit()
        await rig.passes(30)
        assert len(life.hands.works) == 1
        assert "MB of data today" in house.record.state.why


async def test_an_end_with_a_limit_hands_back_what_is_not_done_by_then(rig: Rig, house: House) -> None:
    async with house.life() as life:
        work = await life.given()
        life.agent.interrupt(30)
        await rig.passes(29)
        assert not life.task.done()
        assert await status(rig) == "draining"
        await rig.passes(3)
        assert await life.ended() is False
        assert work.stopped()
        assert (await rig.client.job(work.job))["status"] == "queued"
        state = read(house.shown)
        assert state is not None
        assert (state.pid, state.draining) == (0, True)
