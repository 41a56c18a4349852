"""Who waits for the outcome of an operation."""

from typing import Any, Protocol


class Promise(Protocol):
    """What is given the outcome of an operation: a future, or whatever else takes it. On the event loop's thread."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""

    def set_result(self, outcome: Any) -> None:
        """The outcome, once it is durable. Raises nothing."""

    def set_exception(self, failure: BaseException) -> None:
        """Why there is none. Raises nothing."""
