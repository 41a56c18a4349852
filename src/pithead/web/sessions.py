"""Whose session it is."""

import inspect

from pithead.exchange.coordinator import Coordinator
from pithead.exchange.principals import Principal


async def principal_of(exchange: Coordinator, key: str) -> Principal | None:
    """Whose key this is; `None` for one that has ended."""
    found = exchange.principal(key)
    return await found if inspect.isawaitable(found) else found
