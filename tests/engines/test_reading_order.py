"""Patterns are read in the order of the memory where that was measured to be faster."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.kernels.tiles import plan_of
from stemd.engines.kernels.vectors import ROW_BY_ROW, STRIP_BY_STRIP, TILE


@pytest.mark.parametrize(
    ("dtype", "shape", "in_cache", "from_memory", "with_discs"),
    [
        ("u1", (256, 256), [4], [4], [STRIP_BY_STRIP]),
        ("u2", (256, 256), [8], [8], [STRIP_BY_STRIP]),
        ("u2", (256, 64), [2], [2], [STRIP_BY_STRIP]),
        ("u2", (250, 256), [8, STRIP_BY_STRIP], [8, STRIP_BY_STRIP], [STRIP_BY_STRIP] * 2),
        ("u2", (512, 512), [8] * 2, [ROW_BY_ROW] * 2, [STRIP_BY_STRIP] * 2),
        ("u2", (256, 1024), [STRIP_BY_STRIP], [ROW_BY_ROW], [ROW_BY_ROW]),
        ("u2", (192, 192), [STRIP_BY_STRIP], [STRIP_BY_STRIP], [STRIP_BY_STRIP]),
        ("u1", (256, 64), [STRIP_BY_STRIP], [STRIP_BY_STRIP], [STRIP_BY_STRIP]),
        ("u4", (256, 256), [STRIP_BY_STRIP], [STRIP_BY_STRIP], [STRIP_BY_STRIP]),
        ("i4", (256, 256), [STRIP_BY_STRIP], [STRIP_BY_STRIP], [STRIP_BY_STRIP]),
        ("u2", (32, 16), [STRIP_BY_STRIP], [STRIP_BY_STRIP], [STRIP_BY_STRIP]),
    ],
)
def test_patterns_are_read_in_order_where_that_was_measured_to_be_faster(
    dtype: str,
    shape: tuple[int, int],
    in_cache: list[int],
    from_memory: list[int],
    with_discs: list[int],
) -> None:
    discs = [np.hypot(*np.ogrid[: shape[0], : shape[1]]) < radius for radius in (9, 12, 15, 18, 21)]
    for masks, once, orders in (
        ([], False, in_cache), (discs, False, in_cache), ([], True, from_memory),
        (discs, True, with_discs),
    ):  # fmt: skip
        plan = plan_of(shape, dtype, None, masks, in_order=True, once=once)
        assert plan.tiles[:, TILE.index("order")].tolist() == orders
    few = plan_of(shape, dtype, None, discs[:2], in_order=True, once=True)
    wide = from_memory[0] in (8, ROW_BY_ROW)
    assert few.tiles[0, TILE.index("order")] == (from_memory[0] if wide else STRIP_BY_STRIP)
    assert not plan_of(shape, dtype, None, []).tiles[:, TILE.index("order")].any()
