"""What shows the daemon's work to others: the live page, MQTT, and the demo's own broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stemd.config.resolved import Config, PipelineConfig
from stemd.daemon.tasks import Tasks
from stemd.events import Hub, Json
from stemd.mqtt.broker import EmbeddedBroker
from stemd.mqtt.sink import MqttSink
from stemd.page.metrics import metrics_text
from stemd.page.server import Page


class Outlets:
    """Page and MQTT as the config asks for them. All methods on the event loop.

    `healthy`: for `/healthz`; `health`: the health document; `config_of`: a pipeline's config
    by its name.
    """

    def __init__(
        self,
        healthy: Callable[[], tuple[bool, Json]],
        health: Callable[[], Json],
        config_of: Callable[[str], PipelineConfig | None],
        broker_port: int = 0,
    ) -> None:
        self.page: Page | None = None
        self.page_url: str | None = None
        self.mqtt: MqttSink | None = None
        self.broker: EmbeddedBroker | None = None
        self._healthy, self._health, self._config_of = healthy, health, config_of
        self._broker_port = broker_port
        self._tasks = Tasks()

    async def start(self, config: Config, hub: Hub) -> None:
        """Start what the config asks for. Raises StemdError."""
        instrument, data_dir = config.daemon.instrument, Path(config.daemon.data_dir)
        if config.page is not None:
            self.page = Page(
                config.page,
                hub,
                instrument,
                data_dir,
                self._healthy,
                metrics_text(self._health),
                self._config_of,
            )
            self.page_url = await self.page.start()
        mqtt = config.mqtt
        if mqtt is not None:
            if mqtt.url == "embedded":
                self.broker = EmbeddedBroker(port=self._broker_port)
                await self.broker.start()
                mqtt = mqtt.model_copy(update={"url": self.broker.url, "version": "3.1.1"})
            self.mqtt = MqttSink(mqtt, instrument, hub)
            self._tasks.start(self.mqtt.run(), "mqtt")

    async def stop(self) -> None:
        """Send what is still to be sent, and close everything."""
        if self.mqtt is not None:
            await self.mqtt.stop()
        if self.page is not None:
            await self.page.stop()
        if self.broker is not None:
            await self.broker.stop()
        await self._tasks.stop()

    @property
    def viewers(self) -> int:
        """Browsers that look at the page."""
        return self.page.viewers if self.page is not None else 0

    def broker_status(self) -> dict[str, Any] | None:
        """The connection to the broker, its state and counters; None without MQTT."""
        return self.mqtt.status.as_json() if self.mqtt is not None else None
