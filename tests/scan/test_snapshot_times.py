"""When a growing scan is shown again: as often as asked for, and so that it costs little."""

from __future__ import annotations

from stemd.scan.snapshot_times import SNAPSHOT_SHARE, SnapshotTimes

RATE_HZ = 10.0


def shown_at(cost_s: float, seconds: float, step_s: float = 0.01) -> list[float]:
    """When snapshots are made that take `cost_s`, if there is always something new."""
    times, now, shown = SnapshotTimes(0.0, 0), 0.0, []
    for number in range(1, round(seconds / step_s)):
        if times.due(now, number):
            shown.append(now)
            times.made(now, now + cost_s, number, RATE_HZ)
            now += cost_s
        now += step_s
        if now >= seconds:
            break
    return shown


def test_snapshots_come_at_the_rate_that_was_asked_for() -> None:
    assert len(shown_at(0.0, 10.0)) in (99, 100, 101)


def test_a_snapshot_that_came_late_does_not_move_those_after_it() -> None:
    times = SnapshotTimes(0.0, 0)
    times.made(0.03, 0.03, 1, RATE_HZ)  # was due at 0
    assert not times.due(0.09, 2)
    assert times.due(0.101, 2)


def test_snapshots_that_take_long_get_their_share_of_the_time() -> None:
    shown = shown_at(0.5, 100.0)
    assert 0.9 * SNAPSHOT_SHARE < len(shown) * 0.5 / 100.0 <= SNAPSHOT_SHARE * 1.01


def test_what_was_seen_is_not_shown_again() -> None:
    times = SnapshotTimes(0.0, 7)
    assert not times.due(100.0, 7)
    assert times.due(100.0, 8)


def test_changed_settings_are_shown_at_once_even_where_nothing_is_new() -> None:
    times = SnapshotTimes(0.0, 0)
    times.made(1.0, 1.001, 7, 0.1)
    assert not times.due(1.1, 7)
    times.at_once()
    assert times.due(1.1, 7)


def test_a_knob_that_is_turned_does_not_make_snapshots_take_more_than_their_share() -> None:
    times = SnapshotTimes(0.0, 0)
    times.made(1.0, 1.5, 7, RATE_HZ)
    times.at_once()
    assert not times.due(2.9, 7)
    assert times.due(3.0, 7)
