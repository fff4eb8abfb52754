"""What every sink of events is, whoever has written it."""

from __future__ import annotations

import inspect
from typing import Any

from stemd.documents import Json
from stemd.errors import StemdError
from stemd.results import Snapshot


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
