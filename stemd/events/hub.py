"""The one place on the event loop where everything a daemon has to tell arrives.

Pipelines put states, settings, snapshots, scan documents and log lines in; sinks (MQTT, the page,
those of somebody else) take them out. All methods but `request` are called on the event loop, and
all return at once: a sink that has slow work to do keeps its own queue, and does it in `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stemd.documents import Json, refused
from stemd.events.sink import Sink
from stemd.events.told import Tell, ToldSinks
from stemd.request_queue import Check, Handler, RequestQueue, not_ready
from stemd.results import Snapshot, is_older
from stemd.view import View

DAEMON = "daemon"
"""Stands for the daemon itself where the name of a pipeline stands else."""


class Hub:
    """Keeps the newest of everything and passes it to every sink."""

    def __init__(self) -> None:
        self.views: dict[str, View] = {}
        self.daemon_state: Json = {}
        self.health: Json = {}
        self.expected: tuple[str, ...] = ()
        """Pipelines of the config: those that run, and those that are still to be started."""
        self.home: asyncio.AbstractEventLoop | None = None
        """The event loop of all this, for sinks that have another one."""
        self._requests = RequestQueue()
        self._removed: set[str] = set()
        self._sinks = ToldSinks()

    @property
    def names(self) -> list[str]:
        """Every pipeline that runs or will."""
        return sorted({*self.views, *self.expected})

    @property
    def handler(self) -> Handler | None:
        """Carries requests out; None while the daemon is not ready for any."""
        return self._requests.handler

    @handler.setter
    def handler(self, handler: Handler | None) -> None:
        self._requests.handler = handler

    def expect(self, pipelines: Iterable[str]) -> None:
        """Pipelines of a new config. Those that are in none any more are forgotten and told."""
        self.expected = tuple(pipelines)
        self._removed -= set(self.expected)
        for gone in self.views.keys() - set(self.expected):
            del self.views[gone]
            self._removed.add(gone)
            self._requests.forget(gone)
            self._sinks.tell("on_removed", gone)

    def add(self, sink: Sink, name: str = "") -> None:
        """A new sink; it is told everything that is retained at once."""
        self._sinks.add(sink, name or type(sink).__name__, self._tell_retained)

    def tell_again(self, sink: Sink) -> None:
        """Tell a sink everything that is retained: it may have missed something."""
        self._sinks.tell_one(sink, self._tell_retained)

    def _tell_retained(self, tell: Tell) -> None:
        if self.daemon_state:
            tell("on_daemon_state", self.daemon_state)
        for pipeline, view in self.views.items():
            if view.state:
                tell("on_state", pipeline, view.state)
            if view.settings:
                tell("on_settings", pipeline, view.settings)
            if view.optics:
                tell("on_optics", pipeline, view.optics)

    def remove(self, sink: Sink) -> None:
        """Tell this sink nothing more."""
        self._sinks.remove(sink)

    def failed(self, sink: Sink, doing: str, error: Exception) -> None:
        """Something that a sink does has failed: it is told once, until `well`."""
        self._sinks.failed(sink, doing, error)

    def well(self, sink: Sink, doing: str) -> None:
        """It works again."""
        self._sinks.well(sink, doing)

    def sinks(self) -> Json:
        """How every sink is doing: by name its failures since the start, and its error now."""
        return self._sinks.report()

    def view(self, pipeline: str) -> View:
        """The pipeline's view, made on first use."""
        return self.views.setdefault(pipeline, View())

    async def request(
        self, pipeline: str, kind: str, request: Mapping[str, Any], check: Check | None = None
    ) -> Json:
        """Pass a settings change or a command on; returns the reply document of A3.

        `kind` is "settings", "command", or, for the daemon's config file whatever the pipeline,
        "config": whoever passes that on has seen the operator's token. `check` is asked once more
        when it is the request's turn. On any event loop.
        """
        home = self.home
        if home is not None and home is not asyncio.get_running_loop():
            asked = self._request(pipeline, kind, request, check)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, home))
        return await self._request(pipeline, kind, request, check)

    async def _request(
        self, pipeline: str, kind: str, request: Mapping[str, Any], check: Check | None
    ) -> Json:
        if kind == "config" and self.handler is not None:
            return await self._requests.ask(DAEMON, kind, request, check)
        names = self.names
        if pipeline not in names:
            message = f"there is no pipeline {pipeline!r}"
            return refused(request.get("id"), "pipeline", message, names)
        if self.handler is None or pipeline not in self.views:
            return not_ready(request, pipeline)
        return await self._requests.ask(pipeline, kind, request, check)

    def daemon(self, state: Json) -> None:
        """Publish the daemon's state."""
        self.daemon_state = state
        self._sinks.tell("on_daemon_state", state)

    def healthy(self, health: Json) -> None:
        """Publish the health document."""
        self.health = health
        self._sinks.tell("on_health", health)

    def state(self, pipeline: str, state: Json) -> None:
        """Publish a pipeline's state."""
        if pipeline in self._removed:
            return
        self.view(pipeline).state = state
        self._sinks.tell("on_state", pipeline, state)

    def settings(self, pipeline: str, settings: Json) -> None:
        """Publish a pipeline's live settings."""
        if pipeline in self._removed:
            return
        self.view(pipeline).settings = settings
        self._sinks.tell("on_settings", pipeline, settings)

    def optics(self, pipeline: str, optics: Json) -> None:
        """Publish what was measured of a scan's optics."""
        if pipeline in self._removed:
            return
        self.view(pipeline).optics = optics
        self._sinks.tell("on_optics", pipeline, optics)

    def snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Publish images; finished ones of a scan may come in several parts."""
        if pipeline in self._removed:
            return
        self.view(pipeline).take(snapshot)
        self._sinks.tell("on_snapshot", pipeline, snapshot)

    def completed(self, pipeline: str, snapshot: Snapshot) -> None:
        """Publish images made anew after their scan, where no later one has been finished."""
        newest = self.view(pipeline).last_final
        if newest is not None and is_older(snapshot, newest):
            later = {result.name for result in newest.results}
            snapshot = replace(
                snapshot, results=[r for r in snapshot.results if r.name not in later]
            )
        if snapshot.results:
            self.snapshot(pipeline, snapshot)

    def document(self, pipeline: str, document: Json) -> None:
        """Publish a scan document, or a session's."""
        if pipeline in self._removed:
            return
        if document.get("event") == "session":
            self.view(pipeline).session = document
        self._sinks.tell("on_document", pipeline, document)

    def log(self, pipeline: str, entry: Json) -> None:
        """Publish a warning or an error."""
        self._sinks.tell("on_log", pipeline, entry)
