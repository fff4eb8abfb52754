"""What a person should know of a restored image, from its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of the result, in sentences."""
    if "lines_along" in document:
        yield (
            "the beam ran along y in this image, as its noise shows, or was said to: --lines x "
            "if that is wrong"
        )
    if "blank" in document:
        yield (
            f"{100 * document['blank']:.2g} % of the image (a label, a frame, a masked part) was "
            "not recorded: it is as it was"
        )
    if "blank_in_frames" in document:
        yield (
            f"{100 * document['blank_in_frames']:.2g} % of a frame (a label, a frame, a masked "
            "part) was not recorded: it was filled from beside it, in the sum too"
        )
    if "levels" in document:
        yield (
            f"the image has {document['levels']} levels and no noise (a mask, a drawing): it was "
            "not recorded like this, and is as it was. Restore what was recorded"
        )
    if "repeated" in document:
        lines, columns = document["repeated"]
        yield (
            f"each line is there {lines} times, each column {columns} times: each was restored "
            "once, and is as often in the restored image"
        )
    if "spikes" in document:
        number = document["spikes"]
        yield (
            f"single pixels that are further from all beside them than noise allows (hot or dead "
            f"ones, X-rays): {number:,} were left out, and what is beside them is shown there"
        )
    if "dim" in document:
        yield (
            f"{100 * document['dim']:.2g} % of the image is too dim beside the rest to be restored "
            "with it: it was restored by itself"
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
    if "at_lowest" in document:
        yield (
            f"{100 * document['at_lowest']:.2g} % of the pixels have the lowest value of all: the "
            "black level cut them off, or nothing was counted there. In dark places noise was cut "
            "off too, and they are shown brighter than they were"
        )
    if "at_highest" in document:
        yield (
            f"{100 * document['at_highest']:.2g} % of the pixels have the highest value of all: "
            "the detector was saturated there, and they are shown darker than they were"
        )
    if "hum_px" in document:
        yield f"mains hum of {document['hum_px']:.2g} pixels rms was undone first"
    if "flagging_px" in document:
        yield f"lines began {document['flagging_px']:.2g} pixels off: that was undone first"
    if document.get("aligned") is False:
        yield (
            "the frames show too little to tell how they have moved: they were added as they "
            "came, and the sum is not aligned"
        )
    if "two_kinds" in document:
        numbers = ", ".join(str(n) for n in document["two_kinds"]["second"][:20])
        yield (
            f"frames {numbers} (from 0) show something else than the others do: the sum is of "
            "both; did the place or the specimen change? Restore each part by itself"
        )
    if "without_values" in document:
        numbers = ", ".join(str(n) for n in document["without_values"][:20])
        yield f"frames without a single finite value were left out: {numbers}"
    if "pixels_without_value" in document:
        yield (
            f"{document['pixels_without_value']:,} pixels were no finite numbers: "
            + ("they stay so" if document["frames"] == 1 else "their frame's mean stands for them")
        )
    left_out = document.get("left_out") or []
    if left_out:
        numbers = ", ".join(str(n) for n in left_out[:20])
        yield f"frames that do not fit, or show too little to be placed, were left out: {numbers}"
    if document["departing"] > 1e-3:
        yield (
            f"{100 * document['departing']:.2g} % of the restored image contradicts the recorded "
            "one by more than five standard errors: look at both"
        )
