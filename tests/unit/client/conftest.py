"""A clock that jumps, and answers made from the shapes themselves."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import inspect


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


def sample(kind: Any) -> Any:
    """The plainest value of a shape, as builtins."""
    return _value(inspect.type_info(kind))


def _value(kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata(type=inner):
            return _value(inner)
        case inspect.StructType(fields=fields):
            return {field.encode_name: _value(field.type) for field in fields if field.required}
        case inspect.UnionType(types=types):
            return None if any(isinstance(one, inspect.NoneType) for one in types) else _value(types[0])
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.ListType():
            return []
        case inspect.DictType() | inspect.RawType():
            return {}
        case inspect.StrType():
            return "x"
        case inspect.BoolType():
            return False
        case inspect.CustomType(cls=cls) if cls is msgspec.Raw:
            return {}
        case inspect.DecimalType():
            return Decimal("0.05")
        case inspect.IntType() | inspect.FloatType():
            return 1
        case _:
            return {}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def sample_of() -> Callable[[Any], Any]:
    return sample
