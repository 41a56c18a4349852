"""Which limits hold for whom, and how much of them is left."""

import inspect
from typing import Final

from pithead.core.miners import Miner
from pithead.http.limits import Counts, Rule, Standing
from pithead.settings import RateLimits

_MINUTE: Final = 60


def job_operations(limits: RateLimits, miner_id: str, own: int | None) -> Rule:
    """The limit of a miner's job operations; `own` is one that the operator set for it alone."""
    return Rule("job-operations", miner_id, limits.job_operations_per_minute if own is None else own, _MINUTE)


class Pace:
    """How miners stand with their limits."""

    def __init__(self, limits: RateLimits, counts: Counts) -> None:
        self._limits = limits
        self._counts = counts

    async def exhausted(self, miner: Miner) -> Standing | None:
        """The limit of job operations, if the miner has used it up. Nothing is counted by asking."""
        rule = job_operations(self._limits, miner.id, miner.job_operations_per_minute)
        if not rule.limit:
            return None
        looked = self._counts.look([rule])
        (standing,) = await looked if inspect.isawaitable(looked) else looked
        return standing if standing.remaining == 0 else None
