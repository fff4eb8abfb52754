"""What people are told of frames that do not follow each other as they should."""

from __future__ import annotations

from stemd.adapters.frames.format import FrameLayout
from stemd.blocks import Notice


def kind_of(layout: FrameLayout) -> str:
    """A layout in words: "256 x 256 pixels of 16 bits"."""
    height, width = layout.shape
    size = 8 * int(layout.dtype[1])
    raw = f", raw of {layout.depth}" if layout.packed else ""
    return f"{height} x {width} pixels of {size} bits{raw}"


def left_out(
    number: int, layout: FrameLayout, known: FrameLayout, count: int = 1
) -> tuple[str, str, int, str]:
    """Kind, text, count and remedy of what is told of frames that were left out."""
    text = (
        f"frame {number} says that it has {kind_of(layout)}, those of its scan have "
        f"{kind_of(known)}: {{count}} such frames were left out, their positions are missing"
    )
    remedy = "if it happens again: look at the network and at the camera's memory"
    return "odd_frame", text, count, remedy


def changed(before: FrameLayout, after: FrameLayout) -> tuple[Notice, Notice]:
    """What is told of a scan that ends since the frames changed, and of the one that begins."""
    how = f"the camera's frames changed in mid scan, from {kind_of(before)} to {kind_of(after)}"
    remedy = "change the camera's size and depth between two scans"
    return (
        Notice("frames_changed", f"{how}: this scan ends there", remedy=remedy),
        Notice("frames_changed", f"{how}: this scan begins there", remedy=remedy),
    )


def announced() -> Notice:
    """What is told of a scan that ends as another acquisition begins."""
    return Notice("restarted", "another acquisition began before this scan's end", "info")


def began_again() -> Notice:
    """What is told of a scan in whose middle the numbers begin again."""
    return Notice(
        "restarted",
        "the camera's frame numbers began again before this scan's end: another scan begins there",
        remedy="if nobody started the scan again, look why the camera lost its count",
    )


def jumped_back(last: int, number: int) -> tuple[str, str, int, str]:
    """What is told of numbers (from 0) that jump back, with frames that are none of those before.

    Kind, text, count and remedy.
    """
    text = (
        f"the frame numbers jumped back in mid scan, from {last} to {number} (from 0), with other "
        "frames: from there on the frames are placed by their order"
    )
    return "numbers_begin_again", text, 1, "look why the camera lost its count"


def lied(said: int, put: int, count: int) -> tuple[str, str, int, str]:
    """What is told of numbers (from 0) that do not fit those around them: the newest, how many.

    Kind, text, count and remedy.
    """
    text = (
        f"frame numbers that do not fit those around them: {{count}} (the newest says {said} in "
        f"place of {put}, from 0): such frames are placed by their order"
    )
    return "numbers_lie", text, count, "look why the camera's numbers are damaged"


def no_room_for(said: int, put: int, count: int) -> tuple[str, str, int, str]:
    """What is told of frames that are too many: the newest's number (from 0), the one before it.

    Kind, text, count and remedy.
    """
    text = (
        f"frames that have no room between those around them: {{count}} (the newest says {said} "
        f"and came between {put} and {put + 1}, from 0); they are in no image"
    )
    return "extra_frames", text, count, "look whether another source sends to the same port"
