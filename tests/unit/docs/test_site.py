"""The documentation as a site: it is built without a warning, is whole, and needs nothing from anywhere else."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

ROOT: Final = Path(__file__).parents[3]
DOCS: Final = ROOT / "docs"

#: What a browser fetches by itself, by the tag and the attribute that names it.
FETCHED: Final = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """What a page fetches, what it links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in FETCHED and value:
                self.fetched.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [str(Path(sys.executable).with_name("sphinx-build")), "-W", "--keep-going", "-n", "-q", "-b", "html"]
    done = subprocess.run([*command, DOCS, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(file.relative_to(site)): Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


def test_every_page_is_in_it_and_within_reach(pages: dict[str, Page]) -> None:
    sources = {str(file.relative_to(DOCS).with_suffix(".html")) for file in DOCS.rglob("*.md")}
    assert sources <= pages.keys()
    reached, to_see = set[str](), ["index.html"]
    while to_see:
        name = to_see.pop()
        if name in reached:
            continue
        reached.add(name)
        for link in pages[name].links:
            target = Path(name).parent / unquote(link.partition("#")[0])
            if link.partition("#")[0].endswith(".html") and "://" not in link:
                to_see.append(str(Path(*_plain(target))))
    assert sources <= reached


def _plain(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def test_every_link_within_it_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for link in page.links:
            file, _, anchor = link.partition("#")
            if re.match(r"\w+:", link) or name in ("search.html", "genindex.html"):
                continue
            target = (site / name).parent / unquote(file) if file else site / name
            assert target.exists(), f"{name}: {link}"
            if anchor and target.suffix == ".html":
                assert anchor in pages[str(target.resolve().relative_to(site.resolve()))].anchors, f"{name}: {link}"


def test_it_fetches_nothing_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    fetched = {link for page in pages.values() for link in page.fetched}
    assert fetched
    assert [link for link in fetched if re.match(r"(\w+:)?//", link)] == []
    for sheet in site.rglob("*.css"):
        named = re.findall(r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", sheet.read_text(encoding="utf-8"))
        assert not [a or b for a, b in named if re.match(r"(https?:)?//", a or b)], sheet.name


def test_it_can_be_searched(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for word in ("idempot", "lease", "prometheus"):
        assert word in index


def test_the_table_of_states_stands_in_for_the_diagram(site: Path) -> None:
    text = (site / "architecture.html").read_text(encoding="utf-8")
    assert "stateDiagram" not in text
    assert re.search(r"<td><p>queued</p></td>\s*<td><p>accept</p></td>\s*<td><p>assigned</p></td>", text)
