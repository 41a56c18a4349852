"""The source as the checks of this folder look at it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pithead"


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its path in it."""
    return {
        str(file.relative_to(PACKAGE)): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(PACKAGE.rglob("*.py"))
    }


def in_room(*rooms: str) -> dict[str, ast.Module]:
    """The modules of these rooms."""
    return {name: tree for name, tree in modules().items() if name.split("/")[0] in rooms}


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules that it imports, at any place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def texts(tree: ast.Module) -> Iterator[str]:
    """Its strings, but for the docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
