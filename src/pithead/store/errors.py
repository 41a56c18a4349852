"""What can go wrong with a store."""


class StoreError(Exception):
    """The database cannot be used. Nothing happened."""


class OutcomeUnknown(StoreError):
    """The database was lost during a commit: what was asked may have happened, or not. Asking again will tell."""
