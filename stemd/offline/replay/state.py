"""How a replay stands, as its viewer is told. From any thread."""

from __future__ import annotations

import numpy as np

from stemd.config.live import LiveSettings
from stemd.errors import StemdError
from stemd.offline.replay.pace import Pace
from stemd.offline.replay.sender import Sender
from stemd.offline.replay.wishes import NOT_HERE
from stemd.results import Snapshot
from stemd.scan.run import ScanRun


class State:
    """The state's name and the positions done; every change is sent at once."""

    def __init__(self, sender: Sender, scan_id: str, pace: Pace) -> None:
        self._sender = sender
        self._scan_id = scan_id
        self._pace = pace
        self._name = "preparing"
        self._done = self._total = 0

    def begin(self, total: int) -> None:
        """A pass over so many positions begins; told with the next state."""
        self._total = total

    def tell(self, state: str, message: str = "", remedy: str = "") -> None:
        """From now on so; `message` and `remedy` for people."""
        self._name = state
        document = {
            "state": state,
            "scan": self._scan_id,
            "positions_done": self._done,
            "positions_total": self._total,
            "late": self._pace.late,
            "message": message,
            "remedy": remedy,
        }
        self._sender.text("replay", document)

    def tell_pace(self) -> None:
        """Playing or paused, if it is still one of the two."""
        if self._name in ("playing", "paused"):
            self.tell("paused" if self._pace.paused else "playing")

    def tell_failure(self, engine: str, error: StemdError) -> None:
        """An engine has failed."""
        self.tell(self._name, f"engine {engine} is left out: {error.message}", error.remedy)

    def tell_settings(self, live: LiveSettings) -> None:
        """The settings now in force."""
        document = live.as_json()
        self._sender.text(
            "settings", {key: value for key, value in document.items() if key not in NOT_HERE}
        )

    def show(self, run: ScanRun, snapshot: Snapshot) -> None:
        """New images, and how far the beam has come."""
        self._done = snapshot.positions_done
        done = np.flatnonzero(run.sums.maps.done)
        self._sender.show(snapshot, int(done[-1]) + 1 if done.size else 0)
        if not snapshot.final:
            self.tell("paused" if self._pace.paused else "playing")
