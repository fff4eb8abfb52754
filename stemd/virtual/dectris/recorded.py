"""A record of a stream, sent again as it came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stemd.acquisition import Scan
from stemd.adapters.dectris.kernels.scanning import parts_of
from stemd.adapters.dectris.recording import DectrisRecording
from stemd.errors import CameraError, FormatError
from stemd.virtual.dectris.frames import BATCH_FRAMES, Legacy, Stream, Stream2


class RecordedMessages:
    """Images first..stop-1 of a record, whose numbers stay as they are."""

    def __init__(self, recording: DectrisRecording, first: int, stop: int) -> None:
        self.count = stop - first
        self._recording, self._first = recording, first

    def stamp(self, series: int, first: int) -> None:
        """See `Batch`: nothing is written into a record."""

    def view(self, first: int, stop: int) -> memoryview:
        """Messages first..stop-1 of these."""
        return self._recording.messages(self._first + first, self._first + stop)


class RecordSource:
    """The images of a raw.dectris, and the message of their start where there is one beside it.

    Raises CameraError when the file is no such record.
    """

    def __init__(self, path: Path) -> None:
        try:
            # of what scan the images are does not matter here: this one fits any number of them
            self._recording = DectrisRecording(path, Scan(shape=(1, 1), flyback=0))
        except (OSError, FormatError) as error:
            raise CameraError(
                f"{path} cannot be replayed: {error}", "name a raw.dectris"
            ) from error
        self.frames = self._recording.frames
        self.shape = self._recording.layout.shape
        first = parts_of(self._recording.messages(0, 1).tobytes())[0]
        self._stream: Stream = Legacy() if first.startswith(b"{") else Stream2()

    def start(self, stream: Stream, series: int, frames: int) -> bytes:
        """See `Source`: as recorded."""
        sidecars = self._recording.acquisition.sidecars
        return sidecars[0][1] if sidecars else b""

    def end(self, stream: Stream, series: int) -> bytes:
        """See `Source`: of the recorded series."""
        return self._stream.end(self._recording.series)

    def batches(self, stream: Stream, number: int, frames: int) -> Iterator[RecordedMessages]:
        """See `Source`: from the beginning again where `frames` is more."""
        while frames > 0:
            for first in range(0, min(frames, self.frames), BATCH_FRAMES):
                stop = min(first + BATCH_FRAMES, self.frames, first + frames)
                yield RecordedMessages(self._recording, first, stop)
                frames -= stop - first
