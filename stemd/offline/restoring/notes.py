"""What a person should know of a restored image, from its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemd.wording import one_of

Document = Mapping[str, Any]

LISTED = 20
"""Numbers of frames that are named, at most."""
SAID = 1e-3
"""Part of an image that contradicts the recorded one from which on it is told."""


def notes(document: Document) -> Iterator[str]:
    """What a person should know of the result, in sentences."""
    for of in (_of_what_was_given, _of_what_was_left_out, _of_the_scan, _of_frames):
        yield from map(one_of, of(document))
    if document["departing"] > SAID:
        yield (
            f"{_percent(document['departing'])} of the restored image contradicts the recorded "
            "one by more than five standard errors: look at both"
        )


def _of_what_was_given(document: Document) -> Iterator[str]:
    """Parts that were not recorded, drawings, copies, values that were cut off."""
    if "blank" in document:
        yield (
            f"{_percent(document['blank'])} of the image (a label, a frame, a masked part) was "
            "not recorded: it is as it was"
        )
    if "blank_in_frames" in document:
        yield (
            f"{_percent(document['blank_in_frames'])} of a frame (a label, a frame, a masked "
            "part) was not recorded: it was filled from beside it, in the sum too"
        )
    if "too_small" in document:
        yield "the image has one or two lines or columns: it is as it was, not restored"
    if (levels := document.get("levels", 0)) == 1:
        yield "the image has the same value everywhere, and is as it was"
    elif levels:
        yield (
            f"the image has {levels} levels and no noise (a mask, a drawing): it was "
            "not recorded like this, and is as it was. Restore what was recorded"
        )
    if "repeated" in document:
        lines, columns = document["repeated"]
        yield (
            f"each line is there {lines} times, each column {columns} times: each was restored "
            "once, and is as often in the restored image"
        )
    if "enlarged" in document:
        times = document["enlarged"]
        yield (
            "the image was enlarged (interpolated) or smoothed, and has nothing finer than "
            f"{times} pixels: it was restored at 1/{times} of its size, and enlarged again. "
            "Restore what was recorded where you have it"
        )
    if "at_lowest" in document:
        yield (
            f"{_percent(document['at_lowest'])} of the pixels have the lowest value of all: the "
            "black level cut them off, or nothing was counted there. In dark places noise was cut "
            "off too, and they are shown brighter than they were"
        )
    if "at_highest" in document:
        yield (
            f"{_percent(document['at_highest'])} of the pixels have the highest value of all: "
            "the detector was saturated there, and they are shown darker than they were"
        )


def _of_what_was_left_out(document: Document) -> Iterator[str]:
    """Pixels and lines that say nothing of the specimen, and parts restored apart."""
    if "spikes" in document:
        yield (
            "single pixels that are further from all beside them than noise allows (hot or dead "
            f"ones, X-rays): {document['spikes']:,} were left out, and what is beside them is "
            "shown there"
        )
    if "lost_lines" in document:
        lines, columns = document["lost_lines"]
        yield (
            "whole lines that are further from those beside them than all others (dead rows, "
            f"jumps of the beam): {lines} along x and {columns} along y were left out, and what "
            "is beside them is shown there"
        )
    if "alternating" in document:
        by = " and ".join(
            f"{what} by {value:.3g}" for what, value in document["alternating"].items()
        )
        yield (
            f"every second one is brighter than the others, {by} on average (two converters, or "
            "two half images): that was undone first"
        )
    if "dim" in document:
        yield (
            f"{_percent(document['dim'])} of the image is too dim beside the rest to be restored "
            "with it: it was restored by itself"
        )
    if "pixels_without_value" in document:
        yield (
            f"pixels that are no finite numbers: {document['pixels_without_value']:,}; "
            + ("they stay so" if document["frames"] == 1 else "their frame's mean stands for them")
        )


def _of_the_scan(document: Document) -> Iterator[str]:
    """Which way the beam ran, and what moved it or smeared what it showed."""
    if "lines_along" in document:
        yield (
            "the beam ran along y in this image, as its noise shows, or was said to: --lines x "
            "if that is wrong"
        )
    if (late := document.get("tail_px", 0.0)) > 0.0:
        yield (
            "the detector is slower than the dwell time: its pulses came "
            f"{late:.2g} pixels late on average, which was undone first"
        )
    if late < 0.0:
        yield (
            "the image is mirrored, or the beam ran towards its left: pulses of a slow detector "
            f"lie {-late:.2g} pixels before their places on average, which was undone first"
        )
    if "filtered_px" in document:
        yield (
            "the image was filtered along its lines (interpolated, perhaps) over "
            f"{document['filtered_px']:.2g} pixels, which was undone first: restore what was "
            "recorded where you have it"
        )
    if "hum_px" in document:
        yield f"mains hum of {document['hum_px']:.2g} pixels rms was undone first"
    if "flagging_px" in document:
        yield f"lines began {document['flagging_px']:.2g} pixels off: that was undone first"


def _of_frames(document: Document) -> Iterator[str]:
    """Frames that are not in the sum, or should not be."""
    if document.get("aligned") is False:
        yield (
            "the frames show too little to tell how they have moved: they were added as they "
            "came, and the sum is not aligned"
        )
    if "two_kinds" in document:
        yield (
            f"frames {_numbers(document['two_kinds']['second'])} (from 0) show something else "
            "than the others do: the sum is of both; did the place or the specimen change? "
            "Restore each part by itself"
        )
    if "without_values" in document:
        yield (
            "frames without a single finite value were left out: "
            + _numbers(document["without_values"])
        )
    if left_out := document.get("left_out"):
        yield (
            "frames that do not fit, or show too little to be placed, were left out: "
            + _numbers(left_out)
        )


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %"


def _numbers(frames: list[int]) -> str:
    return ", ".join(str(n) for n in frames[:LISTED])
