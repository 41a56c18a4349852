"""Pictures of the main pages for the README and the docs: `make pictures`.

Of a town that was made through the real API, in the real browser. Needs Chromium.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal, NamedTuple

from playwright.sync_api import Page, ViewportSize
from tests.web.browser import PHONE, open_site
from tests.web.town import Town, build

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images" / "dashboard"
_DESK: Final[ViewportSize] = {"width": 1280, "height": 860}
_JOBS: Final = 260


class Picture(NamedTuple):
    """One file."""

    name: str
    role: str
    path: str
    scheme: Literal["light", "dark"] = "light"
    size: ViewportSize = _DESK


def pictures(town: Town) -> list[Picture]:
    """What is taken."""
    return [
        Picture("overview", "operator", "/dashboard"),
        Picture("overview-dark", "operator", "/dashboard", "dark"),
        Picture("miner", "operator", f"/dashboard/miners/{town.miner}", "light", {"width": 1280, "height": 800}),
        Picture("job", "operator", f"/dashboard/jobs/{town.completed}"),
        Picture("money", "operator", "/dashboard/money", "dark", {"width": 1280, "height": 700}),
        Picture("waits", "client", f"/dashboard/jobs/{town.queued}"),
        Picture("spending", "client", "/dashboard/spending"),
        Picture("machine", "miner", "/dashboard"),
        Picture("earnings", "miner", "/dashboard/earnings", "dark"),
        Picture("phone", "operator", "/dashboard", "dark", PHONE),
    ]


def _ready(page: Page, name: str) -> None:
    if name in ("miner", "machine"):
        page.wait_for_selector("[data-plot] canvas")
    if page.locator("#pulse").count():
        page.wait_for_function("document.getElementById('pulse').dataset.state === 'on'")


def main() -> int:
    """0 once all of them lie in docs/images/dashboard."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        town = asyncio.run(build(Path(folder) / "town", _JOBS))
        with open_site(Path(folder) / "served", town) as site:
            for picture in pictures(town):
                options = {"viewport": picture.size, "color_scheme": picture.scheme}
                with site.page(picture.role, picture.path, **options) as page:
                    _ready(page, picture.name)
                    page.screenshot(path=IMAGES / f"{picture.name}.png")
                sys.stderr.write(f"{picture.name}.png\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
