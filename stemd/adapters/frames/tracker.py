"""Which scan is under way: opens, closes and counts scans of the frames that the decoder places."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan, new_scan_id
from stemd.adapters.frames import placing
from stemd.adapters.frames.format import Announcement, FrameLayout
from stemd.adapters.frames.scans import Plan, plan, resolve
from stemd.adapters.frames.told import jumped_back, lied, no_room_for
from stemd.adapters.silence import lacks_only_its_end
from stemd.adapters.tally import Tallies
from stemd.blocks import Ended, EndReason, Message, Notice, Started

NO_POSITIONS: NDArray[np.uint8] = np.zeros(0, np.uint8)
NO_MARKS: NDArray[np.uint16] = np.zeros(0, np.uint16)


@dataclass(slots=True)
class FrameCounts:
    """Frames by fate since the acquisition began; published, never reset in mid-scan."""

    frames: int = 0
    flyback: int = 0
    leading: int = 0
    repeated: int = 0
    extra: int = 0
    skipped_bytes: int = 0


class NumberedCamera(Protocol):
    """What is to be known of a camera to follow its scans, see `FrameFormat`."""

    name: str
    raw_name: str
    first_number: int
    turn: int


class ScanTracker:
    """The scans of one camera connection.

    `scan` is the configured geometry (None: told by the camera), may be set at any time, and counts
    from the next scan on. `state`, `seen` and `known` are what the placing kernel works on.
    """

    def __init__(
        self, camera: NumberedCamera, scan: Scan | None, source: str, tallies: Tallies
    ) -> None:
        self.scan = scan
        self.source = source
        self.acquisition: Acquisition | None = None
        self.counters = FrameCounts()
        self.state: NDArray[np.int64] = placing.new_state(camera.first_number, camera.turn)
        self.seen = NO_POSITIONS
        self.known = NO_MARKS
        self._tallies = tallies
        self._format = camera
        self._announced: Announcement | None = None
        self._plan: Plan | None = None
        self._planned: Scan | None = None
        self._to_say: list[Notice] = []
        """Of the next scan, as soon as it has begun."""
        self._horizon = 0
        self.new_acquisition(None)

    def new_acquisition(self, announced: Announcement | None) -> None:
        """Frame numbers begin again. The open scan, if any, must have been closed."""
        self._announced = announced
        self._plan = None
        self.state[placing.LAST] = -1
        self.state[placing.BASE] = self.state[placing.OFFSET] = 0
        self.state[placing.STEP], self.state[placing.BEFORE] = 1, -1
        self.state[placing.SINCE] = placing.BEAR_OUT
        self.known = NO_MARKS

    def say_of_next(self, notice: Notice) -> None:
        """What is to be told of the scan that begins next; the newest of each kind."""
        self._to_say = [each for each in self._to_say if each.kind != notice.kind] + [notice]

    def renumber(self) -> None:
        """Numbers began again, unannounced: what was announced last still counts."""
        self.new_acquisition(self._announced)

    @property
    def at_the_end(self) -> bool:
        """The scan under way lacks no more than its last frames: at most a line, or a 16th."""
        if self.acquisition is None:
            return False
        scan = self.acquisition.scan
        return lacks_only_its_end(self.remaining, scan.line_frames, scan.frames)

    @property
    def planned(self) -> bool:
        """The scan of the acquisition is known."""
        return self._plan is not None

    def make_plan(self) -> None:
        """Find out how the acquisition falls into scans. Raises FormatError where nothing tells."""
        self._planned = self.scan
        self._plan = plan(self.scan, self._announced)
        if self._plan.doubt:
            remedy = "set scan.shape and scan.flyback, or the camera's number of frames"
            self.say_of_next(Notice("frame_count", self._plan.doubt, remedy=remedy))
        placing.set_scan(self.state, self._plan.scan)
        self._look_ahead()

    @property
    def exhausted(self) -> bool:
        """Every frame that the acquisition was set to has come."""
        limit = None if self._plan is None else self._plan.limit
        return limit is not None and int(self.state[placing.LAST]) + 1 >= limit

    @property
    def remaining(self) -> int:
        """Frames to come until the scan at hand, or the next one, is complete; at least 1."""
        return max(1, self._horizon - int(self.state[placing.LAST]) - 1)

    def _look_ahead(self) -> None:
        """Find the number of the frame behind the scan at hand or the next one."""
        horizon = int(self.state[placing.BASE] + self.state[placing.TOTAL])
        limit = self._known_plan.limit
        self._horizon = horizon if limit is None else min(horizon, limit)

    def other_scan(self, layout: FrameLayout, now_ns: int) -> Generator[Message, None, bool]:
        """The kernel stopped at a frame outside the open scan: close it, or open the next.

        Returns True when the frame belongs to no scan and is to be passed over.
        """
        state = self.state
        n, limit = int(state[placing.NUMBER]), self._known_plan.limit
        if self.acquisition is not None:
            if limit is not None and n >= limit:
                # one number that cannot be: the frames behind it are those that were to come
                state[placing.N_FRAMES] += 1
                yield from self._extra(n)
                return True
            yield from self.close("complete", overtaken=True)
            return False
        m = n - int(state[placing.BASE])
        lost, rest = divmod(m, int(state[placing.TOTAL]))
        # Trailing flyback of a scan that was over already must not open another.
        flyback = m < 0 or rest > self._known_plan.scan.last_position_frame
        if n <= state[placing.LAST]:
            self.counters.repeated += 1
            yield from self._tallies.add("repeated_frames", f"frame {n} (from 0) came again")
        elif m >= 0 and limit is not None and n >= limit:
            yield from self._extra(n)
            n = -1
        elif flyback:
            self.counters.flyback += 1
        else:
            state[placing.BASE] += lost * state[placing.TOTAL]
            yield from self._open(layout, now_ns)
            return False
        self.counters.frames += 1
        state[placing.LAST] = max(n, int(state[placing.LAST]))
        return True

    def jumped_back(self) -> Iterator[Message]:
        """Frame `NUMBER` is no repeated one: the camera has lost its count, its order counts."""
        state = self.state
        n, last = int(state[placing.NUMBER]), int(state[placing.LAST])
        state[placing.OFFSET] += last + 1 - n
        yield from self._tallies.add(*jumped_back(last, n))

    @property
    def has_lies(self) -> bool:
        """Numbers have lied of which nothing was told yet."""
        return bool(self.state[placing.N_LIES :].any())

    def tell_lies(self) -> Iterator[Message]:
        """Tell of the numbers that have lied."""
        state = self.state
        said, put = int(state[placing.SAID]), int(state[placing.PUT])
        lies, no_room = (int(n) for n in state[[placing.N_LIES, placing.N_NO_ROOM]])
        state[placing.N_LIES :] = 0
        self.counters.extra += no_room
        if lies:
            yield from self._tallies.add(*lied(said, put, lies))
        if no_room:
            yield from self._tallies.add(*no_room_for(said, put, no_room))

    def _extra(self, number: int) -> Iterator[Message]:
        self.counters.extra += 1
        yield from self._tallies.add(
            "extra_frames",
            f"frame {number} (from 0) is beyond the last scan of the acquisition",
            remedy="set the camera's number of frames to that of the scan, flyback included",
        )

    @property
    def _known_plan(self) -> Plan:
        assert self._plan is not None
        return self._plan

    def _open(self, layout: FrameLayout, now_ns: int) -> Iterator[Message]:
        state = self.state
        if self.scan != self._planned:
            announced = self._announced
            frames = announced.frames if announced is not None else None
            self._plan = Plan(resolve(self.scan, None, announced), frames or None)
            self._planned = self.scan
            state[placing.BASE] = state[placing.NUMBER]
        scan, limit = self._known_plan.scan, self._known_plan.limit
        placing.set_scan(state, scan)
        left = scan.frames if limit is None else limit - int(state[placing.BASE])
        state[placing.END] = min(scan.frames, left)
        self._look_ahead()
        state[placing.N_FRAMES : placing.N_LIES] = 0
        self.counters = FrameCounts()
        self.seen = np.zeros(scan.positions, np.uint8)
        self.known = np.zeros(scan.frames, np.uint16)
        state[placing.KNOWN] = state[placing.BASE]
        state[placing.OPEN] = 1
        self.acquisition = self.new_scan(layout, now_ns)
        number = int(state[placing.BASE]) // max(1, int(state[placing.TOTAL]))
        yield Started(self.acquisition, number)
        yield from self._to_say
        self._to_say = []

    def new_scan(self, layout: FrameLayout, now_ns: int) -> Acquisition:
        """A scan of the plan, which begins now."""
        announced = self._announced or Announcement()
        mask = announced.mask
        return Acquisition(
            scan=self._known_plan.scan,
            detector=Detector(
                name=self._format.name,
                shape=layout.shape,
                dtype=layout.dtype,
                bit_depth=layout.depth,
                header=announced.text,
                mask=mask if mask is not None and mask.shape == layout.shape else None,
            ),
            id=new_scan_id(now_ns),
            started_ns=now_ns,
            source=self.source,
            raw_name=self._format.raw_name,
            sidecars=announced.sidecars,
        )

    def count(self) -> None:
        """Bring `counters` up to date with what the kernel counted."""
        state, counters = self.state, self.counters
        counters.frames = int(state[placing.N_FRAMES])
        counters.flyback = int(state[placing.N_FLYBACK])
        counters.leading = int(state[placing.N_LEADING])
        counters.repeated = int(state[placing.N_REPEATED])

    def _holes(self) -> int:
        """Positions of the open scan that a later frame of it has proven missing."""
        scan = self._known_plan.scan
        m = int(self.state[placing.LAST] - self.state[placing.BASE]) + 1 - scan.leading
        lines, column = divmod(max(0, m), scan.line_frames)
        known = min(scan.positions, lines * scan.shape[1] + min(column, scan.shape[1]))
        return known - int(self.state[placing.N_PLACED])

    def close(
        self, reason: EndReason, why: Notice | None = None, *, overtaken: bool = False
    ) -> Iterator[Message]:
        """End the open scan, if there is one; `overtaken`: a frame of a later scan has come.

        It is "complete" whatever the reason if its last position has been passed, and "stopped"
        if the camera's number of frames was reached before. `why`: what is told of a scan that ends
        before its last position.
        """
        acquisition = self.acquisition
        if acquisition is None:
            return
        state = self.state
        self.count()
        scan = acquisition.scan
        m = int(state[placing.LAST] - state[placing.BASE])
        passed = overtaken or m >= scan.last_position_frame
        final: EndReason = "complete" if passed else "stopped" if reason == "complete" else reason
        holes = scan.positions - int(state[placing.N_PLACED]) if passed else self._holes()
        if why is not None and not passed:
            yield why
        if holes:
            yield Notice("missing_frames", f"{holes} frames did not come", count=holes)
        if self.counters.repeated:
            n = self.counters.repeated
            yield Notice("repeated_frames", f"{n} frames came again", count=n)
        yield from self._tallies.rest()
        self.acquisition = None
        self.seen = NO_POSITIONS
        state[placing.OPEN] = 0
        if passed:
            state[placing.BASE] += state[placing.TOTAL]
            self._look_ahead()
        yield Ended(acquisition, final)
