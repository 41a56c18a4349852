"""Pages that are open follow what happens, in a real browser."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from playwright.sync_api import Page, expect
from tests.web.browser import Site, faults, open_site
from tests.web.town import Town


@pytest.fixture(scope="module")
def site(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site") / "town", town) as site:
        yield site


def alive(page: Page) -> None:
    """The page hears of what happens."""
    expect(page.locator("#pulse")).to_have_text("Live")


def figure(page: Page, name: str) -> str:
    return page.locator(f".figure:has(dt:text-is('{name}')) dd").first.inner_text()


JOB = {"model": "llama-3.1-8b", "price": 0.5, "gpu_type": "any", "estimated_time": 30, "input": {"prompt": "Hello"}}


def test_the_overview_follows_and_takes_nobody_s_focus(site: Site) -> None:
    with site.page("operator") as page:
        alive(page)
        queued = int(figure(page, "Queued"))
        link = page.locator(".map a").first
        link.focus()
        site.api("client", "POST", "/v1/jobs", json=JOB)
        expect(page.locator(".figure dd").first).to_have_text(str(queued + 1))
        assert link.evaluate("link => link === document.activeElement")
        site.api("client", "POST", "/v1/jobs", json=JOB)
        expect(page.locator(".figure dd").first).to_have_text(str(queued + 2))


def test_a_page_holds_still_while_somebody_reads(site: Site) -> None:
    with site.page("operator") as page:
        alive(page)
        queued = int(figure(page, "Queued"))
        page.click("#pulse")
        expect(page.locator("#pulse")).to_have_text("Paused")
        assert faults(page) == []
        page.evaluate("void (window.heard = new Promise(told => document.addEventListener('htmx:sseMessage', told)))")
        site.api("client", "POST", "/v1/jobs", json=JOB)
        page.evaluate("window.heard.then(() => true)")
        assert int(figure(page, "Queued")) == queued
        page.click("#pulse")
        expect(page.locator(".figure dd").first).to_have_text(str(queued + 1))


def test_a_client_submits_watches_the_output_arrive_and_reads_the_result(site: Site) -> None:
    """From the form to the result, the page never loaded anew."""
    miner = f"/v1/miners/{site.town.miner}"
    with site.page("client", "/dashboard/submit") as page:
        page.fill("#prompt", "Tell me of the sea")
        page.fill("#f-model", "llama-3.1-8b")
        page.fill("#f-price", "0.9")
        page.click("button.main")
        page.wait_for_url("**/jobs/job_*")
        expect(page.get_by_role("status")).to_contain_text("The job is queued")
        expect(page.locator("h2:text('Why it waits')")).to_be_visible()
        alive(page)
        page.evaluate("window.same = true")
        job = page.url.rpartition("/")[2]
        site.api("miner", "POST", f"{miner}/jobs/{job}/accept")
        expect(page.locator(".figures .badge")).to_have_text("assigned")
        told = {"fraction": 0.5, "output": "The sea is", "output_offset": 0}
        site.api("miner", "POST", f"{miner}/jobs/{job}/progress", json=told)
        expect(page.locator("#output")).to_have_text("The sea is")
        expect(page.locator("progress")).to_have_attribute("value", "0.5")
        more = {"fraction": 0.9, "output": " wide.", "output_offset": 10}
        site.api("miner", "POST", f"{miner}/jobs/{job}/progress", json=more)
        expect(page.locator("#output")).to_have_text("The sea is wide.")
        assert faults(page) == []
        content = b"The sea is wide."
        site.api("miner", "PUT", f"{miner}/jobs/{job}/result", content=content)
        done = {"result_hash": f"sha256:{sha256(content).hexdigest()}", "metrics": {"gpu_time_seconds": 2}}
        site.api("miner", "POST", f"{miner}/jobs/{job}/complete", json=done)
        expect(page.locator("[aria-label=Result]")).to_have_text("The sea is wide.")
        expect(page.locator(".figures .badge")).to_have_text("completed")
        assert page.evaluate("window.same")
        with page.expect_download() as download:
            page.goto(page.url)
            page.click("text=Download result")
        assert download.value.path().read_bytes() == content


def test_an_owner_sees_the_machine_at_work(site: Site) -> None:
    miner = f"/v1/miners/{site.town.miner}"
    with site.page("miner") as page:
        alive(page)
        holds = int(figure(page, "Works on"))
        job = site.api("client", "POST", "/v1/jobs", json=JOB)["job_id"]
        site.api("miner", "POST", f"{miner}/jobs/{job}/accept")
        expect(page.locator(".figure:has(dt:text-is('Works on')) dd").first).to_have_text(str(holds + 1))
        site.api("miner", "POST", f"{miner}/jobs/{job}/release")
        expect(page.locator(".figure:has(dt:text-is('Works on')) dd").first).to_have_text(str(holds))


def test_whoever_is_signed_out_meanwhile_is_led_to_the_sign_in(site: Site) -> None:
    made = site.api("operator", "POST", "/v1/admin/clients", json={"name": "guest", "credit": 5})
    with site.page(None, "/dashboard/sign-in") as page:
        page.fill("#key", made["api_key"])
        page.press("#key", "Enter")
        alive(page)
        site.api("operator", "DELETE", f"/v1/admin/accounts/{made['client_id']}/keys")
        page.reload()
        expect(page.locator("h1")).to_have_text("Sign in")
