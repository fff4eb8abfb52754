"""A virtual frame camera that speaks by an encoder alone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.virtual.faults import Faults, Spoiler
from stemd.virtual.microscope import Microscope
from stemd.virtual.serving import PACE_S, Running, VirtualCamera

Encode = Callable[[NDArray[np.unsignedinteger], int], bytes]
"""(pattern (height, width), index of the frame in its scan from 0) -> the message of the frame"""

BATCH_FRAMES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRunning(Running):
    """Faults: of single messages, and `stop_early`."""

    faults: Faults = field(default_factory=Faults)


class FrameCamera(VirtualCamera):
    """Serves the virtual microscope's patterns, one message a frame; all messages have one size."""

    def __init__(self, microscope: Microscope, encode: Encode, running: FrameRunning) -> None:
        super().__init__(running)
        self._microscope, self._encode = microscope, encode
        self._faults = running.faults
        dark = np.zeros(microscope.setup.camera.shape, np.uint16)
        self._spoiler = Spoiler(running.faults, encode(dark, 0))

    def _send_scan(self, client: socket.socket) -> None:
        frames = self._microscope.setup.scan.frames
        if self._faults.stop_early is not None:
            frames = min(frames, self._faults.stop_early)
        rate = self.running.rate
        group = max(1, int(rate * PACE_S)) if rate > 0 else BATCH_FRAMES
        begin, done = time.monotonic(), 0
        for counts in self._microscope.counts(self.scan, 0, frames, part=BATCH_FRAMES):
            if done == 0:
                begin = time.monotonic()
            for first in range(0, counts.shape[0], group):
                part = counts[first : first + group]
                begin = self._pace(begin, done)
                self._check(client)
                messages = [self._encode(pattern, done + i) for i, pattern in enumerate(part)]
                data = b"".join(messages)
                if self._faults.touches_messages:
                    data = self._spoiler.spoil(memoryview(data), len(messages[0]), done)
                self._send(client, memoryview(data))
                done += len(part)
                self.sent += len(part)
                self._hang_up_if_due(client)
