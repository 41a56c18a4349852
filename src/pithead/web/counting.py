"""Counting what somebody does against a limit."""

import inspect
import math

from pithead.http.limits import Counts, Rule


async def count(counts: Counts, rule: Rule) -> int:
    """0 where the rule admits one more, which is then counted; else in how many seconds it would."""
    if not rule.limit:
        return 0
    outcome = counts.hit((rule,))
    admitted, standings = await outcome if inspect.isawaitable(outcome) else outcome
    return 0 if admitted else max(1, math.ceil(standings[0].reset))
