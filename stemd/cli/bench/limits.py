"""The limits: memory read bandwidth, a mapped file summed, a bare receive."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.cli.bench.harness import Case, Context, Row, repeat
from stemd.compilation import njit
from stemd.engines.kernels.intrinsics import prefetch
from stemd.errors import StemdError

BUFFER_BYTES = 512 * 1024**2
"""Larger than any cache."""
PARTS = 32
_AHEAD_WORDS = 1024


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


def memory_read(context: Context) -> float:
    """Bytes a second that one core reads from memory: the fastest of several read loops."""

    def measure() -> float:
        parts = np.ones((PARTS, BUFFER_BYTES // 8 // PARTS), np.uint64)
        best = float("inf")
        for loop in (_sum_words, _sum_words_ahead, _numpy_or, np.sum):
            timing = repeat(lambda part, loop=loop: loop(parts[part]), context.seconds, PARTS)  # type: ignore[misc]
            best = min(best, timing.wall_s)
        return float(parts[0].nbytes / best)

    rate: float = context.once("memory-read", measure)
    return rate


def merlin_header(dtype: str, size: int) -> bytes:
    """The MQ1 header of frame 1 of a single chip."""
    from stemd.adapters.merlin.encoder import Camera
    from stemd.adapters.merlin.header import encode_frame_header

    depth = {"U08": 6, "U16": 12, "U32": 24}[dtype]
    return encode_frame_header(Camera(shape=(size, size), depth=depth).header())


def big_file(context: Context, frame_bytes: int, header: bytes) -> Path:
    """A .mib of about `context.file_bytes` in the page cache, made once a run."""

    def make() -> Path:
        frames = max(64, context.file_bytes // (len(header) + frame_bytes))
        handle, name = tempfile.mkstemp(prefix="stemd-bench-", suffix=".mib")
        rng = np.random.default_rng(0)
        pattern = rng.poisson(20.0, frame_bytes // 2).astype(">u2").tobytes()
        text = header.decode("latin-1")
        try:
            with os.fdopen(handle, "wb", buffering=1 << 20) as file:
                for index in range(frames):
                    numbered = f"{text[:4]}{index + 1:06d}{text[10:]}"
                    file.write(numbered.encode("latin-1"))
                    file.write(pattern)
                file.flush()
                os.fsync(file.fileno())  # or it is written back while something is measured
        except OSError as error:
            Path(name).unlink()
            raise StemdError(
                f"{name} of {context.file_bytes:,} bytes cannot be written: {error.strerror}",
                "let TMPDIR name a folder on a disk with room",
            ) from error
        return Path(name)

    path: Path = context.once(f"file-{frame_bytes}", make)
    return path


def mmap_sum(context: Context, path: Path, frames: int) -> float:
    """Frames a second at which one core maps the file anew and sums it."""

    def measure() -> float:
        def call(part: int) -> None:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                m.madvise(mmap.MADV_SEQUENTIAL)
                words = np.frombuffer(m, np.uint64, count=len(m) // 8)
                _sum_words(words)
                del words

        return frames / repeat(call, context.seconds).wall_s

    rate: float = context.once(f"mmap-sum-{path}", measure)
    return rate


def cases() -> dict[str, Case]:
    """Name pattern to case."""

    def memory(context: Context) -> Iterator[Row]:
        yield Row("memory/read", memory_read(context) / 1e9, "GB/s")

    def mapped(context: Context) -> Iterator[Row]:
        frame_bytes = 256 * 256 * 2
        path = big_file(context, frame_bytes, merlin_header("U16", 256))
        frames = path.stat().st_size // (384 + frame_bytes)
        yield Row("mmap/sum-u16/256", mmap_sum(context, path, frames), "frames/s")

    return {"memory/read": memory, "mmap/sum-u16/256": mapped}
