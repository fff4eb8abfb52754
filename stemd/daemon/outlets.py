"""The owner of the sinks that show the daemon's work to others: page, MQTT, foreign ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from stemd import plugins
from stemd.config.resolved import Config, PipelineConfig
from stemd.daemon.beside import beside
from stemd.daemon.sink_thread import SinkThread, host_for_threads
from stemd.errors import StemdError
from stemd.events import Host, Hub, Json, Sink
from stemd.logs import get_logger
from stemd.mqtt.broker import EmbeddedBroker
from stemd.plugins import Plugin
from stemd.tasks import Tasks

if TYPE_CHECKING:
    from stemd.mqtt.sink import MqttSink
    from stemd.page.server import Page

START_S, STOP_S = 10.0, 5.0
GOOD_AFTER_S = 10.0
"""A sink whose work has failed and was begun again is well after so long."""

log = get_logger(__name__)


class Outlets:
    """Starts the sinks that a config asks for, watches over their work, and ends them.

    All methods on the event loop. `healthy`: for `/healthz`, with the health document;
    `config_of`: a pipeline's config by its name.
    """

    def __init__(
        self,
        hub: Hub,
        healthy: Callable[[], tuple[bool, Json]],
        config_of: Callable[[str], PipelineConfig | None],
        broker_port: int = 0,
    ) -> None:
        self.page: Page | None = None
        self.mqtt: MqttSink | None = None
        self.broker: EmbeddedBroker | None = None
        self._hub, self._healthy, self._config_of = hub, healthy, config_of
        self._broker_port = broker_port
        self._sinks: dict[str, Sink] = {}
        self.tasks = Tasks()

    async def start(self, config: Config) -> None:
        """Start what the config asks for.

        Raises StemdError where the page or MQTT cannot be started. A foreign sink that cannot be
        is reported in the log and the state: the daemon goes on without it.
        """
        table = config.daemon
        host = Host(self._hub, table.instrument, table.data_dir, self._healthy, self._config_of)
        if config.page is not None:
            page = plugins.load("sinks", "page").build(config.page, host)
            await self._begin("page", page)
            self.page = page
        if (mqtt := config.mqtt) is not None:
            if mqtt.embedded:
                self.broker = EmbeddedBroker(port=self._broker_port)
                await self.broker.start()
                mqtt = mqtt.at_embedded(self.broker.url)
            self.mqtt = plugins.load("sinks", "mqtt").build(mqtt, host)
            await self._begin("mqtt", self.mqtt)
        for each in config.sinks:
            await self._try(each.plugin, each.settings, host_for_threads(host))

    async def stop(self) -> None:
        """Send what is still to be sent, and close everything; MQTT before the page."""
        for name, sink in reversed(self._sinks.items()):
            try:
                async with asyncio.timeout(STOP_S):
                    await sink.stop()
            except StemdError as error:
                log.error("a sink did not stop as it should", sink=name, error=str(error))
            except Exception:
                log.exception("a sink did not stop as it should", sink=name)
            self._hub.remove(sink)
        if self.broker is not None:
            await self.broker.stop()
        await self.tasks.stop()
        for sink in self._sinks.values():
            if isinstance(sink, SinkThread):
                sink.end()

    async def _try(self, plugin: Plugin, settings: Any, host: Host) -> None:
        """Start a foreign sink, whatever it does."""
        number = sum(name.partition(" ")[0] == plugin.name for name in self._sinks) + 1
        name = plugin.name if number == 1 else f"{plugin.name} {number}"
        try:
            async with asyncio.timeout(START_S):
                made = await beside(plugin.build, settings, host, name=f"build-{plugin.name}")
                sink = SinkThread(name, made, self._hub)
                try:
                    await self._begin(name, sink)
                except BaseException:
                    sink.end()
                    raise
            self.tasks.keep(sink.watch, f"watch-{name}")
        except Exception as error:
            if isinstance(error, TimeoutError):
                text = f"sink {name} was not ready within {START_S:.0f} s"
                error = StemdError(text, "see its own documentation, then restart stemd")
            # stands for the one that is not there, so that the state tells of it
            self._sinks[name] = nothing = Sink()
            self._hub.add(nothing, name)
            self._hub.failed(nothing, "start", error)

    async def _begin(self, name: str, sink: Sink) -> None:
        await sink.start()
        self._sinks[name] = sink
        self._hub.add(sink, name)
        self.tasks.keep(partial(self._work, sink), name, endless=False)

    async def _work(self, sink: Sink) -> None:
        """Have the sink do its work; it is well when it has done so for a while."""
        loop = asyncio.get_running_loop()
        good = loop.call_later(GOOD_AFTER_S, self._hub.well, sink, "run")
        try:
            await sink.run()
        except asyncio.CancelledError:
            self._hub.failed(sink, "run", StemdError("its work was cancelled"))
            raise
        except Exception as error:
            self._hub.failed(sink, "run", error)
            raise
        finally:
            good.cancel()

    @property
    def owners(self) -> list[Tasks]:
        """Who keeps the tasks without which nothing is shown."""
        others = [each.tasks for each in (self.page, self.broker) if each is not None]
        return [self.tasks, *others]

    @property
    def page_url(self) -> str | None:
        """Where the page is, None without one."""
        return self.page.url if self.page is not None else None

    @property
    def viewers(self) -> int:
        """Browsers that look at the page."""
        return self.page.viewers if self.page is not None else 0

    def broker_status(self) -> dict[str, Any] | None:
        """The connection to the broker, its state and counters; None without MQTT."""
        return self.mqtt.status.as_json() if self.mqtt is not None else None
