"""Counting requests against limits, with the `limits` library.

A moving window: no interval of the window's length ever admits more than the limit, wherever it begins.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class Rule(NamedTuple):
    """At most `limit` requests of `key` in any `window` seconds; a limit of 0 is none."""

    name: str
    key: str
    limit: int
    window: int


class Standing(NamedTuple):
    """How a rule stands after a request."""

    rule: Rule
    #: Requests left in the window.
    remaining: int
    #: Seconds until another one is admitted, or until the window is empty where some are left.
    reset: float


class Limiter:
    """Counts in memory. For one process; the state of a key goes when its window is over."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._items: dict[tuple[int, int], RateLimitItemPerSecond] = {}

    def _item(self, rule: Rule) -> RateLimitItemPerSecond:
        item = self._items.get((rule.limit, rule.window))
        if item is None:
            item = self._items[rule.limit, rule.window] = RateLimitItemPerSecond(rule.limit, rule.window)
        return item

    def hit(self, rules: Sequence[Rule]) -> tuple[bool, list[Standing]]:
        """Whether all rules admit one more request, which is then counted; a refused one is counted nowhere."""
        binding = [rule for rule in rules if rule.limit]
        admitted = all(self._window.test(self._item(rule), rule.name, rule.key) for rule in binding)
        if admitted:
            for rule in binding:
                self._window.hit(self._item(rule), rule.name, rule.key)
        now = time.time()
        standings = []
        for rule in binding:
            reset, remaining = self._window.get_window_stats(self._item(rule), rule.name, rule.key)
            standings.append(Standing(rule, remaining, max(0.0, reset - now)))
        return admitted, standings
