"""Patterns that came twice, one that is far too bright, lines from which on the beam is another."""

from __future__ import annotations

import numpy as np

from stemd.engines.base import PositionMaps
from stemd.scan.odd_positions import odd_positions
from tests.scan.test_line_order import FIELDS, SHAPE, centres, maps_of

NX = SHAPE[1]


def kinds(maps: PositionMaps) -> list[str]:
    return [notice.kind for notice in odd_positions(maps)]


def again(maps: PositionMaps, first: int, stop: int) -> None:
    """Patterns first..stop-1 are the one before them once more."""
    for sums in (maps.total, maps.moment_y, maps.moment_x):
        sums[first:stop] = sums[first - 1]


def test_of_healthy_scans_nothing_is_said() -> None:
    for kind in FIELDS:
        for electrons in (3.0, 40.0, 900.0):
            assert kinds(maps_of(centres(kind, 2), electrons=electrons)) == []


def test_a_line_that_came_again_is_said_with_where_it_begins() -> None:
    maps = maps_of(centres("crystal", 1))
    again(maps, 10 * NX, 11 * NX)
    (said,) = odd_positions(maps)
    assert said.kind == "repeated_patterns"
    assert said.count == NX
    assert f"{NX + 1} in a row from position (9, {NX - 1}) (y, x) on" in said.text


def test_a_run_over_parts_that_are_looked_at_one_by_one_is_one_run(monkeypatch) -> None:
    from stemd.engines import vectors

    monkeypatch.setattr(vectors, "STRETCH", 100)
    maps = maps_of(centres("crystal", 1))
    again(maps, 3 * NX, 8 * NX)
    (said,) = odd_positions(maps)
    assert f"{5 * NX + 1} in a row from position (2, {NX - 1})" in said.text


def test_every_pattern_twice_is_said() -> None:
    maps = maps_of(centres("crystal", 1))
    for sums in (maps.total, maps.moment_y, maps.moment_x):
        sums[1::2] = sums[::2]
    (said,) = odd_positions(maps)
    assert (said.kind, said.count) == ("repeated_patterns", maps.total.size // 2)


def test_one_pattern_that_is_far_too_bright_is_said() -> None:
    maps = maps_of(centres("crystal", 1))
    maps.total[5 * NX + 7] *= 31
    maps.moment_y[5 * NX + 7] *= 31
    maps.moment_x[5 * NX + 7] *= 31
    (said,) = odd_positions(maps)
    assert said.kind == "bright_patterns"
    assert "(5, 7)" in said.text


def test_a_beam_that_is_dimmer_from_a_line_on_is_said() -> None:
    maps = maps_of(centres("crystal", 1))
    for sums in (maps.total, maps.moment_y, maps.moment_x):
        sums[20 * NX :] = sums[20 * NX :] * 0.7
    (said,) = odd_positions(maps)
    assert said.kind == "counts_step"
    assert "from line 20 on patterns have 70%" in said.text


def test_a_pattern_that_jumps_is_said_and_descan_and_particles_are_no_jumps() -> None:
    field = centres("crystal", 1)
    field[1, 20:] += 3.0
    (said,) = odd_positions(maps_of(field))
    assert said.kind == "pattern_jumps"
    assert "at line 20 the pattern jumps right by 3" in said.text
    even = centres("crystal", 1)
    even[0] += np.linspace(0.0, 6.0, SHAPE[0])[:, None]
    even[1, 10:30, 20:40] += 2.0
    assert kinds(maps_of(even)) == []


def test_patterns_that_are_all_the_same_are_told_elsewhere_also_with_holes() -> None:
    maps = maps_of(centres("nothing", 1))
    again(maps, 1, maps.total.size)
    maps.done[100:130] = False
    assert kinds(maps) == []
