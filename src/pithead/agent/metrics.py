"""What the agent does, for Prometheus: `pithead_miner_…`, on a port of this machine that the owner names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pithead.agent.record import Record


class _Collector:
    """Reads the record when it is asked."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        state = self._record.state
        counters = (
            ("completed", "Jobs that were delivered and paid.", state.completed),
            ("failed", "Jobs that came to nothing.", state.failed),
            ("earned", "Currency units earned.", float(state.earned)),
            ("offers_refused", "Offers that the owner's settings passed by.", sum(state.refused.values())),
        )
        for name, help_, value in counters:
            yield CounterMetricFamily(f"pithead_miner_{name}", f"{help_[:-1]} since the start.", value=value)
        gauges = (
            ("jobs", "Jobs in hand.", self._record.in_hand),
            ("taking_work", "1 while the owner's settings let it take work.", int(state.may)),
            ("coordinator_reached", "1 while the coordinator answers.", int(not state.away)),
            ("queue_length", "Queued jobs that fit, by the coordinator's last word.", state.queue_length or 0),
            ("data_today_bytes", "Bytes of inputs and results today.", self._record.data_today()),
            ("alerts", "Alerts that hold.", len(state.alerts)),
        )
        for name, help_, number in gauges:
            yield GaugeMetricFamily(f"pithead_miner_{name}", help_, value=number)
        for key, unit in (
            ("utilization_percent", "Per cent of the GPU in use."),
            ("others_percent", "Per cent of the GPU in use by processes other than the agent's."),
            ("memory_used_bytes", "Bytes of its memory in use."),
            ("memory_total_bytes", "Bytes of its memory."),
            ("temperature_celsius", "Its temperature."),
            ("power_watts", "What it draws."),
        ):
            family = GaugeMetricFamily(f"pithead_miner_gpu_{key}", unit, labels=["gpu"])
            for index, gpu in enumerate(state.gpus):
                if gpu.get(key) is not None:
                    family.add_metric([str(gpu.get("index", index))], gpu[key])
            yield family


def serve(record: Record, port: int) -> tuple[int, Callable[[], None]]:
    """Answer scrapes at this port of the loopback (0: a free one); the port, and how to stop. Raises `OSError`."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Collector(record))
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop
