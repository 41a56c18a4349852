"""Pages: there for those who may see them, in plain HTML, bounded, and safe whatever others wrote."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.exchange import Client, body
from tests.web.conftest import Place
from tests.web.town import Town
from tests.web.visitor import Visitor

from pithead.store.tx import SqlTx
from pithead.web.table import PAGES


def paths(town: Town) -> dict[str, list[str]]:
    """Every page that is read, for each role."""
    jobs = [f"/dashboard/jobs/{job}" for job in (town.completed, town.running, town.queued, town.failed)]
    return {
        "operator": ["/dashboard", "/dashboard/miners", "/dashboard/miners?status=active", f"/dashboard/miners/{town.miner}",
                     f"/dashboard/miners/{town.pending_miner}", "/dashboard/jobs", "/dashboard/jobs?status=failed&model=sdxl-turbo", *jobs,
                     "/dashboard/clients", f"/dashboard/clients/{town.client}", "/dashboard/money", "/dashboard/money/payouts",
                     "/dashboard/money/payouts?status=approved", f"/dashboard/money/accounts/{town.client}",
                     f"/dashboard/money/accounts/{town.client}?account=held", "/dashboard/money/accounts/issued", "/dashboard/audit", "/dashboard/settings", "/dashboard/webhooks",
                     f"/dashboard/do/suspend_miner?miner_id={town.miner}"],
        "client": ["/dashboard", "/dashboard/jobs?status=completed", *jobs, "/dashboard/submit", "/dashboard/spending", "/dashboard/files", "/dashboard/webhooks"],
        "miner": ["/dashboard", "/dashboard/earnings", "/dashboard/payouts", "/dashboard/webhooks", "/dashboard/do/update_miner"],
    }  # fmt: skip


def test_the_list_above_has_every_page_that_is_read() -> None:
    shown = {re.sub(r"\{\w+\}", "*", page.path) for page in PAGES if page.method == "GET" and page.audience}
    shown -= {"/dashboard/events", "/dashboard/export/*.csv", "/dashboard/jobs/*/result"}
    assert shown == {
        "/dashboard", "/dashboard/do/*", "/dashboard/miners", "/dashboard/miners/*", "/dashboard/clients", "/dashboard/clients/*",
        "/dashboard/money", "/dashboard/money/payouts", "/dashboard/money/accounts/*", "/dashboard/audit", "/dashboard/settings",
        "/dashboard/webhooks", "/dashboard/webhooks/*", "/dashboard/jobs", "/dashboard/jobs/*", "/dashboard/submit", "/dashboard/files", "/dashboard/spending", "/dashboard/earnings", "/dashboard/payouts",
    }  # fmt: skip


async def test_every_page_is_there_without_scripts_or_styles_in_it(place: Place) -> None:
    for role, some in paths(place.town).items():
        for path in some:
            answer = await getattr(place, role).get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert answer.headers["cache-control"] == "no-store"
            page = answer.text
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style| style=| on\w+=\"", page), path
            assert len(page) < 60_000
            assert "None" not in re.sub(r"<[^>]*>", "", page), path


@pytest.mark.parametrize("role", ["client", "miner"])
async def test_what_is_for_others_is_not_there(place: Place, role: str) -> None:
    own = paths(place.town)
    for path in own["operator"]:
        if path not in own[role] and path.partition("?")[0] not in {one.partition("?")[0] for one in own[role]}:
            assert (await getattr(place, role).get(path)).status_code == 404, path


async def test_a_client_sees_its_own_jobs_alone(place: Place) -> None:
    other = await place.world.client()
    job = await other.submit(model="secret-model")
    assert (await place.client.get(f"/dashboard/jobs/{job}")).status_code == 404
    assert (await place.client.get(f"/dashboard/jobs/{job}/result")).status_code == 404
    assert (await place.client.get(f"/dashboard/events?of=job:{job}")).status_code == 404
    assert "secret-model" not in (await place.client.get("/dashboard/jobs")).text
    assert "secret-model" not in (await place.client.get(f"/dashboard/jobs?client={other.id}")).text
    assert "secret-model" in (await place.operator.get("/dashboard/jobs")).text


async def test_what_others_wrote_is_text_and_nothing_else(place: Place) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x>"
    client = Client(place.world.http, place.town.client_key)
    job = await client.submit(model=hostile, input={"prompt": hostile})
    miner = await place.world.miner(name=hostile, location=hostile, gpu_type="v100")
    await miner.put("", json={"payout_destination": "x" + hostile})
    await miner.post("/heartbeat", json={"telemetry": {hostile: 4, "gpus": [{hostile: 3}, 5, None]}})
    await place.world.application.coordinator.write_down()
    for path in (
        "/dashboard",
        "/dashboard/miners",
        f"/dashboard/miners/{miner.id}",
        "/dashboard/jobs",
        f"/dashboard/jobs/{job}",
    ):
        page = (await place.operator.get(path)).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "alert(1)" in page, path


async def test_the_page_of_a_job_tells_all_that_happened(place: Place) -> None:
    page = (await place.operator.get(f"/dashboard/jobs/{place.town.completed}")).text
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    order = ["Submitted", "0.20 was set aside", "Attempt 1: accepted by rack-a1", "Attempt 1: failed", "error: no luck",
             "Attempt 2: accepted by basement-3090", "Attempt 2: delivered", "0.20 was paid to the miner", "The job is completed"]  # fmt: skip
    places = [said.index(one) for one in order]
    assert places == sorted(places)
    assert "Short wavelengths scatter" in said
    assert "receipt_" in said
    assert "Why is the sky blue?" in page


async def test_a_result_is_downloaded_and_never_shown_as_a_page(place: Place) -> None:
    answer = await place.client.get(f"/dashboard/jobs/{place.town.completed}/result")
    assert answer.text.startswith("Short wavelengths")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_lists_are_paged(place: Place) -> None:
    page = (await place.operator.get("/dashboard/money")).text
    seen = set(re.findall(r'class="n quiet">(\d+)<', page))
    older = re.search(r'href="([^"]+cursor=\d+)" rel="next"', page)
    assert older is not None
    following = (await place.operator.get(older[1])).text
    assert not seen & set(re.findall(r'class="n quiet">(\d+)<', following))
    assert "Newest" in following
    for odd in ("x", "-1", "9" * 30, "1;DROP"):
        assert (await place.operator.get(f"/dashboard/jobs?cursor={odd}")).status_code == 200


async def test_tables_come_as_files(place: Place) -> None:
    for role, table, head in (
        ("operator", "ledger", "entry,"), ("operator", "payouts", "payout_id,"), ("miner", "earnings", "day,"), ("client", "spending", "entry,"),
    ):  # fmt: skip
        answer = await getattr(place, role).get(f"/dashboard/export/{table}.csv")
        assert answer.text.startswith(head)
        assert answer.headers["content-type"].startswith("text/csv")
    assert (await place.client.get("/dashboard/export/ledger.csv")).status_code == 404
    assert (await place.client.get("/dashboard/export/nothing.csv")).status_code == 404


async def test_secrets_are_not_among_the_settings(place: Place) -> None:
    page = (await place.operator.get("/dashboard/settings")).text
    assert "key_operator-of-these-tests" not in page
    assert "set, and not shown" in page
    assert "leases.ttl" in page


async def test_an_empty_exchange_says_what_to_do_next(place: Place) -> None:
    client = await place.world.client(0)
    visitor = Visitor(place.world.http)
    await visitor.sign_in(client.key)
    assert "Submit your first one" in (await visitor.get("/dashboard")).text
    assert (await visitor.get("/dashboard/spending")).status_code == 200
    miner = await place.world.register(name="idle")
    owner = Visitor(place.world.http)
    await owner.sign_in(miner.key)
    assert "Not admitted yet" in (await owner.get("/dashboard")).text
    assert "Nothing earned yet" in (await owner.get("/dashboard/earnings")).text


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the database is asked, in order."""
    asked: list[str] = []
    for name in ("_one", "_all"):
        original = getattr(SqlTx, name)

        def counted(self: SqlTx, query: str, _original: Any = original, **values: Any) -> Any:
            asked.append(query)
            return _original(self, query, **values)

        monkeypatch.setattr(SqlTx, name, counted)
    return iter([asked])


async def test_what_a_page_asks_does_not_grow_with_the_exchange(place: Place, statements: Iterator[list[str]]) -> None:
    """At most two statements a row of a page, and as many with a hundred more jobs as before."""
    [asked] = statements
    client = Client(place.world.http, place.town.client_key)
    counts: list[dict[str, int]] = []
    for _ in range(2):
        found = {}
        for role, some in paths(place.town).items():
            for path in some:
                asked.clear()
                await getattr(place, role).get(path)
                found[f"{role} {path}"] = len(asked)
        counts.append(found)
        job = {"model": "llama-3.1-8b", "price": 0.01, "input": {"prompt": "x"}}
        body(await client.post("/v1/jobs/batch", json={"jobs": [job] * 100}), 201)
    for path, number in counts[1].items():
        assert number <= 130, path
        assert number <= max(counts[0][path], 65), path
