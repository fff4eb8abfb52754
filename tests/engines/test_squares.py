"""The quick way to bin patterns gives the same counts as the table of shares."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.blocks import FrameBlock
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.lattice import Lattice

SHAPE, COUNT, HEADER = (23, 31), 7, 6


def block_of(counts, dtype: str, big_endian: bool) -> FrameBlock:
    """Patterns with a header before each, as a camera sends them."""
    kind = np.dtype(dtype).newbyteorder(">" if big_endian else "<")
    frames = counts.astype(kind).reshape(COUNT, -1).view(np.uint8)
    wire = np.concatenate([np.full((COUNT, HEADER), 7, np.uint8), frames], axis=1).reshape(-1)
    acquisition = Acquisition(Scan(shape=(1, COUNT)), Detector("test", SHAPE, dtype, 16))
    numbers = np.arange(COUNT)
    return FrameBlock(
        acquisition=acquisition, pixels=wire, pixel_offset=HEADER,
        stride=HEADER + frames.shape[1], count=COUNT, shape=SHAPE, dtype=dtype,
        big_endian=big_endian, sequence=numbers, probe=numbers, wire=wire, received_ns=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "big_endian"), [("u1", False), ("u2", False), ("u2", True), ("u4", True)]
)
@pytest.mark.parametrize("wide", [1, 2, 3])
def test_each_cell_counts_its_own_square_of_pixels(dtype, big_endian, wide):
    counts = np.random.default_rng(5).integers(0, 200, (COUNT, *SHAPE))
    lattice = Lattice(wide, 3)
    kept = BrightField(lattice, SHAPE, COUNT, 1 << 20)
    kept.place((11.0, 15.0))
    kept.add(block_of(counts, dtype, big_endian), 0.0)
    got = kept.images(slice(0, lattice.cells), COUNT)
    origin = kept.origin
    assert origin is not None
    side = lattice.grid.side
    for cell, member in enumerate(lattice.grid.members):
        row, column = divmod(int(member), side)
        y, x = ((n - 3 + o) * wide for n, o in zip((row, column), origin, strict=True))
        expected = counts[:, y : y + wide, x : x + wide].sum(axis=(1, 2))
        assert got[cell].tolist() == expected.tolist()


def test_a_masked_pixel_and_a_cell_beyond_the_detector_count_nothing():
    counts = np.full((COUNT, *SHAPE), 3)
    masked = np.zeros(SHAPE, np.bool_)
    masked[11, 15] = True
    for place, least in (((11.0, 15.0), 0), ((2.0, 15.0), 0)):
        kept = BrightField(Lattice(1, 3), SHAPE, COUNT, 1 << 20, lambda: masked)
        kept.place(place)
        kept.add(block_of(counts, "u1", False), 0.0)
        assert kept.images(slice(0, kept.lattice.cells), COUNT).min() == least
