"""A recorded scan sent as a camera sends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from stemd.acquisition import Acquisition, new_scan_id
from stemd.adapters.base import Recording
from stemd.blocks import Ended, Message, Started

STEP_S = 0.05
"""So much is sent at a time where there is a rate."""


def replay(
    recording: Recording, source: str, rate_hz: float | None, stop: threading.Event
) -> Iterator[Message]:
    """The messages of one scan, as one of now: `rate_hz` frames a second, or as fast as they are
    read."""
    stored = recording.acquisition
    acquisition = Acquisition(
        scan=stored.scan,
        detector=stored.detector,
        id=new_scan_id(),
        source=source,
        raw_name=stored.raw_name,
        sidecars=stored.sidecars,
    )
    yield Started(acquisition)
    yield from recording.notices
    frames = recording.frames
    # without a rate the recording itself cuts blocks, as large as it likes
    step = max(1, frames if rate_hz is None else int(rate_hz * STEP_S))
    began = time.monotonic()
    for start in range(0, frames, step):
        for block in recording.blocks(start, min(start + step, frames)):
            block.acquisition = acquisition
            block.received_ns = time.time_ns()
            yield block
            if stop.is_set():
                yield Ended(acquisition, "stopped")
                return
        if rate_hz is not None:
            due = began + (start + step) / rate_hz
            if stop.wait(max(0.0, due - time.monotonic())):
                yield Ended(acquisition, "stopped")
                return
    yield Ended(acquisition, "complete")
