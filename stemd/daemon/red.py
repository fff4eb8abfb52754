"""What keeps frames from being received, recorded and published now, each with its remedy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.inference.worker import shared
from stemd.logs import get_logger
from stemd.storage.disk_watch import DiskWatch
from stemd.tasks import Tasks

DEAF_S: Mapping[str, float] = {"reader": 15.0, "engines": 30.0, "recorder": 15.0}
"""A thread that has not moved for so long does not work now; it may go on later, so that the
watchdog waits longer (`heartbeats.PATIENCE_S`)."""
RED_TROUBLES = {
    "adapter": "adapter",
    "camera": "camera",
    "stream": "stream",
    "disk": "record",
    "session": "session",
}
"""Kinds of a pipeline's troubles that make health red, and what each is called there."""
CONNECTING_S = 15.0
"""A broker that has neither answered nor refused for so long is an error, not a beginning."""
CONNECTING = "it is being connected"
SEE_LOG = "see the daemon's log; if it does not heal by itself, restart stemd"

log = get_logger(__name__)


class Red:
    """Finds what is red. On the event loop.

    `broker` is the status of the connection to the broker, None without MQTT; `owners` are all
    that keep tasks.
    """

    def __init__(
        self,
        hub: Hub,
        pipelines: Mapping[str, Pipeline],
        broker: Callable[[], Json | None],
        owners: Callable[[], Iterable[Tasks]],
        told: dict[str, StemdError] | None = None,
    ) -> None:
        self.starting = "stemd is starting"
        """What the daemon does before it is ready; "" once it is."""
        self.disk: DiskWatch | None = None
        """Set as soon as there is a data folder to look at."""
        self.told = told if told is not None else {}
        """What others have found, by its kind."""
        self._hub, self._pipelines, self._broker = hub, pipelines, broker
        self._owners = owners
        self._logged: dict[tuple[str, str], str] = {}
        self._connecting: float | None = None
        """Since when the broker has neither answered nor refused."""

    def all(self) -> list[Json]:
        """All that is red now, as {what, message, remedy}; empty while all is well."""
        return [
            {"what": what, "message": message, "remedy": remedy}
            for what, message, remedy in self._found()
        ]

    def log_changes(self, red: Iterable[Json]) -> None:
        """Say once in the log what has become red, and what is well again."""
        now = {(each["what"], each["message"]): each["remedy"] for each in red}
        for (what, message), remedy in now.items():
            if (what, message) not in self._logged:
                begins = what == "start" or message.endswith(CONNECTING)
                tell = log.info if begins else log.error  # every start is red at first
                tell("health is red", what=what, why=message, remedy=remedy)
        for what, message in self._logged:
            if (what, message) not in now:
                log.info("health: this problem is over", what=what, why=message)
        self._logged = now

    def _found(self) -> Iterator[tuple[str, str, str]]:
        if self.starting:
            yield "start", self.starting, "wait until it is ready"
        for tasks in self._owners():
            for name, why in tasks.broken.items():
                yield "task", f"the task {name} has ended: {why}", f"it is begun again; {SEE_LOG}"
        for what, error in self.told.items():
            yield what, error.message, error.remedy
        if self.disk is not None and self.disk.error is not None:
            yield "disk", self.disk.error.message, self.disk.error.remedy
        for late in shared().late:
            yield "network", late.message, late.remedy
        yield from self._outlets()
        for name, pipeline in self._pipelines.items():
            yield from _of(name, pipeline)

    def _outlets(self) -> Iterator[tuple[str, str, str]]:
        yield from self._mqtt(self._broker())
        for name, status in self._hub.sinks().items():
            if status["error"] is not None:
                yield f"sink {name}", status["error"]["message"], status["error"]["remedy"]

    def _mqtt(self, broker: Json | None) -> Iterator[tuple[str, str, str]]:
        if broker is None or (broker["connected"] and broker["images_connected"]):
            self._connecting = None
            return
        error = broker["error"] or {}
        if error or self._connecting is None:
            self._connecting = time.monotonic()
        lasts = time.monotonic() - self._connecting
        late = f"it has not answered for {CONNECTING_S:.0f} s"
        why = error.get("message") or (CONNECTING if lasts < CONNECTING_S else late)
        which = "documents" if not broker["connected"] else "images"
        yield (
            "mqtt",
            f"no {which} reach the broker {broker['url']}: {why}",
            error.get("remedy") or "start the broker; stemd goes on trying",
        )


def _of(name: str, pipeline: Pipeline) -> Iterator[tuple[str, str, str]]:
    """What is red of one pipeline."""
    if pipeline.dead:
        yield "reader", f"{name}: the reader's thread has died", f"it is begun again; {SEE_LOG}"
    for kind, what in RED_TROUBLES.items():
        for found in pipeline.troubles.open(kind):
            # a camera that is switched off is no fault, unless a session waits for it
            if kind != "camera" or pipeline.sessions.current is not None:
                yield what, f"{name}: {found.message}", found.remedy
    ages = pipeline.report.ages_s()
    for thread, age in ages.items():
        if age > DEAF_S[thread]:
            pool = pipeline.reader.adapter.pool
            full = thread == "reader" and pool.buffers > 0 and pool.free == 0
            why = "no buffer is free" if full else "a disk, a network drive or a driver may hang"
            yield (
                "stalled",
                f"{name}: the {thread} thread is stuck: {why}",
                "find out what holds it up; systemd's watchdog restarts stemd if it lasts",
            )
