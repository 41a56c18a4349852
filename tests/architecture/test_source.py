"""What all of the source keeps to, and no tool holds."""

import ast
import inspect
import re
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import pytest
from tests.architecture.source import ROOT, modules

#: Modules whose functions need no docstrings, and where each call's meaning stands instead.
SAID_ELSEWHERE: Final = {
    "client/calls.py": "each builds the call of its name in wire.endpoints, which has its summary",
    "client/operator_calls.py": "likewise",
    "client/webhook_calls.py": "likewise",
}


def module_of(name: str) -> ModuleType:
    path = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return import_module("pithead" if path == "__init__" else f"pithead.{path}")


def undocumented(name: str) -> list[str]:
    """Public classes, functions and methods of the module without a docstring of their own or an inherited one."""
    module = module_of(name)
    missing = [] if module.__doc__ else ["the module"]
    for label, thing in vars(module).items():
        if label.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            if not thing.__doc__:
                missing.append(label)
            missing += [f"{label}.{method}" for method in _methods(thing)]
        elif inspect.isfunction(thing) and not inspect.getdoc(thing) and not _is_handler(thing):
            missing.append(label)
    return missing


def _methods(cls: type[Any]) -> list[str]:
    """Those that say nothing, where neither a parent nor the class itself ("Implements …") says it for them."""
    if re.search(r"Implements `|see `|Mixed into", cls.__doc__ or "") or getattr(cls, "_is_protocol", False):
        return []
    found = []
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if not function.__doc__ and not any(hasattr(parent, name) for parent in cls.__mro__[1:]):
            found.append(name)
    return found


def _is_handler(function: Any) -> bool:
    """A handler of the HTTP API: its call's summary is in the table of endpoints, and its parameter is the call."""
    return function.__module__.startswith("pithead.http.") and list(inspect.signature(function).parameters) == ["call"]


@pytest.mark.parametrize("name", [name for name in modules() if name not in SAID_ELSEWHERE])
def test_whatever_is_public_says_what_it_is(name: str) -> None:
    assert undocumented(name) == []


def test_modules_whose_meaning_stands_elsewhere_exist() -> None:
    assert SAID_ELSEWHERE.keys() <= modules().keys()
    for name in SAID_ELSEWHERE:
        assert module_of(name).__doc__


def python_files() -> list[str]:
    folders = ("src", "tests", "bench", "docs")
    return sorted(str(file.relative_to(ROOT)) for folder in folders for file in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("name", python_files())
def test_what_is_ignored_is_named(name: str) -> None:
    """Neither mypy nor ruff is silenced without saying in what."""
    text = (ROOT / name).read_text(encoding="utf-8")
    comments = "\n".join(line.partition("#")[2] for line in text.splitlines())
    assert not re.search(r"\btype: ?ignore(?!\[)\b", comments)
    assert not re.search(r"\bnoqa(?!: [A-Z])\b", comments)


@pytest.mark.parametrize("name", modules())
def test_nothing_is_printed_past_the_command_line(name: str) -> None:
    """A library says nothing on standard output."""
    calls = [node for node in ast.walk(modules()[name]) if isinstance(node, ast.Call)]
    assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)
