"""What a pipeline knows of the disk: what was refused, and whether files are taken again."""

from __future__ import annotations

from collections.abc import Callable

from stemd.daemon.pipeline.troubles import Troubles
from stemd.daemon.sessions.sessions import Sessions
from stemd.errors import StemdError
from stemd.wording import one_of

LISTED = "stemd scans --status 'not recorded' lists what is not recorded; scan it again"


class DiskSide:
    """A pipeline's trouble with the disk. On the event loop.

    `suffers` says whether the disk has refused something of the running scan: until its end no
    disk that takes files makes good what is missing. `changed` is called after a change.
    """

    def __init__(
        self,
        troubles: Troubles,
        sessions: Sessions,
        suffers: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self.failures = 0
        """How often the disk has refused something."""
        self.scans_not_recorded = 0
        self._troubles, self._sessions = troubles, sessions
        self._suffers, self._changed = suffers, changed
        self._watched_ill = False
        """Whether whoever looks at the disk has found it ill, and not well since."""
        self._lost: list[str] = []
        """Scans that are not recorded, since the disk was well last."""

    @property
    def in_doubt(self) -> bool:
        """Whether the disk has refused something, and nothing better is known since."""
        return bool(self._troubles.open("disk"))

    def failed(self, error: StemdError) -> None:
        """The disk does not take what it is given."""
        self.failures += 1
        self._troubles.error(error, "disk")
        self._sessions.there("disk", there=False)
        self._changed()

    def found_ill(self, error: StemdError) -> None:
        """Whoever looks at the disk says so: until it says otherwise no scan that ends does."""
        self._watched_ill = True
        self.failed(error)

    def found_well(self, since: str) -> None:
        """Whoever looks at the disk says so."""
        self._watched_ill = False
        self.well(since)

    def not_recorded(self, scan_id: str) -> None:
        """The disk has not everything of this scan."""
        self.scans_not_recorded += 1
        self._lost.append(scan_id)

    def well(self, since: str) -> None:
        """The disk takes files again, since then; no news while a running scan is not kept.

        Nor while the disk is known to be ill: the last images of a scan still find room on a disk
        that is too full for the next record.
        """
        if self._suffers() or self._watched_ill:
            return
        self._sessions.there("disk", there=True)
        if not self._troubles.over("disk"):
            return
        lost, self._lost = self._lost, []
        text = f"the data folder has taken files again since {since}"
        if lost:
            text += f"; not recorded before: {len(lost)} scans, the last of them {lost[-1]}"
        self._troubles.tell("warning", one_of(text), LISTED if lost else "", "disk")
        self._changed()
