"""The dashboard in a real browser: every page for each role, with the eyes, the keyboard, a screen reader and a phone."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.web.browser import PHONE, Site, faults, open_site
from tests.web.test_pages import paths
from tests.web.town import Town


@pytest.fixture(scope="module")
def site(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site") / "town", town) as site:
        yield site


@pytest.mark.parametrize("role", ["operator", "client", "miner"])
def test_every_page_is_without_fault(site: Site, role: str) -> None:
    """axe-core finds nothing, light or dark; the console stays empty; nothing runs over the edge of a phone."""
    with site.page(role) as page:
        found = []
        for path in paths(site.town)[role]:
            page.goto(site.url + path)
            expect(page.locator("h1")).to_have_count(1)
            found += faults(page)
            page.emulate_media(color_scheme="dark")
            found += faults(page, ["color-contrast"])
            page.emulate_media(color_scheme="light")
            usual = page.viewport_size
            page.set_viewport_size(PHONE)
            width = page.evaluate("document.scrollingElement.scrollWidth")
            found += [f"{path} is {width} wide"] if width > PHONE["width"] else []
            assert usual is not None
            page.set_viewport_size(usual)
        assert found == [], "\n".join(found)


def test_signing_in_and_errors_are_without_fault(site: Site) -> None:
    with site.page(None, "/dashboard/sign-in") as page:
        assert faults(page) == []
        page.fill("#key", "key_wrong")
        page.press("#key", "Enter")
        expect(page.get_by_role("alert")).to_contain_text("The key is unknown")
        # The browser itself tells its console of an answer that is a refusal.
        assert all("403" in one for one in site.complaints)
        site.complaints.clear()
        assert faults(page) == []


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def tab_to(page: Page, text: str) -> None:
    """Press the tabulator key until that has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page) == text:
            return
    raise AssertionError(f"the keyboard does not reach {text}")


def test_a_keyboard_is_enough(site: Site) -> None:
    """From the sign-in to a miner that is suspended, and back by what undoes it."""
    with site.page(None, "/dashboard/sign-in") as page:
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type(site.key("operator"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/dashboard")
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the page"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto(f"{site.url}/dashboard/miners")
        tab_to(page, "attic")
        page.keyboard.press("Enter")
        page.wait_for_url("**/miners/miner_*")
        tab_to(page, "Suspend")
        page.keyboard.press("Enter")
        page.wait_for_url("**/do/suspend_miner*")
        tab_to(page, "Suspend")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("The miner is suspended.")
        expect(page.locator(".figures .badge")).to_have_text("suspended")
        tab_to(page, "Undo")
        page.keyboard.press("Enter")
        page.wait_for_url("**/do/approve_miner*")
        tab_to(page, "Approve")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("The miner may work.")


def test_pages_can_be_read_and_actions_done_without_scripts(site: Site) -> None:
    with site.page(None, "/dashboard/sign-in", java_script_enabled=False) as page:
        page.fill("#key", site.key("operator"))
        page.click("button.main")
        expect(page.locator("h1")).to_have_text("Overview")
        expect(page.locator("svg.chart")).to_have_count(1)
        page.goto(f"{site.url}/dashboard/jobs/{site.town.completed}")
        expect(page.locator("body")).to_contain_text("Short wavelengths scatter")
        page.goto(f"{site.url}/dashboard/miners/{site.town.miner}")
        expect(page.locator("body")).to_contain_text("GPU utilisation")
        page.goto(f"{site.url}/dashboard/clients")
        page.click("text=Lab 7")
        page.click("text=Change balance")
        page.fill("#f-amount", "7")
        page.click("button.main")
        expect(page.get_by_role("status")).to_contain_text("The balance has changed.")


def test_a_file_is_uploaded_and_given_to_a_job_without_scripts(site: Site) -> None:
    content = bytes(range(256)) * 10_000
    chosen: Any = [{"name": "a talk.bin", "mimeType": "application/octet-stream", "buffer": content}]
    with site.page("client", "/dashboard/files", java_script_enabled=False) as page:
        page.set_input_files("#file", chosen)
        page.click("text=Upload, and on to a new job")
        expect(page.get_by_role("status")).to_contain_text("a-talk.bin is uploaded.")
        expect(page.locator("#name0")).to_have_value("a-talk.bin")
        page.fill("#f-model", "command:transcribe")
        page.fill("#f-price", "0.01")
        page.click("button.main")
        page.wait_for_url("**/jobs/job_*")
        expect(page.locator("body")).to_contain_text(f"a-talk.bin {sha256(content).hexdigest()}")
        # One that is there already is ticked.
        page.goto(f"{site.url}/dashboard/files")
        page.check(f"input[value='{sha256(content).hexdigest()}']")
        page.click("text=New job with those that are ticked")
        expect(page.locator("#file0")).to_have_value(sha256(content).hexdigest())


def test_light_and_dark_are_chosen_and_kept(site: Site) -> None:
    with site.page("miner", color_scheme="light") as page:
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("button:has-text('Dark')")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
        page.goto(f"{site.url}/dashboard/earnings")
        expect(page.locator("button:has-text('Dark')")).to_have_attribute("aria-pressed", "true")


def test_telemetry_is_plotted(site: Site) -> None:
    with site.page("operator", f"/dashboard/miners/{site.town.miner}") as page:
        expect(page.locator("[data-plot] canvas")).to_have_count(4)
        expect(page.locator("[data-plot]").first).to_contain_text("GPU 1")
