"""`make bench`: what a durable exchange costs, beside a web endpoint that does nothing (docs/benchmark.md)."""
