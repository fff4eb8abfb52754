"""The one place on the event loop where everything a daemon has to tell arrives.

Pipelines put states, settings, snapshots, scan documents and log lines in; the MQTT sink and
the page take them out. All methods are called on the event loop and return at once: a listener
that has slow work to do keeps its own mailbox.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from stemd.results import Snapshot

Json = dict[str, Any]


class Listener(Protocol):
    """A sink for what the daemon has to tell."""

    def on_daemon_state(self, state: Json) -> None:
        """The daemon's own state document (retained)."""
        ...

    def on_health(self, health: Json) -> None:
        """Rates, queues, memory, disk; every 5 s."""
        ...

    def on_state(self, pipeline: str, state: Json) -> None:
        """A pipeline's state document (retained)."""
        ...

    def on_settings(self, pipeline: str, settings: Json) -> None:
        """Every live setting of a pipeline as now in force (retained)."""
        ...

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Images of a running or just finished scan."""
        ...

    def on_document(self, pipeline: str, document: Json) -> None:
        """A scan document: `event` is `started`, `finished`, `aborted`; or a `session`'s."""
        ...

    def on_log(self, pipeline: str, entry: Json) -> None:
        """A warning or an error."""
        ...


@dataclass(slots=True)
class View:
    """What is known of one pipeline now."""

    state: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    snapshot: Snapshot | None = None
    last_final: Snapshot | None = None


def _joined(before: Snapshot | None, now: Snapshot) -> Snapshot:
    """The images of both where they are of one scan, the newer ones where both have them."""
    if before is None or before.acquisition.id != now.acquisition.id:
        return now
    names = {result.name for result in now.results}
    kept = [result for result in before.results if result.name not in names]
    return replace(now, results=[*kept, *now.results])


def _older(first: Snapshot, second: Snapshot) -> bool:
    """Whether the first is of an earlier scan than the second."""
    return first.acquisition.started_ns < second.acquisition.started_ns


Handler = Callable[[str, str, Mapping[str, Any]], Awaitable[Json]]
"""(pipeline, "settings" | "command", request) -> reply document; never raises."""


class Hub:
    """Keeps the newest of everything and passes it to every listener."""

    def __init__(self) -> None:
        self.views: dict[str, View] = {}
        self.daemon_state: Json = {}
        self.health: Json = {}
        self.handler: Handler | None = None
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """A new listener; it is told everything that is retained at once."""
        self._listeners.append(listener)
        if self.daemon_state:
            listener.on_daemon_state(self.daemon_state)
        for name, view in self.views.items():
            if view.state:
                listener.on_state(name, view.state)
            if view.settings:
                listener.on_settings(name, view.settings)

    def remove(self, listener: Listener) -> None:
        """Tell this listener nothing more."""
        self._listeners.remove(listener)

    def view(self, pipeline: str) -> View:
        """The pipeline's view, made on first use."""
        return self.views.setdefault(pipeline, View())

    async def request(self, pipeline: str, kind: str, request: Mapping[str, Any]) -> Json:
        """Pass a settings change or a command on; returns the reply document of A3."""
        if self.handler is None or pipeline not in self.views:
            return {
                "id": request.get("id"),
                "ok": False,
                "error": {
                    "key": "pipeline",
                    "message": f"there is no pipeline {pipeline!r}",
                    "allowed": sorted(self.views),
                },
            }
        return await self.handler(pipeline, kind, request)

    def daemon(self, state: Json) -> None:
        """Publish the daemon's state."""
        self.daemon_state = state
        for listener in self._listeners:
            listener.on_daemon_state(state)

    def healthy(self, health: Json) -> None:
        """Publish the health document."""
        self.health = health
        for listener in self._listeners:
            listener.on_health(health)

    def state(self, pipeline: str, state: Json) -> None:
        """Publish a pipeline's state."""
        self.view(pipeline).state = state
        for listener in self._listeners:
            listener.on_state(pipeline, state)

    def settings(self, pipeline: str, settings: Json) -> None:
        """Publish a pipeline's live settings."""
        self.view(pipeline).settings = settings
        for listener in self._listeners:
            listener.on_settings(pipeline, settings)

    def snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Publish images; finished ones of a scan may come in several parts."""
        view = self.view(pipeline)
        whole = _joined(view.last_final, snapshot) if snapshot.final else snapshot
        if view.snapshot is None or not _older(snapshot, view.snapshot):
            view.snapshot = whole
        if snapshot.final and (view.last_final is None or not _older(snapshot, view.last_final)):
            view.last_final = whole
        for listener in self._listeners:
            listener.on_snapshot(pipeline, snapshot)

    def completed(self, pipeline: str, snapshot: Snapshot) -> None:
        """Publish images made anew after their scan, where no later one has been finished."""
        newest = self.view(pipeline).last_final
        if newest is not None and _older(snapshot, newest):
            later = {result.name for result in newest.results}
            snapshot = replace(
                snapshot, results=[r for r in snapshot.results if r.name not in later]
            )
        if snapshot.results:
            self.snapshot(pipeline, snapshot)

    def document(self, pipeline: str, document: Json) -> None:
        """Publish a scan document, or a session's."""
        for listener in self._listeners:
            listener.on_document(pipeline, document)

    def log(self, pipeline: str, entry: Json) -> None:
        """Publish a warning or an error."""
        for listener in self._listeners:
            listener.on_log(pipeline, entry)
