"""The database's clock, which judges where there are several coordinators."""

import time
from typing import Final

#: Seconds that a question about the time may take for the answer to be of use.
_PROMPT: Final = 0.25
#: Seconds after which any answer is better than the one of then.
_OLD: Final = 10.0


class DatabaseClock:
    """The time by the database, carried on by the monotonic clock between two looks at it.

    Every batch of operations begins with such a look, so all coordinators go by one clock, whatever their own ones say.
    Set by the writers' threads, read by any.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._seen_at = float("-inf")

    def __call__(self) -> float:
        return time.monotonic() + self._offset

    def saw(self, time_there: float, asked_at: float, answered_at: float) -> None:
        """What the database's clock said to a question asked and answered at these monotonic times."""
        if answered_at - asked_at > _PROMPT and answered_at - self._seen_at < _OLD:
            return
        self._offset = time_there - (asked_at + answered_at) / 2
        self._seen_at = answered_at
