"""The documentation says what is so: made pages are fresh, links lead somewhere, commands and settings exist."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import httpx
import pytest
from docs.generate import render

from pithead.cli.main import cli
from pithead.settings import options

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "sdk" / "js" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_made_pages_are_fresh() -> None:
    stale = [name(page) for page, text in render().items() if page.read_text(encoding="utf-8") != text]
    assert not stale, "run: .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{target} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


def _commands() -> Iterator[tuple[Path, str]]:
    """Every `pithead …` line of every shell block."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("pithead"):
                    yield page, line


@pytest.mark.parametrize(
    ("page", "line"), list(_commands()), ids=lambda value: name(value) if isinstance(value, Path) else value
)
def test_commands_and_their_options_exist(page: Path, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    known: set[str] = set()
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            options_here = {opt: p for p in command.params if isinstance(p, click.Option) for opt in p.opts}
            assert word in options_here, f"{command.name} has no {word}"
            known.add(word)
            if not options_here[word].is_flag:
                words.pop(0)
        elif isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), word)
            assert inner is not None, f"there is no {word} in {command.name}"
            command = inner
    assert not isinstance(command, click.Group)
    missing = [p.opts for p in command.params if isinstance(p, click.Option) and p.required and not known & set(p.opts)]
    assert not missing


def test_settings_that_are_named_exist() -> None:
    known = {option.name for option in options()} | {option.variable for option in options()}
    groups = {option.partition(".")[0] for option in known if "." in option}
    for page in PAGES:
        for word in re.findall(r"`([a-z_]+\.[a-z_]+)`", prose(page)):
            if word.partition(".")[0] in groups:
                assert word in known, f"{name(page)}: {word}"


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    lists = [project["project"]["dependencies"], *extras, *(_lines(file) for file in ("build.in", "model.in"))]
    package = json.loads((ROOT / "sdk" / "js" / "package.json").read_text(encoding="utf-8"))
    lists += [package["dependencies"], package["devDependencies"]]
    explained = set(re.findall(r"\*\*([\w.-]+)\*\*", (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")))
    named = {re.split(r"[^\w.-]", requirement)[0] for requirements in lists for requirement in requirements}
    assert explained == named


def _lines(file: str) -> list[str]:
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(file for file in folder.glob("*.md") if file.name != "README.md")
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    for number, record in enumerate(records, 1):
        text = record.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix(f"# {number}. ")
        assert (str(number), title, record.name) == listed[number - 1]
        assert record.name.startswith(f"{number:04}-")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]
    assert len(listed) == len(records)


async def test_the_middleware_example_does_what_the_page_says() -> None:
    text = (ROOT / "docs" / "middleware.md").read_text(encoding="utf-8")
    [example] = [
        block for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if "app = " in block
    ]
    module: dict[str, Any] = {}
    exec(compile(example, "middleware.md", "exec"), module)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(module["app"]), base_url="http://test") as http:
        assert (await http.get("/")).status_code == 401
        answers = [await http.get("/", headers={"X-Api-Key": "key_bob"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].json() == {"hello": "bob"}
    assert answers[3].headers["content-type"] == "application/problem+json"


def test_the_picture_is_drawn_for_light_and_dark() -> None:
    file = ROOT / "docs" / "images" / "flow.svg"
    picture = ElementTree.parse(file).getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    text = file.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text, "code hosts show no picture with a script"
