"""How many positions a network is to work on when it is slow."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.airpi.coarseness import LADDER, LAG_S, Backlog, Coarseness
from stemd.engines.airpi.neighbourhoods import Neighbourhood
from stemd.engines.airpi.pace import Pace


def coarseness(*, gives_way: bool = True) -> Coarseness:
    return Coarseness(256, 0.2, 1e6, "auto", gives_way=gives_way)


def test_a_batch_that_was_held_up_for_seconds_does_not_change_the_pace() -> None:
    pace = Pace()
    for seconds in (0.02, 0.02, 3.0, 0.02):
        pace.add(seconds, 256)
        assert pace.group_s == 0.0, "too few to tell"
    pace.add(0.02, 256)
    assert pace.group_s == 0.02 / 256


def test_what_a_steady_network_makes_in_time_stays_fine() -> None:
    waits = Backlog(lines=180, room=400, group_s=1e-4, left=300, left_s=10.0)  # 4.6 s, 7.7 s
    assert coarseness().choose("auto", 1, waits).every == 1


def test_a_network_that_would_take_too_long_gets_fewer_positions_until_it_does_not() -> None:
    slow = coarseness()
    assert slow.choose("auto", 1, Backlog(64, 200, 2e-3)).every == 3  # 32.8 s / 9 = 3.6 s
    assert slow.gave_way
    assert slow.choose("auto", 1, Backlog()).every == 3, "not finer again within a scan"
    assert coarseness().choose("auto", 1, Backlog(64, 200, 1.0)).every == LADDER[-1]
    never = Backlog(64, 200, 1.0, 64, 0.5)
    assert coarseness(gives_way=False).choose("auto", 1, never).every == 1


def test_the_less_time_is_left_the_fewer_positions_are_made() -> None:
    # 2.56 s of work and a fifth more; the next step of the ladder still makes it in time
    for seconds, every in ((3.2, 1), (0.8, 1), (0.7, 2), (0.35, 2), (0.3, 3), (0.01, 16)):
        left = Backlog(10, 200, 1e-4, left=100, left_s=seconds)
        assert coarseness().choose("auto", 1, left).every == every


def test_the_second_half_of_the_room_decides_whatever_the_time() -> None:
    for lines, every in ((100, 1), (113, 2), (150, 6), (200, 16)):
        assert coarseness().choose("auto", 1, Backlog(lines, 200, 0.0)).every == every


def used(chosen: Neighbourhood, ny: int) -> np.ndarray:
    """Which positions (ny, nx) are in a box of a group that is made."""
    m = chosen.repetition
    first, three = chosen.boxes()
    columns, lines = np.zeros(chosen.nx, bool), np.zeros(ny, bool)
    for begin in first[three.ravel()]:
        columns[max(0, begin) : max(0, begin + m)] = True
    for line in filter(chosen.makes, range(ny)):
        begin = line - m - m // 2
        lines[max(0, begin) : begin + 3 * m] = True
    return lines[:, None] & columns[None, :]


@pytest.mark.parametrize("step_radii", [0.2, 0.4, 2.0])
@pytest.mark.parametrize("step", LADDER)
def test_however_slow_the_network_is_every_electron_is_in_a_group(
    step: int, step_radii: float
) -> None:
    slow = Coarseness(256, step_radii, 1e6, 1, gives_way=True)
    pace = 0.99 * LAG_S * step**2 / (64 * 256)
    chosen = slow.choose(1, 1, Backlog(64, 200, pace))
    assert chosen.every == step
    assert chosen.repetition <= slow.most.repetition, "memory is there for it"
    # a line or column less than a step from the border may be the border's
    assert used(chosen, 256)[: 256 - step, : 256 - step].all()
