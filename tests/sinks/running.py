"""An MqttSink on an event loop in a thread of its own, as the daemon would have it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stemd.config.mqtt import MqttSettings
from stemd.events import Hub
from stemd.mqtt.sink import MqttSink
from stemd.results import Snapshot
from tests.conftest import wait_until

INSTRUMENT = "titan"
BASE = f"stemd/{INSTRUMENT}"


class RunningSink:
    """Hub and sink. `requests` keeps what reached the pipeline's handler, `reply` answers it."""

    def __init__(
        self,
        url: str,
        *,
        expected: Iterable[str] = (),
        state_dir: Path | None = None,
        images: Mapping[str, Sequence[str]] | None = None,
        last: Snapshot | None = None,
        **settings: Any,
    ) -> None:
        self.hub = Hub()
        self.hub.expect(expected)
        self.requests: list[tuple[str, str, Mapping[str, Any]]] = []
        self.handler_waits = 0.0
        self.hub.handler = self._handle
        self.hub.view("merlin")
        if last is not None:
            self.hub.view("merlin").take(last)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.sink: MqttSink = self.call(
            lambda: MqttSink(
                MqttSettings(url=url, **settings),
                INSTRUMENT,
                self.hub,
                state_dir,
                (images or {}).get,
            )
        )
        self.await_(self.sink.start())
        self.call(self.hub.add, self.sink, "mqtt")
        self.running = asyncio.run_coroutine_threadsafe(self.sink.run(), self._loop)

    async def _handle(self, pipeline: str, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(self.handler_waits)
        self.requests.append((pipeline, kind, request))
        return {"id": request.get("id"), "ok": True, "revision": len(self.requests)}

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on the event loop, as pipelines do."""

        async def run() -> Any:
            return function(*args)

        return self.await_(run())

    def await_(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def connected(self) -> None:
        wait_until(lambda: self.sink.status.images_connected, "the sink has connected")

    def stop(self) -> None:
        self.await_(self.sink.stop())
        self.running.result(5)

    async def _all_over(self) -> None:
        """Let tasks end that were told to: aiomqtt cancels its own and does not wait for it."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=5.0)

    def close(self) -> None:
        if not self.running.done():
            self.stop()
        self.await_(self._all_over())
        self.await_(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
