"""Prometheus metrics of a running daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Json = dict[str, Any]


class _Health(Collector):
    """Turns the health document into metrics at the moment of the scrape."""

    def __init__(self, health: Callable[[], Json]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Metrics named stemd_*."""
        health = self._health()
        simple = {
            "stemd_uptime_seconds": ("Seconds since the daemon started", "uptime_s"),
            "stemd_resident_bytes": ("Resident memory", "memory_bytes"),
            "stemd_disk_free_bytes": ("Free space in the data folder", "disk_free_bytes"),
            "stemd_mqtt_connected": ("1 while the broker is connected", "mqtt_connected"),
        }
        for name, (text, key) in simple.items():
            if health.get(key) is not None:
                yield GaugeMetricFamily(name, text, float(health[key]))
        yield from self._pipelines(health.get("pipelines", {}))

    def _pipelines(self, pipelines: dict[str, Json]) -> Iterable[Metric]:
        gauges = {
            "stemd_positions_per_second": ("Probe positions a second", "positions_per_second"),
            "stemd_pool_free_blocks": ("Blocks free in the pool", "pool_free"),
            "stemd_record_queue_blocks": ("Blocks waiting for the disk", "record_queue"),
            "stemd_last_frame_age_seconds": ("Age of the last frame", "last_frame_age_s"),
        }
        counters = {
            "stemd_positions": ("Probe positions received", "positions"),
            "stemd_scans": ("Scans finished", "scans_finished"),
            "stemd_snapshots_replaced": ("Snapshots replaced by newer", "snapshots_replaced"),
        }
        for kind, table in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
            for name, (text, key) in table.items():
                family = kind(name, text, labels=["pipeline"])
                for pipeline, document in pipelines.items():
                    if document.get(key) is not None:
                        family.add_metric([pipeline], float(document[key]))
                yield family
        notices = CounterMetricFamily(
            "stemd_notices", "Things counted by kind", labels=["pipeline", "kind"]
        )
        for pipeline, document in pipelines.items():
            for kind_name, count in document.get("counts", {}).items():
                notices.add_metric([pipeline, kind_name], float(count))
        yield notices


def metrics_text(health: Callable[[], Json]) -> Callable[[], bytes]:
    """A function that gives the Prometheus text of the health document as it then is."""
    registry = CollectorRegistry()
    registry.register(_Health(health))
    return lambda: generate_latest(registry)
