"""`/metrics` of two coordinators: what each did is its own, and what the database says is the same at both."""

from tests.coordinators.conftest import Pair, at
from tests.http.exchange import World
from tests.http.test_metrics import page, read


async def scrape(world: World) -> dict[str, float]:
    return read((await page(world, world.application.settings.operator_key)).text)


async def test_each_counts_its_own_and_shows_the_whole(pair: Pair) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    first, second = await client.submit(), await at(pair.b, client).submit()
    await miner.take(first)
    await at(pair.b, miner).take(second)
    await at(pair.b, miner).complete(second)
    a, b = await scrape(pair.a), await scrape(pair.b)
    own = {
        "pithead_jobs_submitted_total": (1, 1),
        "pithead_leases_given_total": (1, 1),
        'pithead_jobs_finished_total{state="completed"}': (0, 1),
    }
    assert {name: (a[name], b[name]) for name in own} == own
    shared = {
        'pithead_jobs{state="assigned"}': 1,
        'pithead_miners{status="active"}': 1,
        'pithead_ledger_balance{class="miner"}': 0.05,
        "pithead_ledger_imbalance": 0,
        "pithead_database_up": 1,
    }
    for samples in (a, b):
        assert {name: samples[name] for name in shared} == shared
        assert samples["pithead_commit_operations_count"] > 0
        assert samples["pithead_commit_duration_seconds_sum"] > 0
        assert samples['pithead_database_connections{use="idle"}'] >= 1
        assert "pithead_database_size_bytes" not in samples


async def test_a_database_that_does_not_answer_is_shown_and_the_rest_is_not_hidden(pair: Pair) -> None:
    await pair.a.client()
    pool = pair.a.application.database._pool  # type: ignore[union-attr]
    pool.close()
    samples = await scrape(pair.a)
    assert samples["pithead_database_up"] == 0
    assert samples["pithead_commit_operations_count"] > 0
    assert not [name for name in samples if name.startswith(("pithead_ledger", "pithead_queue", "pithead_miners{"))]
