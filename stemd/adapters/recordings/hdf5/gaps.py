"""Data files of a series that are not there: how many patterns they held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.hdf5.choice import SERIES, Chosen
from stemd.errors import FormatError


@dataclass(frozen=True, slots=True)
class Lacking:
    """Numbers of the data files of a series that are not there, of `most`."""

    numbers: tuple[int, ...]
    most: int


def lacking_files(chosen: Chosen, datasets: Mapping[str, Any]) -> Lacking | None:
    """Which files of the series lack, as far as those that are there tell; None for none."""
    numbers = _numbers(chosen, datasets)
    if not numbers:
        return None
    lacking = sorted(set(range(_first(numbers), max(numbers))) - set(numbers))
    return Lacking(tuple(lacking), max(numbers) + 1 - _first(numbers)) if lacking else None


def with_gaps(path: RecordingPath, chosen: Chosen, datasets: Mapping[str, Any]) -> Chosen:
    """The series with the places of the patterns whose files are not there.

    A file holds the images `image_nr_low` to `image_nr_high`, where it says so, or as many as each
    of the others. Raises FormatError where nothing tells how many lack.
    """
    lacking = lacking_files(chosen, datasets)
    if lacking is None:
        return chosen
    numbers = _numbers(chosen, datasets)
    gaps = _of_image_numbers(chosen)
    if gaps is None:
        # the last file may be shorter than the others
        sizes = {int(part.shape[0]) for part in chosen.parts[:-1]}
        last = int(chosen.parts[-1].shape[0])
        if len(sizes) == 1 and last <= min(sizes) and chosen.index[0] is None:
            size, before = sizes.pop(), [_first(numbers) - 1, *numbers[:-1]]
            gaps = [(n - m - 1) * size for n, m in zip(numbers, before, strict=True)]
    if gaps is None or chosen.index[0] is not None:
        text = str(list(lacking.numbers[:20]))[1:-1]
        raise FormatError(
            f"{path}: of {lacking.most} data files these are not there: {text}, and nothing tells "
            "how many patterns they held",
            "copy them beside the others",
        )
    return replace(chosen, gaps=tuple(gaps))


def _first(numbers: list[int]) -> int:
    """The number of the first file of the series, there or not: 1, in some series 0."""
    return min(1, numbers[0])


def _numbers(chosen: Chosen, datasets: Mapping[str, Any]) -> list[int]:
    """Of the files of a series that are there, in order."""
    if not chosen.name.endswith("data_*"):
        return []
    folder = chosen.name.removesuffix("data_*")
    found = [
        int(match["number"])
        for name, dataset in datasets.items()
        if name.startswith(folder)
        and (match := SERIES.match(name))
        and any(dataset is part for part in chosen.parts)
    ]
    return sorted(found)


def _of_image_numbers(chosen: Chosen) -> list[int] | None:
    """Patterns that lack before each part by the numbers of its images, None where none are told.

    These count from 1 (from 0 in some files, which is seen in the first one).
    """
    gaps: list[int] = []
    expected = None
    for part in chosen.parts:
        low, high = (part.attrs.get(name) for name in ("image_nr_low", "image_nr_high"))
        if low is None or high is None or int(high) - int(low) + 1 != int(part.shape[0]):
            return None
        expected = min(1, int(low)) if expected is None else expected
        if int(low) < expected:
            return None
        gaps.append(int(low) - expected)
        expected = int(high) + 1
    return gaps
