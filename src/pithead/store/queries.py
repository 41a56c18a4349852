"""Loads `queries.sql`: every query under its name, with the columns of the entities filled in."""

import re
from importlib.resources import files
from typing import Final

from pithead.core.jobs import FINISHED, HELD, Attempt, Job, State
from pithead.core.miners import Miner
from pithead.exchange.ports import Client, Key

_ENTITIES: Final = {"job": Job, "attempt": Attempt, "miner": Miner, "client": Client, "key": Key}


def _states(wanted: list[State]) -> str:
    return "(" + ", ".join(f"'{s}'" for s in wanted) + ")"


def _substitutions() -> dict[str, str]:
    filled = {
        "{HELD}": _states([s for s in State if s in HELD]),
        "{OPEN}": _states([s for s in State if s not in FINISHED]),
    }
    for name, entity in _ENTITIES.items():
        columns = entity.__struct_fields__
        for suffix, some in (("", columns), (".but_seq", tuple(c for c in columns if c != "seq"))):
            filled[f"{{{name}{suffix}}}"] = ", ".join(some)
            filled[f"{{{name}{suffix}.values}}"] = ", ".join(f":{c}" for c in some)
    return filled


def load() -> dict[str, str]:
    """All queries by name."""
    text = files("pithead.store").joinpath("queries.sql").read_text(encoding="utf-8")
    substitutions = _substitutions()
    queries: dict[str, str] = {}
    for part in re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        sql = "\n".join(lines).strip()
        for placeholder, value in substitutions.items():
            sql = sql.replace(placeholder, value)
        queries[name.strip()] = sql
    return queries


#: All queries by name.
QUERIES: Final = load()
