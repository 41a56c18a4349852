"""Pithead: a self-hosted GPU work exchange."""

__version__ = "0.1.0"
