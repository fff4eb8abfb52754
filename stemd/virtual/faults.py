"""What may go wrong between a camera and its reader, on request and reproducibly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of a virtual camera. Counts are of frames sent, from the first; None: never.

    `drop`: probability that a frame is lost (its number is skipped). `garbage`: probability of
    junk before a frame. `stall_after`: nothing more is sent after this many, the connection
    stays. `stop_early`: each scan ends after this many, as if the user had stopped it.
    `lie_length`: the message of this frame (from 1, in each scan) declares a wrong length.
    `pad_space`: headers are padded with spaces instead of NUL. `junk_first`: junk before the
    first message of a connection.
    """

    drop: float = 0.0
    garbage: float = 0.0
    stall_after: int | None = None
    stop_early: int | None = None
    lie_length: int | None = None
    pad_space: bool = False
    junk_first: bool = False
    seed: int = 1

    @property
    def touches_messages(self) -> bool:
        """Whether single messages must be handled one by one."""
        return self.drop > 0 or self.garbage > 0 or self.lie_length is not None


class Spoiler:
    """Applies the faults that concern single messages, which begin with `magic`."""

    def __init__(self, faults: Faults, magic: bytes = b"M") -> None:
        self.faults = faults
        self._magic, self._other = magic[:1], bytes([magic[0] ^ 0x20])
        self._random = np.random.default_rng([faults.seed, 2])

    def junk(self) -> bytes:
        """1 to 200 bytes that are no message (never the start of one)."""
        size = int(self._random.integers(1, 201))
        return (
            self._random.integers(0, 256, size, np.uint8)
            .tobytes()
            .replace(self._magic, self._other)
        )

    def spoil(self, messages: memoryview, size: int, first: int) -> bytes:
        """Consecutive messages of `size` bytes; the first is frame `first` of the scan, from 0."""
        out = []
        for index in range(len(messages) // size):
            one = messages[index * size : (index + 1) * size]
            if self._random.random() < self.faults.garbage:
                out.append(self.junk())
            if self._random.random() < self.faults.drop:
                continue
            if first + index + 1 == self.faults.lie_length:
                declared = int(bytes(one[4:14]))
                out.append(b"MPX,%010d," % (declared + 1000))
                one = one[15:]
            out.append(bytes(one))
        return b"".join(out)
