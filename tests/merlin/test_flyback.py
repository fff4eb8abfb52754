"""Flyback where it is not configured: concluded from the frames that a camera is set to."""

from __future__ import annotations

from stemd.acquisition import Scan
from stemd.adapters.frames.format import Announcement
from stemd.adapters.frames.scans import flyback_from_count, plan


def test_several_scans_with_flyback_are_believed_if_it_is_short() -> None:
    assert flyback_from_count((16, 16), 3 * 16 * 18) == 2
    # a camera that is set to a round number: 100 frames do not follow each line
    assert flyback_from_count((100, 150), 1_000_000) is None
    assert flyback_from_count((4, 6), 10**30 - 1) is None


def test_a_flyback_that_was_concluded_from_several_scans_is_said() -> None:
    frames = Announcement(frames=3 * 16 * 18)
    made = plan(Scan(shape=(16, 16)), frames)
    assert made.scan.flyback == 2
    assert "2 frames follow each line" in made.doubt
    assert plan(Scan(shape=(16, 16), flyback=2), frames).doubt == ""
