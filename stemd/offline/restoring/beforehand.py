"""What is taken out of recorded images before they are restored, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.pictures import Picture
from stemd.engines.restoration.blank import blank_parts, mirrored_into
from stemd.engines.restoration.cleaned import Cleaned, cleaned
from stemd.engines.restoration.drawn import Repeated, drawn_levels, repeated
from stemd.errors import ModelError
from stemd.offline.restoring.cut_off import cut_off
from stemd.offline.restoring.sources import Series

F32 = NDArray[np.float32]

LARGEST = 1e12
"""Their squares, summed over an image, are numbers of 32 bits still."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Those `pictures` of a series that have values, and their `frames`, finite and (ny, nx) each.

    `numbers` (n,): which these are, from 0. `often`: how often each line and column of a single
    image came, if it was repeated. `drawn`: it is no recorded one. `told`: for the document.
    """

    pictures: tuple[Picture, ...]
    numbers: list[int]
    frames: list[F32]
    often: Repeated | None
    drawn: bool
    told: dict[str, Any]


def prepared(series: Series) -> Prepared:
    """The images of a series, each without spikes, lost lines and what alternates.

    Raises ModelError where none has a value, or they are too large.
    """
    numbers = _with_values(series)
    pictures = tuple(series.pictures[n] for n in numbers)
    told: dict[str, Any] = {"source": pictures[0].source, "frames": len(pictures)}
    if len(numbers) < len(series.pictures):
        told["without_values"] = sorted(set(range(len(series.pictures))) - set(numbers))
    unknown = sum(int(np.count_nonzero(~np.isfinite(each.pixels))) for each in pictures)
    if unknown:
        told["pixels_without_value"] = unknown
    frames = [finite(each.pixels) for each in pictures]
    alone = len(frames) == 1
    if alone and drawn_levels(frames[0]) > 0:
        return Prepared(pictures, numbers, frames, None, True, told)
    often = repeated(frames[0]) if alone else None
    if often is not None:
        frames = [often.once(frames[0])]
        told["repeated"] = list(often.times)
    clean = [cleaned(each) for each in frames]
    ends = np.mean(
        [
            cut_off(frame if each.alternating else each.image)
            for frame, each in zip(frames, clean, strict=True)
        ],
        axis=0,
    )
    for key, part in zip(("at_lowest", "at_highest"), ends, strict=True):
        if part:
            told[key] = round(float(part), 6)
    told |= _taken_out(clean)
    return Prepared(pictures, numbers, [each.image for each in clean], often, False, told)


def _taken_out(clean: Iterable[Cleaned]) -> dict[str, Any]:
    """Of all frames together: as many spikes and lines, and the largest alternation."""
    clean = list(clean)
    told: dict[str, Any] = {}
    lines = [sum(each.lost_lines[axis] for each in clean) for axis in (0, 1)]
    if any(lines):
        told["lost_lines"] = lines
    alternating: dict[str, float] = {}
    for what, value in (one for each in clean for one in each.alternating):
        alternating[what] = max(alternating.get(what, 0.0), round(value, 4))
    if alternating:
        told["alternating"] = alternating
    spikes = sum(each.spikes for each in clean)
    if spikes:
        told["spikes"] = spikes
    return told


def without_labels(frames: list[F32]) -> tuple[list[F32], float]:
    """Frames whose labels, which do not drift with what they show, are filled from beside them.

    And the largest part of a frame that was.
    """
    blank = [blank_parts(frame) for frame in frames]
    filled = [
        mirrored_into(frame, part) if part.any() else frame
        for frame, part in zip(frames, blank, strict=True)
    ]
    return filled, max(float(part.mean()) for part in blank)


def finite(pixels: F32) -> F32:
    """An image (ny, nx) whose pixels without a value have the mean of the others.

    Raises ModelError where none has one.
    """
    known = np.isfinite(pixels)
    if known.all():
        return pixels
    if not known.any():
        raise ModelError("the image has no finite pixel", "check the image")
    return np.where(known, pixels, pixels[known].mean()).astype(np.float32)


def _with_values(series: Series) -> list[int]:
    """The numbers of the frames that have any value, from 0.

    Raises ModelError where no frame has one, or they are too large to be squared.
    """
    largest = [
        float(np.abs(each.pixels[np.isfinite(each.pixels)]).max(initial=-1.0))
        for each in series.pictures
    ]
    if max(largest) > LARGEST:
        raise ModelError(
            f"{series.source}: values up to {max(largest):.3g} are more than {LARGEST:g}",
            "is it an image? Divide it by a number",
        )
    if max(largest) < 0.0:
        raise ModelError(f"{series.source}: no pixel is a finite number", "check the image")
    return [n for n, value in enumerate(largest) if value >= 0.0]
