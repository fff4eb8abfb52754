"""The one place on the event loop where everything a daemon has to tell arrives.

Pipelines put states, settings, snapshots, scan documents and log lines in; sinks (MQTT, the page,
those of somebody else) take them out. All methods but `request` are called on the event loop, and
all return at once: a sink that has slow work to do keeps its own queue, and does it in `run`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.documents import error_document, refused
from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.request_queue import Check, Handler, RequestQueue, not_ready
from stemd.results import Snapshot, is_older
from stemd.view import View

if TYPE_CHECKING:
    from stemd.config.resolved import PipelineConfig

Json = dict[str, Any]

DAEMON = "daemon"
"""Stands for the daemon itself where the name of a pipeline stands else."""

log = get_logger(__name__)


class Sink:
    """What is told everything that a daemon has to tell; base of every sink of events.

    Its methods do nothing: override those for what you want to know. `on_...` are called at any
    time between `start` and `stop`, and must return at once; documents, snapshots and their
    images are shared, so they must not be changed. What they raise is reported in the log and in
    the daemon's state, and hurts neither a scan nor another sink.

    A sink of a `[[sink]]` has a thread and an event loop of its own, on which all its methods are
    called: whatever it does, nobody else waits.

    The daemon calls `start`, runs `run` as a task, and calls `stop` at its end, within seconds.
    """

    _elsewhere = False
    """Whether `on_...` only pass on: how it went is told later, by `Hub.failed` and `Hub.well`."""

    async def start(self) -> None:
        """Make ready. Raises StemdError with a remedy where that cannot be."""

    async def run(self) -> None:
        """The sink's own work beside the scans, until cancelled.

        Not needed by a sink whose `on_...` do all. When it raises, the error is reported and it
        is begun again after a pause.
        """

    async def stop(self) -> None:
        """Send or write what is still waiting, give everything back; two seconds at most."""

    def on_daemon_state(self, state: Json) -> None:
        """The daemon's own state document (retained)."""

    def on_health(self, health: Json) -> None:
        """Rates, queues, memory, disk; every 5 s."""

    def on_state(self, pipeline: str, state: Json) -> None:
        """A pipeline's state document (retained)."""

    def on_settings(self, pipeline: str, settings: Json) -> None:
        """Every live setting of a pipeline as now in force (retained)."""

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Images of a running or just finished scan."""

    def on_optics(self, pipeline: str, optics: Json) -> None:
        """The optics that the data of the last scan have, beside what was told (retained)."""

    def on_document(self, pipeline: str, document: Json) -> None:
        """A scan document: `event` is `started`, `finished`, `aborted`, `completion`, `session`."""

    def on_log(self, pipeline: str, entry: Json) -> None:
        """A warning or an error."""

    def on_removed(self, pipeline: str) -> None:
        """The pipeline is in no config any more: nothing of it holds."""


def call_sink(sink: Sink, name: str, method: str, *what: Any) -> None:
    """Call one `on_...` of a sink. Raises what it raises, and StemdError where it is no `def`."""
    answer = getattr(sink, method)(*what)
    if inspect.iscoroutine(answer):
        answer.close()
        raise StemdError(
            f"sink {name}: {method} is 'async def', so it does nothing",
            "make it a plain 'def' that returns at once; slow work belongs into run",
        )


@dataclass(frozen=True, slots=True)
class Host:
    """What a sink of events may know of, and ask, the daemon that it belongs to.

    `hub` has the newest of everything, and takes requests; `instrument` names the instrument to
    others; `data_dir` is where scans are kept. `healthy` returns whether all is well, and the
    health document as it is now; `config_of` the config of a pipeline, None where there is none.
    All of them may be used on the sink's own event loop.
    """

    hub: Hub
    instrument: str
    data_dir: Path
    healthy: Callable[[], tuple[bool, Json]]
    config_of: Callable[[str], PipelineConfig | None]


@dataclass(slots=True)
class _Told:
    """A sink by its name, and what it has raised in which of its methods and not got over."""

    name: str
    sink: Sink
    errors: dict[str, StemdError] = field(default_factory=dict)
    failures: int = 0


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
        self._sinks: list[_Told] = []

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
            self._tell("on_removed", gone)

    def add(self, sink: Sink, name: str = "") -> None:
        """A new sink; it is told everything that is retained at once."""
        told = _Told(name or type(sink).__name__, sink)
        self._sinks.append(told)
        self._tell_retained(told)

    def tell_again(self, sink: Sink) -> None:
        """Tell a sink everything that is retained: it may have missed something."""
        for told in self._sinks:
            if told.sink is sink:
                self._tell_retained(told)

    def _tell_retained(self, told: _Told) -> None:
        if self.daemon_state:
            self._call(told, "on_daemon_state", self.daemon_state)
        for pipeline, view in self.views.items():
            if view.state:
                self._call(told, "on_state", pipeline, view.state)
            if view.settings:
                self._call(told, "on_settings", pipeline, view.settings)
            if view.optics:
                self._call(told, "on_optics", pipeline, view.optics)

    def remove(self, sink: Sink) -> None:
        """Tell this sink nothing more."""
        self._sinks = [told for told in self._sinks if told.sink is not sink]

    def _tell(self, method: str, *what: Any) -> None:
        for told in self._sinks:
            self._call(told, method, *what)

    def _call(self, told: _Told, method: str, *what: Any) -> None:
        try:
            call_sink(told.sink, told.name, method, *what)
        except Exception as error:
            self._failed(told, method, error)
        else:
            if told.errors and not told.sink._elsewhere:
                told.errors.pop(method, None)

    def failed(self, sink: Sink, doing: str, error: Exception) -> None:
        """Something that a sink does has failed: it is told once, until `well`."""
        for told in self._sinks:
            if told.sink is sink:
                self._failed(told, doing, error)

    def well(self, sink: Sink, doing: str) -> None:
        """It works again."""
        for told in self._sinks:
            if told.sink is sink:
                told.errors.pop(doing, None)

    def _failed(self, told: _Told, doing: str, error: Exception) -> None:
        told.failures += 1
        known = told.errors.get(doing)
        if isinstance(error, StemdError):
            found = error
        else:
            text = f"{type(error).__name__}: {error}"
            found = StemdError(f"sink {told.name}: {doing} failed: {text}", "see the daemon's log")
        told.errors[doing] = found
        # an error of stemd's own kind says what to do: where it was raised helps nobody
        trace = None if found is error else error
        if known is None or known.message != found.message:
            log.error(found.message, sink=told.name, remedy=found.remedy, exc_info=trace)

    def sinks(self) -> Json:
        """How every sink is doing: by name its failures since the start, and its error now."""
        return {
            told.name: {
                "failures": told.failures,
                "error": next((error_document(each) for each in told.errors.values()), None),
            }
            for told in self._sinks
        }

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
        self._tell("on_daemon_state", state)

    def healthy(self, health: Json) -> None:
        """Publish the health document."""
        self.health = health
        self._tell("on_health", health)

    def state(self, pipeline: str, state: Json) -> None:
        """Publish a pipeline's state."""
        if pipeline in self._removed:
            return
        self.view(pipeline).state = state
        self._tell("on_state", pipeline, state)

    def settings(self, pipeline: str, settings: Json) -> None:
        """Publish a pipeline's live settings."""
        if pipeline in self._removed:
            return
        self.view(pipeline).settings = settings
        self._tell("on_settings", pipeline, settings)

    def optics(self, pipeline: str, optics: Json) -> None:
        """Publish what was measured of a scan's optics."""
        if pipeline in self._removed:
            return
        self.view(pipeline).optics = optics
        self._tell("on_optics", pipeline, optics)

    def snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Publish images; finished ones of a scan may come in several parts."""
        if pipeline in self._removed:
            return
        self.view(pipeline).take(snapshot)
        self._tell("on_snapshot", pipeline, snapshot)

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
        self._tell("on_document", pipeline, document)

    def log(self, pipeline: str, entry: Json) -> None:
        """Publish a warning or an error."""
        self._tell("on_log", pipeline, entry)
