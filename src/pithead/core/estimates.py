"""How long a job should take, where its client does not say: by what the miners measured of themselves."""

import math
from collections.abc import Sequence
from typing import Final

#: Seconds that a job takes beside its tokens: being handed over, loaded, delivered.
OVERHEAD: Final = 2.0
#: Where no miner measured the model.
UNKNOWN: Final = 60.0
#: Tokens of an answer where the job does not say; what our own runner takes then.
TOKENS: Final = 256
#: A year: the longest time that a job may name.
_LONGEST: Final = 31_536_000.0


def seconds(max_tokens: int | None, speeds: Sequence[float]) -> float:
    """Seconds for so many tokens at the speed that three quarters of the miners reach; `speeds` are in tokens/s."""
    known = sorted(speed for speed in speeds if speed > 0 and math.isfinite(speed))
    if not known:
        return UNKNOWN
    tokens = TOKENS if max_tokens is None else max_tokens
    return min(_LONGEST, OVERHEAD + tokens / known[len(known) // 4])


def start_in(ahead: int, free: int, slots: int, each: float) -> float | None:
    """Seconds until a job begins that has so many before it; `None` where nobody works on such jobs.

    `slots` jobs run at a time, `free` of these places are empty, and each job takes `each` seconds. As if places fell
    empty one after the other, evenly: an expectation, and no promise.
    """
    if slots <= 0:
        return None
    return max(0, ahead - free + 1) * each / slots if ahead >= free else 0.0
