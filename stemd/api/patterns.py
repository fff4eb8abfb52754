"""The patterns of a record as an array (y, x, ky, kx) that reads what is indexed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings, Recording
from stemd.blocks import FrameBlock
from stemd.errors import UsageError


class Patterns:
    """Patterns by probe position; `dask.array.from_array` and `stemd.api` take it for an array.

    `shape` is (ny, nx, height, width), `dtype` that of the counts. Integers, slices and `...`
    index it; only the patterns that are asked for are read. A position without a pattern gives
    zeros. Not for several threads at a time. Raises UsageError for a record of events.
    """

    ndim = 4

    def __init__(self, record: Path, scan: Scan, camera: AdapterSettings | None = None) -> None:
        from stemd.adapters.files import open_recording

        self._recording: Recording = open_recording(record, scan, camera)
        acquisition = self._recording.acquisition
        self._frames = self._recording.frames
        if not self._recording.splits:
            self._recording.close()
            raise UsageError(
                f"{record} holds events, which have no patterns one by one",
                "process() makes images of them; pacbed is their mean pattern",
            )
        self._scan = acquisition.scan
        self.shape: tuple[int, ...] = (*self._scan.shape, *acquisition.detector.shape)
        self.dtype: np.dtype[Any] = np.dtype(acquisition.detector.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Patterns as a new array. Raises IndexError as NumPy does."""
        lines, columns, *rest = self._full(index)
        (ys, one_line), (xs, one_column) = self._numbers(lines, 0), self._numbers(columns, 1)
        found = np.zeros((len(ys), len(xs), *self.shape[2:]), self.dtype)
        for i, y in enumerate(ys):
            for j, x in enumerate(xs):
                pattern = self._pattern(y, x)
                if pattern is not None:
                    found[i, j] = pattern
        first: tuple[Any, ...] = (0 if one_line else slice(None), 0 if one_column else slice(None))
        wanted: NDArray[Any] = found[(*first, *rest)]
        return wanted

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the patterns are in a file: they cannot be had without a copy")
        return np.asarray(self[...], dtype)

    def close(self) -> None:
        """Close the record."""
        self._recording.close()

    def __enter__(self) -> Patterns:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Patterns {self.shape} of {self.dtype} from {self._recording.acquisition.source}>"

    def _full(self, index: Any) -> tuple[Any, ...]:
        given = index if isinstance(index, tuple) else (index,)
        dots = [at for at, each in enumerate(given) if each is ...]
        if len(dots) > 1 or len(given) - len(dots) > self.ndim:
            raise IndexError(f"too many indices for patterns of shape {self.shape}")
        at = dots[0] if dots else len(given)
        behind = given[at + 1 :]
        fill = (slice(None),) * (self.ndim - len(given) + len(dots))
        return (*given[:at], *fill, *behind)

    def _numbers(self, index: Any, axis: int) -> tuple[Sequence[int], bool]:
        size = self.shape[axis]
        if isinstance(index, slice):
            return range(*index.indices(size)), False
        try:
            number = operator.index(index)
        except TypeError as error:
            raise IndexError("patterns are indexed by whole numbers, slices and ...") from error
        if not -size <= number < size:
            raise IndexError(f"index {number} is out of bounds for axis {axis} of size {size}")
        return [number % size], True

    def _pattern(self, y: int, x: int) -> NDArray[Any] | None:
        """The pattern of a position, None where there is none.

        Frames that the camera lost make the file shorter: the frame is looked for by its number,
        from where it would be in a whole file downwards.
        """
        scan = self._scan
        column = scan.shape[1] - 1 - x if scan.serpentine and y % 2 else x
        wanted = scan.leading + y * scan.line_frames + column
        high = min(wanted, self._frames - 1)
        low = 0
        at = high
        while low <= high:
            block = self._block(at)
            number = int(block.sequence[0])
            if number == wanted:
                if int(block.probe[0]) != y * scan.shape[1] + x:
                    return None
                pattern = np.array(block.patterns()[0])
                block.release()
                return pattern
            if number < wanted:
                low = at + 1
            else:
                high = at - 1
            at = (low + high) // 2
        return None

    def _block(self, frame: int) -> FrameBlock:
        block = next(iter(self._recording.blocks(frame, frame + 1)))
        assert isinstance(block, FrameBlock)
        return block
