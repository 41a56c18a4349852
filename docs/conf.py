"""The site is made of the pages of this folder: `make docs`. They stand for themselves on the repository's web view, so what
only the site needs – its navigation, a table in place of a diagram – is added here and not in them."""

import re
from pathlib import Path
from typing import Any, Final

from pygments.lexers import TextLexer
from sphinx.application import Sphinx

import pithead
from pithead.core.jobs import TRANSITIONS

project = "Pithead"
version = release = pithead.__version__
extensions = ["myst_parser"]
exclude_patterns = ["images/**"]
html_theme = "furo"
html_title = f"Pithead {version}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
#: Anchors as the repository's web view makes them.
myst_heading_anchors = 4
#: A link that leads nowhere is a warning, and warnings are errors.
nitpicky = True

HERE: Final = Path(__file__).parent
#: A link to a page that may lie elsewhere in the repository: the site has it as a file to download.
OUTSIDE: Final = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+\.md)\)")

NAVIGATION: Final = {
    "Tutorials": ("tutorials/client", "tutorials/miner", "tutorials/operator"),
    "How to": (
        "how-to/client",
        "how-to/webhooks",
        "how-to/miner",
        "how-to/write-a-runner",
        "how-to/operator",
        "how-to/one-server",
        "how-to/deploy",
        "how-to/dashboard",
        "how-to/monitor",
        "how-to/care",
        "how-to/several",
        "how-to/encryption",
    ),
    "Reference": ("reference/http", "reference/python", "reference/cli", "reference/settings"),
    "Understand": ("trust", "failure-model", "faq", "comparison", "architecture", "decisions/README"),
}


def navigation(found: set[str]) -> str:
    """The trees of the home page. A page that is not named stands at the end of its folder's, so that none is lost."""
    named = {page for pages in NAVIGATION.values() for page in pages}
    rest = sorted(page for page in found - named - {"index"} if not re.match(r"decisions/\d", page))
    folders = {"Tutorials": "tutorials/", "How to": "how-to/", "Reference": "reference/"}
    trees = []
    for title, pages in NAVIGATION.items():
        folder = folders.get(title)
        more = [page for page in rest if (page.startswith(folder) if folder else "/" not in page)]
        trees.append(_tree(title, [page for page in (*pages, *more) if page in found]))
    return "\n\n".join(trees)


def _tree(title: str, pages: list[str]) -> str:
    caption = f":caption: {title}\n" if title else ""
    return "\n".join(("```{toctree}", f":hidden:\n{caption}", *(f"/{page}" for page in pages), "```"))


def states() -> str:
    """The state diagram as a table: which event leads from where to where."""
    rows = [f"| {before} | {event} | {after} |" for before, out in TRANSITIONS.items() for event, after in out.items()]
    return "\n".join(("| from | by | to |", "| --- | --- | --- |", *rows))


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Add to a page what only the site has."""
    text = source[0]
    if page == "index":
        text += "\n\n" + navigation(set(app.project.docnames)) + "\n"
    elif page == "decisions/README":
        records = sorted(name for name in app.project.docnames if re.match(r"decisions/\d", name))
        text += "\n\n" + _tree("", records) + "\n"
    elif page == "architecture":
        text = re.sub(r"```mermaid\n.*?```", lambda _: states(), text, flags=re.DOTALL)
    source[0] = OUTSIDE.sub(
        lambda link: f"{{download}}`{' '.join(link[1].split())} <{link[2]}>`" if _leaves(page, link[2]) else link[0],
        text,
    )


def _leaves(page: str, target: str) -> bool:
    """Whether the file is one of the repository's, and no page of the site."""
    return not (HERE / page).parent.joinpath(target).resolve().is_relative_to(HERE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls it."""
    app.connect("source-read", read)
    app.add_lexer("mermaid", TextLexer)
    return {"parallel_read_safe": True}
