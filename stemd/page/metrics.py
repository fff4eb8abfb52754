"""Prometheus metrics of a running daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Json = dict[str, Any]

STATES = ("stopped", "waiting", "acquiring", "finishing", "fault")


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
            "stemd_open_files": ("Open file handles", "open_files"),
            "stemd_threads": ("Threads", "threads"),
            "stemd_disk_free_bytes": ("Free space in the data folder", "disk_free_bytes"),
            "stemd_mqtt_connected": ("1 while the broker is connected", "mqtt_connected"),
            "stemd_viewers": ("Browsers that look at the page", "viewers"),
        }
        for name, (text, key) in simple.items():
            if health.get(key) is not None:
                yield GaugeMetricFamily(name, text, float(health[key]))
        if health["cpu_seconds"] is not None:
            yield CounterMetricFamily("stemd_cpu_seconds", "Processor time", health["cpu_seconds"])
        yield from self._watched(health)
        yield from self._disk(health.get("disk", {}))
        yield from self._completions(health.get("completions", {}))
        yield from self._broker(health.get("broker", {}))
        yield from self._pipelines(health.get("pipelines", {}))

    @staticmethod
    def _watched(health: Json) -> Iterable[Metric]:
        text = "What keeps frames from being received, recorded or published now; 0 is green"
        yield GaugeMetricFamily("stemd_red", text, float(len(health.get("red", []))))
        text = "Tasks that ended unexpectedly and were begun again"
        failures = CounterMetricFamily("stemd_task_failures", text, labels=["task"])
        for task, count in health.get("task_failures", {}).items():
            failures.add_metric([task], float(count))
        yield failures

    @staticmethod
    def _disk(disk: Json) -> Iterable[Metric]:
        if not disk:
            return
        if disk["total_bytes"] is not None:
            text = "Size of the disk of the data folder"
            yield GaugeMetricFamily("stemd_disk_total_bytes", text, float(disk["total_bytes"]))
        flags = {
            "stemd_disk_low": ("1 below retention.warn_free_gb", disk["low"]),
            "stemd_disk_failed": ("1 while the data folder cannot be written", disk["error"]),
        }
        for name, (text, value) in flags.items():
            yield GaugeMetricFamily(name, text, float(bool(value)))
        owed = "Scan documents that wait for the disk"
        yield GaugeMetricFamily("stemd_disk_documents_owed", owed, disk["documents_owed"])
        deleted = "Scans deleted by retention"
        yield CounterMetricFamily("stemd_scans_deleted", deleted, disk["scans_deleted"])

    @staticmethod
    def _completions(counts: Json) -> Iterable[Metric]:
        text = "Scans whose images were completed from the record, or were not"
        ends = CounterMetricFamily("stemd_completions", text, labels=["end"])
        for end, count in counts.items():
            ends.add_metric([end], float(count))
        yield ends

    @staticmethod
    def _broker(broker: Json) -> Iterable[Metric]:
        counters = {
            "connects": "Connections to the broker",
            "images_sent": "Images sent",
            "images_replaced": "Growing images replaced by newer ones before they were sent",
            "images_refused": "Images that the broker refused",
            "finals_dropped": "Finished images dropped without a broker",
            "documents_dropped": "Documents dropped without a broker",
            "requests_refused": "Requests refused",
        }
        for key, text in counters.items():
            if key in broker:
                yield CounterMetricFamily(f"stemd_mqtt_{key}", text, float(broker[key]))

    def _pipelines(self, pipelines: dict[str, Json]) -> Iterable[Metric]:
        gauges = {
            "stemd_positions_per_second": ("Probe positions a second", "positions_per_second"),
            "stemd_pool_free_blocks": ("Blocks free in the pool", "pool_free"),
            "stemd_record_queue_blocks": ("Blocks waiting for the disk", "record_queue"),
            "stemd_last_frame_age_seconds": ("Age of the last frame", "last_frame_age_s"),
            "stemd_camera_connected": ("1 while the camera is connected", "camera_connected"),
            "stemd_adapter_failures": ("Failures of the adapter in a row", "adapter_failures"),
            "stemd_scans_being_written": ("Scans being written", "scans_being_written"),
        }
        counters = {
            "stemd_positions": ("Probe positions received", "positions"),
            "stemd_scans": ("Scans finished", "scans_finished"),
            "stemd_scans_not_complete": ("Scans that miss positions", "scans_not_complete"),
            "stemd_scans_not_recorded": (
                "Scans of which the disk has not everything",
                "scans_not_recorded",
            ),
            "stemd_record_waits": ("Times a scan's record held the camera up", "record_waits"),
            "stemd_snapshots_replaced": ("Snapshots replaced by newer", "snapshots_replaced"),
        }
        for kind, table in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
            for name, (text, key) in table.items():
                family = kind(name, text, labels=["pipeline"])
                for pipeline, document in pipelines.items():
                    if document.get(key) is not None:
                        family.add_metric([pipeline], float(document[key]))
                yield family
        states = GaugeMetricFamily(
            "stemd_state", "1 for the state that is", labels=["pipeline", "state"]
        )
        ages = GaugeMetricFamily(
            "stemd_thread_age_seconds",
            "Seconds since a thread last showed that it works",
            labels=["pipeline", "thread"],
        )
        for pipeline, document in pipelines.items():
            for state in STATES:
                states.add_metric([pipeline, state], float(document.get("state") == state))
            for thread, age in document.get("threads_age_s", {}).items():
                ages.add_metric([pipeline, thread], float(age))
        yield states
        yield ages
        yield from self._optics(pipelines)
        notices = CounterMetricFamily(
            "stemd_notices", "Things counted by kind", labels=["pipeline", "kind"]
        )
        for pipeline, document in pipelines.items():
            for kind_name, count in document.get("counts", {}).items():
                notices.add_metric([pipeline, kind_name], float(count))
        yield notices

    @staticmethod
    def _optics(pipelines: dict[str, Json]) -> Iterable[Metric]:
        labels = ["pipeline", "quantity"]
        value = GaugeMetricFamily(
            "stemd_measured_optics", "Optics measured in the last scan", labels=labels
        )
        sigma = GaugeMetricFamily(
            "stemd_measured_optics_sigma", "Their standard errors", labels=labels
        )
        agree = GaugeMetricFamily(
            "stemd_optics_agree", "1 where the optics told agree with the data", labels=labels[:1]
        )
        for pipeline, document in pipelines.items():
            optics = document.get("optics")
            if optics is None:
                continue
            if optics["agrees"] is not None:
                agree.add_metric([pipeline], float(optics["agrees"]))
            for name, each in optics["numbers"].items():
                value.add_metric([pipeline, name], float(each["value"]))
                if each["sigma"] is not None:
                    sigma.add_metric([pipeline, name], float(each["sigma"]))
        yield value
        yield sigma
        yield agree


def metrics_text(health: Callable[[], Json]) -> Callable[[], bytes]:
    """A function that returns the health document of that moment as Prometheus text."""
    registry = CollectorRegistry()
    registry.register(_Health(health))
    return lambda: generate_latest(registry)
