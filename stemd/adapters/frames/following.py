"""What every decoder of a frame camera says of the scan under way."""

from __future__ import annotations

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.frames import placing
from stemd.adapters.frames.placer import Placer
from stemd.adapters.frames.tracker import FrameCounts, NumberedCamera, ScanTracker
from stemd.adapters.tally import Tallies


class ScanFollower:
    """The part of a decoder that follows scans: base of `FrameDecoder` and of DECTRIS' decoder."""

    def __init__(self, camera: NumberedCamera, scan: Scan | None, source: str) -> None:
        self._tallies = Tallies()
        self._tracker = ScanTracker(camera, scan, source, self._tallies)
        self._placer = Placer(self._tracker)

    @property
    def scan(self) -> Scan | None:
        """The configured geometry."""
        return self._tracker.scan

    @scan.setter
    def scan(self, scan: Scan | None) -> None:
        self._tracker.scan = scan

    def of_several(self) -> None:
        """This is one of several links that bring the frames of a scan."""
        self._tracker.state[placing.RISES] = 1

    @property
    def acquisition(self) -> Acquisition | None:
        """The scan under way."""
        return self._tracker.acquisition

    @property
    def counters(self) -> FrameCounts:
        """Frames of the scan under way by fate; of the last scan when there is none."""
        if self._tracker.acquisition is not None:
            self._tracker.count()
        return self._tracker.counters

    @property
    def at_the_end(self) -> bool:
        """The scan under way lacks no more than its last frames: at most a line, or a 16th."""
        return self._tracker.at_the_end
