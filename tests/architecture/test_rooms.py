"""What each room does without. import-linter holds which rooms know which; here is what it cannot see."""

import ast
import re
from typing import Final

import pytest
from tests.architecture.source import imports, in_room, modules, texts

#: What the core, which is pure, must not reach: clocks, chance, files, processes, threads, networks, databases.
IMPURE: Final = {
    "asyncio", "fcntl", "http", "httpx", "io", "logging", "multiprocessing", "os", "pathlib", "psycopg", "random",
    "secrets", "selectors", "shutil", "signal", "socket", "sqlcipher3", "sqlite3", "ssl", "starlette", "subprocess",
    "sys", "tempfile", "threading", "time", "urllib", "uvicorn",
}  # fmt: skip

#: Where a clock is read, as `module.function` or as the method of anything.
CLOCKS: Final = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.localtime", "time.gmtime", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "loop.time",
}  # fmt: skip

#: Who may all the same, and why.
MAY_READ_A_CLOCK: Final = {
    "exchange/ids.py": {"time.time"},  # a source of order in identifiers; nothing reads the time back
    "exchange/coordinator.py": {"loop.time"},  # how long a caller wants to wait, which judges nothing
}

#: A statement in a string. Upper case, as this project writes SQL.
SQL: Final = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|DROP|ALTER)\s+(TABLE|INDEX|TRIGGER)"
    r"|PRAGMA\s+\w+|BEGIN\s+IMMEDIATE|SAVEPOINT\s+\w+)\b",
    re.DOTALL,
)


def test_the_core_reaches_nothing_outside_of_itself() -> None:
    reached = {
        name: {module.split(".")[0] for module in imports(tree)} & IMPURE for name, tree in in_room("core").items()
    }
    assert {name: found for name, found in reached.items() if found} == {}


def test_the_core_awaits_nothing() -> None:
    for name, tree in in_room("core").items():
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree)), name


def test_an_operation_awaits_nothing() -> None:
    """A function that takes a transaction is synchronous: what it does is in one transaction because it cannot stop."""
    for name, tree in in_room("exchange", "core").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef):
                assert "tx" not in {argument.arg for argument in node.args.args}, f"{name}: {node.name}"


def clocks(tree: ast.Module) -> set[str]:
    """The clocks that it reads, also where it has imported one by its name."""
    found = set()
    names = {"time", "monotonic", "perf_counter"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            found.add(f"{owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"time.{alias.name}" for alias in node.names if alias.name in names}
    return found & CLOCKS


def test_time_is_a_parameter_of_core_and_exchange() -> None:
    read = {name: clocks(tree) for name, tree in in_room("core", "exchange").items()}
    assert {name: found for name, found in read.items() if found} == MAY_READ_A_CLOCK


@pytest.mark.parametrize("name", [name for name in modules() if not name.startswith("store/")])
def test_sql_stands_in_the_store_alone(name: str) -> None:
    tree = modules()[name]
    said = [text for text in texts(tree) if SQL.search(text)]
    assert said == []
    assert not {module.split(".")[0] for module in imports(tree)} & {"sqlcipher3", "sqlite3", "psycopg"}


def test_that_check_sees_sql_where_there_is_some() -> None:
    found = {name for name, tree in in_room("store").items() if any(SQL.search(text) for text in texts(tree))}
    assert {"store/sqlite.py", "store/migrate.py", "store/writer.py"} <= found
