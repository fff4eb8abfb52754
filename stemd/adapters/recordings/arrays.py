"""Arrays of patterns as recordings.

Not a camera: a module without a PLUGIN, used by files.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.array_scan import scan_of_array
from stemd.adapters.recordings.bands import Fetch, Patterns
from stemd.adapters.recordings.counts import SAMPLES, Counts
from stemd.adapters.recordings.remote import pieces
from stemd.blocks import BLOCK_BYTES, FrameBlock, Message
from stemd.errors import FormatError, StemdError


class ArrayRecording:
    """Implements adapters.base.Recording for an array of patterns.

    `fetch` gives patterns by their numbers, `shape` is (ny, nx, height, width), or (n, height,
    width) which needs `scan` or a square number of patterns. How values become counts:
    `stemd.adapters.recordings.counts`. The acquisition has what the file says of the optics, its
    detector the mask of pixels without a value.
    """

    def __init__(
        self,
        path: RecordingPath,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fetch: Fetch,
        scan: Scan | None,
        close: Callable[[], None],
        facts: ArrayFacts | None = None,
    ) -> None:
        facts = facts or ArrayFacts()
        self.path = path
        self._fetch = fetch
        self._close = close
        self._frames = int(np.prod(shape[:-2]))
        self._scan, said = scan_of_array(path, shape, scan, facts)
        sample = self._sample if facts.look else None
        self._counts = Counts(dtype, str(path), sample, facts.mask, marks=facts.marks)
        self._type = self._counts.type
        self._acquisition = Acquisition(
            scan=self._scan,
            detector=Detector(
                name=facts.detector,
                shape=(shape[-2], shape[-1]),
                dtype=self._type,
                bit_depth=8 * int(self._type[1]),
                mask=self._counts.mask,
                scale=self._counts.scale,
            ),
            source=str(path),
            raw_name="raw" + path.suffix,
            optics=facts.calibration.optics(),
        )
        self._unwritten = facts.unwritten
        self._told = (*facts.notices, *said)
        self.splits = True

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the file holds."""
        return self._acquisition

    @property
    def frames(self) -> int:
        """Patterns in the file."""
        return self._frames

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed on opening, and on reading so far."""
        return (*self._told, *self._counts.notices)

    def _sample(self) -> Patterns:
        count = min(SAMPLES, self._frames)
        numbers = np.unique(np.linspace(0, self._frames - 1, count).astype(np.int64))
        found = [next(self._read(int(n), int(n) + 1, 1)) for n in numbers]
        return np.concatenate(found)

    def _read(self, start: int, stop: int, each: int) -> Iterator[Patterns]:
        """Raises FormatError whatever a broken file makes its reader raise."""
        try:
            yield from self._fetch(start, stop, each)
        except (StemdError, MemoryError, GeneratorExit):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise FormatError(
                f"{self.path} cannot be read between patterns {start} and {stop}: {text}",
                "the file is cut off or damaged: copy it again",
            ) from error

    def blocks(self, start: int, stop: int) -> Iterator[FrameBlock]:
        """Blocks of patterns start..stop-1, of the stored bytes where they are contiguous."""
        height, width = self._acquisition.detector.shape
        size = height * width * int(self._type[1])
        each = max(1, BLOCK_BYTES // size)
        stop = min(stop, self._frames)
        for (first, last), stored in zip(
            pieces(start, stop, each), self._read(start, stop, each), strict=True
        ):
            patterns, empty = self._counts.of(stored, first)
            numbers = np.arange(first, last, dtype=np.int64)
            probe = self._scan.probes(numbers)
            if empty is not None:
                probe[empty] = -1
            if self._unwritten is not None:
                probe[self._unwritten[first:last]] = -1
            data = np.ascontiguousarray(patterns).reshape(-1).view(np.uint8)
            yield FrameBlock(
                acquisition=self._acquisition,
                pixels=data,
                pixel_offset=0,
                stride=size,
                count=last - first,
                shape=(height, width),
                dtype=self._type,
                big_endian=patterns.dtype.newbyteorder("=") != patterns.dtype,
                sequence=numbers,
                probe=probe,
                wire=data,
                received_ns=self._acquisition.started_ns,
            )

    def close(self) -> None:
        """Close the file."""
        self._close()
