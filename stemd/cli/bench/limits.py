"""The limits: memory read bandwidth, a mapped file summed, a bare receive."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import aligned
from stemd.cli.bench.harness import Case, Context, Row, Timing, in_turn, repeat
from stemd.compilation import njit
from stemd.engines.kernels.intrinsics import prefetch
from stemd.errors import StemdError

BUFFER_BYTES = 512 * 1024**2
"""Larger than any cache."""
PARTS = 32
_AHEAD_WORDS = 1024
_PATTERNS = 61
"""That differ in a file. A prime: of patterns that are looked at some way apart none is another."""


@njit(nogil=True, cache=True, fastmath=True)
def _sum_words(words):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for i in range(words.size):
        total += words[i]
    return total


@njit(nogil=True, cache=True, fastmath=True)
def _sum_words_ahead(words):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for line in range(0, words.size - 7, 8):
        prefetch(words, np.int64(line) + _AHEAD_WORDS)
        for i in range(line, line + 8):
            total += words[i]
    return total


def _numpy_or(words: NDArray[np.uint64]) -> np.uint64:
    return np.uint64(np.bitwise_or.reduce(words))


class MemoryReader:
    """Reads memory with the loop that is fastest on this machine, as a limit in turn with a case.

    `timing` is of one part of `part_bytes` bytes.
    """

    part_bytes = BUFFER_BYTES // PARTS

    def __init__(self, seconds: float) -> None:
        self._parts = aligned(BUFFER_BYTES).view(np.uint64).reshape(PARTS, -1)
        self._parts[:] = 1
        loops = (_sum_words, _sum_words_ahead, _numpy_or, np.sum)
        calls = [partial(self._call, loop) for loop in loops]
        self.timing, self.read = min(
            zip(in_turn(calls, seconds, PARTS), calls, strict=True), key=lambda it: it[0].wall_s
        )

    def _call(self, loop: Callable[[NDArray[np.uint64]], object], part: int) -> None:
        loop(self._parts[part])

    def beside(
        self, call: Callable[[int], object], seconds: float, parts: int
    ) -> tuple[Timing, float]:
        """The timing of `call`, and the bytes a second that were read in turn with it."""
        timing, reading = in_turn([call, self.read], seconds, parts)
        return timing, self.part_bytes / reading.wall_s


def memory_reader(context: Context) -> MemoryReader:
    """The one of this run."""
    reader: MemoryReader = context.once("memory-read", lambda: MemoryReader(context.seconds))
    return reader


def memory_read(context: Context) -> float:
    """Bytes a second that one core reads from memory: the fastest of several read loops."""
    return MemoryReader.part_bytes / memory_reader(context).timing.wall_s


def merlin_header(dtype: str, size: int) -> bytes:
    """The MQ1 header of frame 1 of a single chip."""
    from stemd.adapters.merlin.encoder import Camera
    from stemd.adapters.merlin.header import encode_frame_header

    depth = {"U08": 6, "U16": 12, "U32": 24}[dtype]
    return encode_frame_header(Camera(shape=(size, size), depth=depth).header())


def big_file(context: Context, pixels: int, item: int, header: bytes) -> Path:
    """A .mib of about `context.file_bytes` in the page cache, made once a run.

    `item`: bytes of a pixel. Counts are those of electrons, and patterns differ: what is looked
    for in patterns takes longer where they are none that a camera sends.
    """
    frame_bytes = pixels * item

    def make() -> Path:
        frames = max(64, context.file_bytes // (len(header) + frame_bytes))
        handle, name = tempfile.mkstemp(prefix="stemd-bench-", suffix=".mib")
        rng = np.random.default_rng(0)
        counts = rng.poisson(20.0, (_PATTERNS, pixels)).astype(f">u{item}")
        patterns = [each.tobytes() for each in counts]
        text = header.decode("latin-1")
        try:
            with os.fdopen(handle, "wb", buffering=1 << 20) as file:
                for index in range(frames):
                    numbered = f"{text[:4]}{index + 1:06d}{text[10:]}"
                    file.write(numbered.encode("latin-1"))
                    file.write(patterns[index % _PATTERNS])
                file.flush()
                os.fsync(file.fileno())  # or it is written back while something is measured
        except OSError as error:
            Path(name).unlink()
            raise StemdError(
                f"{name} of {context.file_bytes:,} bytes cannot be written: {error.strerror}",
                "let TMPDIR name a folder on a disk with room",
            ) from error
        return Path(name)

    path: Path = context.once(f"file-{pixels}-{item}", make)
    return path


def mmap_sum(path: Path) -> None:
    """Map the file anew and sum it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
        m.madvise(mmap.MADV_SEQUENTIAL)
        words = np.frombuffer(m, np.uint64, count=len(m) // 8)
        _sum_words(words)
        del words


def cases() -> dict[str, Case]:
    """Name pattern to case."""

    def memory(context: Context) -> Iterator[Row]:
        timing = memory_reader(context).timing
        yield Row.timed("memory/read", MemoryReader.part_bytes / 1e9, "GB/s", timing, cpu=False)

    def mapped(context: Context) -> Iterator[Row]:
        path = big_file(context, 256 * 256, 2, merlin_header("U16", 256))
        frames = path.stat().st_size // (384 + 256 * 256 * 2)
        timing = repeat(lambda part: mmap_sum(path), context.seconds)
        yield Row.timed("mmap/sum-u16/256", frames, "frames/s", timing)

    return {"memory/read": memory, "mmap/sum-u16/256": mapped}
