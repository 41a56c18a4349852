"""What `/metrics` says, to whom, and that it is true."""

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.http.exchange import HASH, Clock, World, problem, run_world

from pithead.exchange.figures import Queue, bounded
from pithead.exchange.tally import MODELS, OTHER, Tally
from pithead.wire.endpoints import ENDPOINTS

TOKEN = "scrape-me"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with run_world(tmp_path, Clock(), metrics={"token": TOKEN}) as world:
        yield world


async def page(world: World, token: str = TOKEN) -> httpx.Response:
    return await world.http.get("/metrics", headers={"Authorization": f"Bearer {token}"})


async def scrape(world: World) -> dict[str, float]:
    answer = await page(world)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def read(text: str) -> dict[str, float]:
    """Every sample, as `name{label="value",…}`, with the labels in order."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def busy(world: World) -> None:
    """A bit of everything: jobs that complete, fail, lapse, are handed back, cancelled, and wait."""
    client, miner = await world.client(), await world.miner()
    done, failed, lapsed, released, cancelled = [await client.submit(priority=9 - n) for n in range(5)]
    world.clock.now += 3
    await miner.take(done)
    world.clock.now += 20
    assert (await miner.complete(done)).status_code == 200
    await miner.take(failed)
    await miner.fail(failed, "bad_input")
    await miner.take(released)
    await miner.release(released)
    await miner.take(cancelled)
    await client.delete(f"/v1/jobs/{cancelled}")
    await miner.take(lapsed)
    await world.later(150)
    await client.submit(model="another", gpu_type="any")
    problem(await miner.accept("job_unknown"), 404)
    await world.http.get("/v1/jobs")


async def test_what_happened_is_counted(world: World) -> None:
    await busy(world)
    samples = await scrape(world)
    expected = {
        "pithead_jobs_submitted_total": 6,
        'pithead_jobs_finished_total{state="completed"}': 1,
        'pithead_jobs_finished_total{state="failed"}': 1,
        'pithead_jobs_finished_total{state="cancelled"}': 1,
        'pithead_jobs_finished_total{state="expired"}': 0,
        "pithead_leases_given_total": 5,
        'pithead_attempts_ended_total{outcome="completed"}': 1,
        'pithead_attempts_ended_total{outcome="failed"}': 1,
        'pithead_attempts_ended_total{outcome="lapsed"}': 1,
        'pithead_attempts_ended_total{outcome="released"}': 1,
        'pithead_attempts_ended_total{outcome="cancelled"}': 1,
        'pithead_job_wait_seconds_bucket{le="1.0"}': 0,
        'pithead_job_wait_seconds_bucket{le="5.0"}': 1,
        "pithead_job_wait_seconds_count": 5,
        "pithead_job_attempt_seconds_sum": 20,
        'pithead_model_jobs_completed_total{model="gpt2"}': 1,
        'pithead_model_paid_total{model="gpt2"}': 0.05,
        'pithead_http_problems_total{operation="accept_job",problem="not-found",status="404"}': 1,
        'pithead_http_problems_total{operation="none",problem="unauthorized",status="401"}': 1,
        'pithead_http_request_duration_seconds_count{operation="accept_job"}': 5,
        'pithead_queue_jobs{gpu_type="any",model="another"}': 1,
        'pithead_queue_oldest_age_seconds{gpu_type="any",model="another"}': 0,
        'pithead_queue_jobs{gpu_type="v100",model="gpt2"}': 2,
        'pithead_queue_oldest_age_seconds{gpu_type="v100",model="gpt2"}': 173,
        'pithead_jobs{state="queued"}': 3,
        'pithead_miners{status="active"}': 1,
        "pithead_ledger_imbalance": 0,
        "pithead_database_up": 1,
        "pithead_miners_waiting": 0,
    }
    assert {name: samples[name] for name in expected} == pytest.approx(expected)
    balances = {name: value for name, value in samples.items() if name.startswith("pithead_ledger_balance")}
    assert balances['pithead_ledger_balance{class="miner"}'] == 0.05
    assert sum(balances.values()) == pytest.approx(0)
    operations = samples["pithead_commit_operations_sum"]
    assert operations >= samples["pithead_commit_operations_count"] > 10
    assert samples["pithead_commit_duration_seconds_count"] == samples["pithead_commit_operations_count"]


async def test_only_the_token_and_the_operator_read_it(world: World) -> None:
    client = await world.client()
    assert (await page(world)).headers["content-type"].startswith("text/plain; version=")
    assert (await page(world, world.application.settings.operator_key)).status_code == 200
    for key in ("", "key_unknown", client.key, TOKEN[:-1]):
        problem(await page(world, key), 401)
    problem(await world.http.get("/metrics"), 401)
    # The token is no key.
    problem(await world.http.get("/v1/admin/overview", headers={"Authorization": f"Bearer {TOKEN}"}), 401)


async def test_without_a_token_only_the_operator_reads_it(tmp_path: Path) -> None:
    async with run_world(tmp_path, Clock()) as world:
        problem(await page(world, ""), 401)
        assert (await page(world, world.application.settings.operator_key)).status_code == 200


async def test_the_database_is_asked_once_for_many_scrapes(world: World) -> None:
    before = (await scrape(world))['pithead_jobs{state="queued"}']
    client = await world.client()
    await client.submit()
    after = await scrape(world)
    assert (before, after['pithead_jobs{state="queued"}'], after["pithead_jobs_submitted_total"]) == (0, 0, 1)


def test_what_others_name_is_shown_in_bounds() -> None:
    queues = [Queue("v100", f"model-{n}", n, 1000.0 - n) for n in range(8)]
    assert bounded(queues, 8) == queues
    shown = bounded(queues, 3)
    assert {queue.model for queue in shown} == {"model-7", "model-6", "model-5", OTHER}
    assert shown[-1] == Queue(OTHER, OTHER, 0 + 1 + 2 + 3 + 4, 1000.0)
    tally = Tally()
    for n in range(MODELS + 5):
        tally._model(f"model-{n}")[0] += 1
    assert len(tally.models) == MODELS + 1
    assert tally.models[OTHER][0] == 5


async def test_operations_are_named_as_the_api_names_them(world: World) -> None:
    await busy(world)
    found = re.findall(r'operation="([^"]+)"', (await page(world)).text)
    assert found
    assert set(found) <= {endpoint.name for endpoint in ENDPOINTS} | {"none"}


def linted(text: str) -> str:
    """What promtool has to say about our part of a page."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: make promtool"
    ours = "".join(line for line in text.splitlines(keepends=True) if "pithead_" in line)
    checked = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False)
    return checked.stdout + checked.stderr


async def test_promtool_finds_nothing_wrong_with_it(world: World) -> None:
    """Names, units and types as Prometheus wants them."""
    await busy(world)
    assert linted((await page(world)).text) == ""
    assert "no_total" in linted("# HELP pithead_no_total A gauge.\n# TYPE pithead_no_total gauge\npithead_no_total 1\n")


async def test_no_key_and_no_id_is_in_it(world: World) -> None:
    await busy(world)
    text = (await page(world)).text
    assert HASH not in text
    assert not re.search(r"key_|job_[a-z0-9]{10}|miner_[a-z0-9]{10}|client_[a-z0-9]{10}", text)
