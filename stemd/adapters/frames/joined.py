"""Several files of one series of frames, or pieces of one file, read as if they were one."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.format import FrameFormat, FrameLayout
from stemd.adapters.frames.storage import Bytes, MappedFile, Stretch
from stemd.errors import FormatError


class JoinedPieces:
    """Implements storage.Storage for pieces of so many whole frames each, in this order."""

    def __init__(
        self, pieces: Sequence[MappedFile], counts: Sequence[int], frame_bytes: int
    ) -> None:
        self._files = pieces
        self._edges = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.size = int(self._edges[-1]) * frame_bytes

    def head(self, count: int) -> bytes:
        """See `Storage`."""
        return self._files[0].head(count)

    def headers(
        self, frames: NDArray[np.int64], stride: int, length: int
    ) -> tuple[Bytes, int, NDArray[np.int64]]:
        """See `Storage`: the headers alone, one behind the other."""
        data = np.zeros((frames.size, length), np.uint8)
        which = np.searchsorted(self._edges, frames, "right") - 1
        for number, file in enumerate(self._files):
            here = np.flatnonzero(which == number)
            whole, _, _ = file.headers(frames, stride, length)
            for i in here.tolist():
                at = int(frames[i] - self._edges[number]) * stride
                data[i] = whole[at : at + length]
        return data.reshape(-1), length, np.arange(frames.size, dtype=np.int64)

    def stretches(
        self, first: int, stop: int, camera: FrameFormat, layout: FrameLayout
    ) -> Generator[Stretch, None, None]:
        """See `Storage`."""
        for number, file in enumerate(self._files):
            begin, end = int(self._edges[number]), int(self._edges[number + 1])
            low, high = max(first, begin) - begin, min(stop, end) - begin
            if low >= high:
                continue
            with contextlib.closing(file.stretches(low, high, camera, layout)) as stretches:
                for one, other, wire, owner in stretches:
                    yield one + begin, other + begin, wire, owner

    def close(self) -> None:
        """Close all of them."""
        for file in self._files:
            file.close()


class JoinedFiles(JoinedPieces):
    """Files of whole frames of one layout.

    Raises FormatError for a file that is empty, or whose first frame is of another layout.
    """

    def __init__(self, paths: Sequence[Path], camera: FrameFormat) -> None:
        files: list[MappedFile] = []
        layout: FrameLayout | None = None
        counts = []
        try:
            for path in paths:
                file = MappedFile(path)
                files.append(file)
                found = _layout(path, file, camera)
                if layout is not None and found != layout:
                    raise FormatError(
                        f"{path}: its frames are not like those of {paths[0]}",
                        "join files of one acquisition only",
                    )
                layout = found
                counts.append(file.size // found.frame_bytes)
        except BaseException:
            for file in files:
                file.close()
            raise
        assert layout is not None
        super().__init__(files, counts, layout.frame_bytes)


def _layout(path: Path, file: MappedFile, camera: FrameFormat) -> FrameLayout:
    try:
        return camera.file_frame(file.head(camera.head_bytes)).layout
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.remedy) from error
