"""Going through a mapped file: what was used is let go, and what is there is what is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.records import open_records
from stemd.adapters.recordings.npy import open_npy

SIZE = 256
FRAMES = 2048  # 256 MiB of 16 bits
HELD_BYTES = 160 * 1024 * 1024


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "a.npy"
    patterns = np.lib.format.open_memmap(path, "w+", np.uint16, (FRAMES, SIZE, SIZE))
    patterns[:, 7, 9] = np.arange(FRAMES)
    patterns.flush()
    return path


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _patterns(path: Path) -> Iterator[np.ndarray]:
    recording = open_npy(path, Scan(shape=(32, 64)))
    for block in recording.blocks(3, FRAMES):
        yield block.patterns()
        block.release()


def _words(path: Path) -> Iterator[np.ndarray]:
    records = open_records(path)
    with records.reader(0, records.size) as reader:
        for at in range(0, records.size, 1024 * 1024):
            yield reader.piece(at, 1024 * 1024)


@pytest.mark.parametrize("way", [_patterns, _words])
def test_memory_does_not_grow_with_what_was_read(way: object, array: Path) -> None:
    assert callable(way)
    before, most, total = _resident(), 0, 0
    for piece in way(array):
        total += int(piece.astype(np.uint64).sum())
        most = max(most, _resident() - before)
    assert total > 0
    assert most < HELD_BYTES


def test_patterns_that_were_released_are_still_what_they_were(array: Path) -> None:
    held = [pattern[0, 7, 9] for pattern in _patterns(array)]
    kept = list(_patterns(array))
    assert held == [pattern[0, 7, 9] for pattern in kept]
    firsts = np.concatenate([pattern[:, 7, 9] for pattern in kept])
    np.testing.assert_array_equal(firsts, np.arange(3, FRAMES))
