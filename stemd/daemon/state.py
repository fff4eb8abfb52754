"""What the daemon says of itself: its state, published when it changes."""

from __future__ import annotations

import platform
import secrets
import time

from stemd import __version__
from stemd.acquisition import iso_utc
from stemd.daemon.health import Health
from stemd.daemon.outlets import Outlets
from stemd.daemon.pipelines import Pipelines
from stemd.events import Hub, Json


class State:
    """The `daemon` topic of one daemon."""

    def __init__(
        self, hub: Hub, pipelines: Pipelines, outlets: Outlets, health: Health, instrument: str
    ) -> None:
        self._hub, self._pipelines, self._outlets, self._health = hub, pipelines, outlets, health
        self._instrument = instrument
        self._boot_id = secrets.token_hex(8)
        self.started_ns = time.time_ns()
        self._told: Json = {}

    def publish(self) -> None:
        """Say what is now."""
        now = time.time_ns()
        red = self._health.red.all()
        self._told = self._what_may_change(red)
        self._hub.daemon(
            {
                "version": __version__,
                "boot_id": self._boot_id,
                "instrument": self._instrument,
                "since": iso_utc(self.started_ns),
                "since_ns": self.started_ns,
                "pipelines": list(self._pipelines.running),
                "broker": self._outlets.broker_status(),
                "page": self._outlets.page_url,
                "sinks": self._sink_errors(),
                "red": red,
                "host": platform.node(),
                "time": iso_utc(now),
                "time_ns": now,
            }
        )

    def publish_changes(self, red: list[Json]) -> None:
        """Say what is now if that is not what was said last."""
        self._pipelines.broker(self._outlets.broker_status())
        if self._what_may_change(red) != self._told:
            self.publish()

    def _what_may_change(self, red: list[Json]) -> Json:
        """What is a state, not a counter."""
        broker = self._outlets.broker_status() or {}
        keys = ("connected", "images_connected", "version", "error")
        return {
            **{key: broker.get(key) for key in keys},
            "sinks": self._sink_errors(),
            "red": red,
        }

    def _sink_errors(self) -> Json:
        """By name what is wrong with a sink now, null where all is well."""
        return {name: status["error"] for name, status in self._hub.sinks().items()}
