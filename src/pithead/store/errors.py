"""What can go wrong with a store."""


class StoreError(Exception):
    """The database cannot be used."""
