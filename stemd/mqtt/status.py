"""How the MQTT sink is doing, for the daemon's state and health."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stemd.documents import error_document
from stemd.errors import StemdError

Json = dict[str, Any]


@dataclass(slots=True)
class MqttStatus:
    """How the sink is doing. `broker` never contains a login."""

    broker: str
    connected: bool = False
    images_connected: bool = False
    version: str | None = None
    error: StemdError | None = None
    connects: int = 0
    failures: int = 0
    """Mistakes of stemd itself: messages that could not be taken in, sessions that broke."""
    counters: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> Json:
        """For the daemon's state and health documents."""
        error = self.error
        return {
            "url": self.broker,
            "connected": self.connected,
            "images_connected": self.images_connected,
            "version": self.version,
            "error": error and error_document(error),
            "connects": self.connects,
            "failures": self.failures,
            **self.counters,
        }
