"""How many positions a network is to work on when it is slow."""

from __future__ import annotations

from stemd.engines.airpi.coarseness import LADDER, Backlog, Coarseness, Pace


def coarseness(*, gives_way: bool = True) -> Coarseness:
    return Coarseness(256, 0.2, 1e6, "auto", gives_way=gives_way)


def test_a_line_that_was_held_up_for_seconds_does_not_change_the_pace() -> None:
    pace = Pace()
    for seconds in (0.02, 0.02, 3.0, 0.02):
        pace.add(seconds, 256)
        assert pace.group_s == 0.0, "too few lines to tell"
    pace.add(0.0, 0)  # nothing was made
    pace.add(0.02, 256)
    assert pace.group_s == 0.02 / 256


def test_what_a_steady_network_makes_in_time_stays_fine() -> None:
    waits = Backlog(lines=64, room=200, group_s=1e-4)  # 1.6 s
    assert coarseness().choose("auto", 1, waits).every == 1


def test_a_network_that_would_take_too_long_gets_fewer_positions_until_it_does_not() -> None:
    slow = coarseness()
    assert slow.choose("auto", 1, Backlog(64, 200, 1e-3)).every == 3  # 16.4 s / 9 = 1.8 s
    assert slow.gave_way
    assert slow.choose("auto", 1, Backlog()).every == 3, "not finer again within a scan"
    assert coarseness().choose("auto", 1, Backlog(64, 200, 1.0)).every == LADDER[-1]
    assert coarseness(gives_way=False).choose("auto", 1, Backlog(64, 200, 1.0)).every == 1


def test_the_second_half_of_the_room_decides_whatever_the_time() -> None:
    for lines, every in ((100, 1), (113, 2), (150, 6), (200, 16)):
        assert coarseness().choose("auto", 1, Backlog(lines, 200, 0.0)).every == every
