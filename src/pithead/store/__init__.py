"""The one place that knows SQL, and where the bytes of results are kept."""
