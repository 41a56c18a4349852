"""A real Chromium over a served coordinator, and what is asked of every page in it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright
from tests.http.server import UNLIMITED, serve
from tests.web.town import OPERATOR_KEY, Town

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
#: Nothing that looks for other machines.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
_AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text(encoding="utf-8")
_RUN = """async (only) => (await axe.run(document, {
    resultTypes: ["violations"], preload: false, ...(only ? {runOnly: only} : {})
})).violations"""


class Site:
    """The coordinator and the browser; contexts that are signed in already."""

    def __init__(self, url: str, browser: Browser, town: Town) -> None:
        self.url = url
        self.browser = browser
        self.town = town
        self.http = httpx.Client(base_url=url)
        self._states: dict[str, Any] = {}
        #: What pages complained of.
        self.complaints: list[str] = []

    def key(self, role: str) -> str:
        return {"operator": OPERATOR_KEY, "client": self.town.client_key, "miner": self.town.miner_key}[role]

    def api(self, role: str, method: str, path: str, **more: Any) -> Any:
        """A call of the API with that role's key."""
        answer = self.http.request(method, path, headers={"Authorization": f"Bearer {self.key(role)}"}, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    @contextlib.contextmanager
    def context(self, role: str | None = None, **options: Any) -> Iterator[BrowserContext]:
        """A window of its own, signed in as that role."""
        if role is not None and role not in self._states:
            with self.context() as context:
                page = context.new_page()
                page.goto(f"{self.url}/dashboard/sign-in")
                page.fill("#key", self.key(role))
                page.press("#key", "Enter")
                page.wait_for_url(f"{self.url}/dashboard")
                self._states[role] = context.storage_state()
        state = {"storage_state": self._states[role]} if role is not None else {}
        context = self.browser.new_context(reduced_motion="reduce", **state, **options)
        context.set_default_timeout(10_000)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        try:
            yield context
        finally:
            context.close()

    @contextlib.contextmanager
    def page(self, role: str | None, path: str = "/dashboard", **options: Any) -> Iterator[Page]:
        """A page in a window of its own, on which nothing may complain."""
        with self.context(role, **options) as context:
            page = context.new_page()
            page.goto(self.url + path)
            yield page
        assert self.complaints == []


def faults(page: Page, only: list[str] | None = None) -> list[str]:
    """What would keep somebody from using the page, as axe sees it."""
    # Asked past the page's policy, which lets no such script in.
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    found = page.evaluate(_RUN, only)
    return [f"{page.url}: {one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


@contextlib.contextmanager
def open_site(folder: Path, town: Town) -> Iterator[Site]:
    """A copy of the town, served, with a browser."""
    shutil.copytree(town.folder, folder)
    settings = UNLIMITED | {"PITHEAD_OPERATOR_KEY": OPERATOR_KEY, "PITHEAD_DASHBOARD__SIGN_INS_PER_MINUTE": "0"}
    settings["PITHEAD_DASHBOARD__REQUESTS_PER_MINUTE"] = "0"
    with serve(folder, **settings) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        site = Site(url, browser, town)
        try:
            yield site
        finally:
            site.http.close()
            browser.close()
