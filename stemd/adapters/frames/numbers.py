"""How the sequence numbers of a file's frames run, found from few headers where that is enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.frames.format import FrameFormat, FrameStart
from stemd.adapters.frames.placing import may_leave_out_0
from stemd.adapters.frames.placing_files import unwrap_numbers
from stemd.adapters.frames.scans import flyback_from_count, guess_scan
from stemd.adapters.frames.storage import Storage

_LINES = 4  # lines whose ends are looked at for skipped flyback
_LINE_SEARCH = 4096  # frames searched for the end of the first line where nothing tells the shape


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Access to the sequence numbers of the `count` frames from frame `begin` of a file on.

    They wrap at `turn`, see `turn_of`. Where the numbers in the headers go up by `step` from
    `origin` on, those that are read go up by 1.
    """

    storage: Storage
    camera: FrameFormat
    start: FrameStart
    count: int
    turn: int
    begin: int = 0
    step: int = 1
    origin: int = 1

    def read(self, indices: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """Unwrapped numbers (from 1) of these frames, 0 where there is no header.

        `start` is the number of frame 0: what is near `start + index` is believed.
        """
        return self._read(indices, indices + start)

    def read_all(self, start: int = 1) -> NDArray[np.int64]:
        """Numbers of all frames, as `read`: one that lies does not move those behind it."""
        return self.read(np.arange(self.count, dtype=np.int64), start)

    def _read(self, indices: NDArray[np.int64], hints: NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.zeros(indices.size, np.int64)
        if self.step > 1:
            hints = np.where(hints >= 0, self.origin + (hints - 1) * self.step, hints)
        unwrap_numbers(self.raw(indices), hints, self.camera.first_number, self.turn, out)
        if self.step > 1:
            out = np.where(out > 0, (out - self.origin) // self.step + 1, 0)
        return out

    def raw(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of these frames as sent, -1 where there is no header."""
        camera, start = self.camera, self.start
        length = camera.number_bytes(start)
        data, stride, where = self.storage.headers(
            indices + self.begin, start.layout.frame_bytes, length
        )
        raw = np.empty(indices.size, np.int64)
        camera.read_numbers(data, stride, where, start.reference, raw)
        return raw

    def turn_of(self) -> int:
        """What the numbers wrap at: one less than the camera says where 0 is left out."""
        first = int(self.raw(np.zeros(1, np.int64))[0])
        if first + self.count < self.turn or not may_leave_out_0(
            self.camera.first_number, self.turn
        ):
            return self.turn
        raw = self.raw(np.arange(self.count, dtype=np.int64))
        last = np.flatnonzero(raw[:-1] == self.turn - 1)
        return self.turn - (not (raw == 0).any() and bool((raw[last + 1] == 1).any()))


@dataclass(frozen=True, slots=True)
class Ends:
    """The sequence numbers of a file's first and last frame, and how many frames it has."""

    first: int
    last: int
    count: int

    @property
    def span(self) -> int:
        """Frames that the camera took between the two, both included."""
        return self.last - self.first + 1


def ends_of(table: FrameTable) -> Ends:
    """Numbers at both ends; a last header that cannot be read counts as regular."""
    first = int(table.read(np.zeros(1, np.int64), 1)[0])
    last = int(table.read(np.array([table.count - 1], np.int64), first)[0])
    return Ends(first, last or first + table.count - 1, table.count)


def skipped_flyback(table: FrameTable, ends: Ends, scan: Scan) -> int:
    """Numbers left out after each of the first lines, 0 unless it is the same for each."""
    ny, nx = scan.lines, scan.shape[1]
    lines = np.arange(1, min(ny, _LINES + 1), dtype=np.int64) * nx + scan.leading
    lines = lines[lines < table.count]
    before, after = table.read(lines - 1, ends.first), table.read(lines, ends.first)
    starts = table.read(lines - nx, ends.first)
    gaps = np.unique(after - before - 1)
    whole = before - starts == nx - 1
    return int(gaps[0]) if gaps.size == 1 and gaps[0] > 0 and bool(np.all(whole)) else 0


def shape_from_gaps(table: FrameTable, ends: Ends) -> tuple[int, int] | None:
    """(ny, nx) where the first gap ends a line and the number of frames is a multiple of it."""
    if ends.span == ends.count:
        return None
    numbers = table.read(np.arange(min(table.count, _LINE_SEARCH), dtype=np.int64), ends.first)
    gaps = np.flatnonzero(np.diff(numbers) > 1) + 1
    if not gaps.size or np.any(gaps % gaps[0]) or table.count % gaps[0]:
        return None
    nx = int(gaps[0])
    return table.count // nx, nx


def resolve_file(
    table: FrameTable, ends: Ends, scan: Scan | None, hinted: Scan | None, declared: int | None
) -> Scan:
    """The scan of a file with shape and flyback known.

    `scan` is the configured one, `hinted` what a file beside it tells, `declared` the frames that
    the camera was set to. Raises FormatError when nothing tells the shape.
    """
    if scan is None:
        shape = shape_from_gaps(table, ends) if hinted is None else None
        scan = hinted or (Scan(shape=shape) if shape else guess_scan(ends.count, None))
    filtered = ends.count == scan.positions and ends.span != ends.count
    if scan.flyback is not None and not (scan.flyback == 0 and filtered):
        return scan
    # Numbers left out after every line are flyback frames that somebody has taken out of the
    # file: a scan said to be without flyback is just that then.
    found = skipped_flyback(table, ends, scan) if ends.span != ends.count else 0
    if not found and scan.flyback is None:
        lines = scan.lines, scan.shape[1]
        counted = flyback_from_count(lines, ends.span - scan.leading)
        # what is there, if it fits and nothing lacks, outweighs what the camera was set to
        if declared and declared >= ends.last and (counted is None or ends.span != ends.count):
            counted = flyback_from_count(lines, declared - scan.leading)
        found = counted or 0
    return scan.model_copy(update={"flyback": found})
