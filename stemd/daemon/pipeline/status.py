"""The state of a pipeline as people see it, and the task that keeps it up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from stemd.daemon.pipeline.troubles import Troubles
from stemd.events import Hub, Json

State = Literal["stopped", "waiting", "acquiring", "finishing", "fault"]
Activity = Literal["acquiring", "finishing"]

STATE_PERIOD_S = 0.5


class Status:
    """The state: it follows from what is going on, from the camera and from open troubles.

    On the event loop. `activity` says what scans do now, `document` is the state document.
    """

    def __init__(
        self,
        pipeline: str,
        hub: Hub,
        troubles: Troubles,
        activity: Callable[[], Activity | None],
        document: Callable[[], Json],
    ) -> None:
        self.state: State = "stopped"
        self.linked = False
        """Whether the camera is connected."""
        self.exhausted = False
        """Whether the source has ended for good, as a file does."""
        self.ready = asyncio.Event()
        """Set once the camera has been found, or is known to be missing."""
        self.idle = asyncio.Event()
        """Set while no scan is made or written."""
        self._runs = False  # between start and stop; a file that is exhausted has stopped, too
        self._pipeline, self._hub, self._troubles = pipeline, hub, troubles
        self._activity, self._document = activity, document

    def start(self) -> None:
        """The pipeline begins."""
        self._runs = True
        self._set("waiting")

    def stop(self) -> None:
        """The pipeline has ended."""
        self._runs = False
        self._set("stopped")

    def update(self) -> None:
        """Publish the state that follows from what is going on."""
        activity = self._activity()
        if activity is None:
            self.idle.set()
        else:
            self.idle.clear()
        if self._runs:
            self._set(activity or self._at_rest())

    def _at_rest(self) -> State:
        if self._troubles.fault:
            return "fault"
        return "stopped" if self.exhausted else "waiting"

    def _set(self, state: State) -> None:
        self.state = state
        self.publish()

    def publish(self) -> None:
        """Publish the state document."""
        self._hub.state(self._pipeline, self._document())


async def watch(
    pipeline: str,
    status: Status,
    troubles: Troubles,
    stalled: Callable[[], list[str]],
    revive: Callable[[], None] = lambda: None,
    camera_status: Callable[[], object] = lambda: None,
) -> None:
    """Publish the state while it changes by itself, and tell of threads that are stuck.

    `revive` begins again those that have died, `camera_status` is what the camera says of itself.
    """
    known: set[str] = set()
    said = camera_status()
    while True:
        await asyncio.sleep(STATE_PERIOD_S)
        revive()
        before, said = said, camera_status()
        if status.state == "acquiring" or said != before:
            status.publish()
        now = set(stalled())
        for thread in sorted(now - known):
            troubles.tell(
                "error",
                f"the {thread} thread of {pipeline} is stuck",
                "a disk or network drive may hang; under systemd the watchdog restarts stemd",
                "stalled",
                of=thread,
            )
        for thread in known - now:
            troubles.over("stalled", of=thread)
        if now != known:
            status.update()
        known = now
