"""Which dataset of an HDF5 file holds the patterns, and which part of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import join, normpath
from typing import Any

import numpy as np

from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.hdf5.vendors import text_of, whole
from stemd.errors import FormatError

SERIES = re.compile(r"^(?P<group>.*/)?(?P<stem>data_)(?P<number>\d{6})$")
"""How DECTRIS names the parts of a series: one after the other along the first axis."""
_FEWER = 8
"""A dataset with so many times fewer values than the largest does not compete with it."""
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Chosen:
    """Datasets that follow each other along their first axis, and a fixed index of some axes.

    `name` is that of the dataset, or `.../data_*` of a series. `index` has one entry an axis of the
    dataset: a number where that axis is fixed, else None. `gaps`: how many patterns lack before
    each part, of files that are not there.
    """

    name: str
    parts: tuple[Any, ...]
    index: tuple[int | None, ...]
    gaps: tuple[int, ...] = ()
    among: int = 1

    @property
    def pieces(self) -> list[tuple[Any | None, int]]:
        """Parts and, as None, what lacks between them, each with its size on the first axis."""
        found: list[tuple[Any | None, int]] = []
        for part, gap in zip(self.parts, self.gaps or [0] * len(self.parts), strict=True):
            if gap:
                found.append((None, gap))
            found.append((part, int(part.shape[0])))
        return found

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the dataset that remain."""
        return tuple(axis for axis, at in enumerate(self.index) if at is None)


def choose(path: RecordingPath, datasets: Mapping[str, Any], asked: str | None) -> Chosen:
    """The dataset, or series of datasets, of patterns.

    `asked` names it: `/group/name`, or with fixed indices `/group/name[0,:,:,:,:]`. Without it the
    one of most values is taken if no other comes near. Raises FormatError with a list to choose
    from.
    """
    groups = _groups({name: each for name, each in datasets.items() if _may_be(each)})
    if asked is not None:
        return _asked(path, groups, asked)
    if not groups:
        for name, each in datasets.items():
            if 3 <= each.ndim <= 6 and 0 in each.shape:
                raise FormatError(
                    f"{path}: {name} is empty, its shape is {each.shape}",
                    "the acquisition was broken off, or the file was copied too early",
                )
        raise FormatError(
            f"{path} holds no dataset of 3 to 6 dimensions",
            "patterns are (ny, nx, height, width); stemd.api.restore reads images",
        )
    by_size = sorted(groups, key=lambda name: _size(groups[name]), reverse=True)
    first = by_size[0]
    largest = _size(groups[first])
    rivals = [
        name
        for name in by_size[1:]
        if _size(groups[name]) * _FEWER > largest
        and _real_axes(groups[name]) >= min(4, _real_axes(groups[first]))
    ]
    if rivals:
        signal = _signal([first, *rivals], groups)
        if signal is not None:
            return replace(_whole(path, signal, groups), among=1 + len(rivals))
        raise FormatError(
            f"{path} holds several arrays that may be the patterns",
            f"choose one with --dataset: {_list(groups)}",
        )
    return _whole(path, first, groups)


def _signal(names: Sequence[str], groups: Mapping[str, tuple[Any, ...]]) -> str | None:
    """The one array that a NeXus file calls the signal, in the group that it calls the default."""
    marked = [name for name in names if _is_signal(name, groups[name][0])]
    if len(marked) > 1:
        marked = [name for name in marked if _is_default(name, groups[name][0])]
    return marked[0] if len(marked) == 1 else None


def _is_signal(name: str, dataset: Any) -> bool:
    told = text_of(dataset.parent.attrs.get("signal"))
    own = dataset.attrs.get("signal")
    return told == name.rpartition("/")[2] or text_of(own) == "1" or whole(own) == 1


def _is_default(name: str, dataset: Any) -> bool:
    """Whether it is in the group to which the file's chain of `default` leads."""
    place, group, passed = "/", dataset.file, set[str]()
    while (told := text_of(group.attrs.get("default"))) and told in group and place not in passed:
        passed.add(place)  # one that leads back to itself ends here
        place, group = normpath(join(place, told)), group[told]
    return bool(passed) and name.startswith(f"{place.rstrip('/')}/")


def _may_be(dataset: Any) -> bool:
    kind = getattr(dataset.dtype, "kind", "V")
    return 3 <= dataset.ndim <= 6 and kind in "uifbc" and 0 not in dataset.shape


def _groups(datasets: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Datasets by name, the parts of a series together as `.../data_*`.

    A virtual dataset of the same values as a series beside it is the series once more.
    """
    found: dict[str, tuple[Any, ...]] = {}
    series: dict[str, dict[int, Any]] = {}
    for name, dataset in datasets.items():
        match = SERIES.match(name)
        if match is None:
            found[name] = (dataset,)
        else:
            parts = series.setdefault(f"{match['group'] or ''}data_*", {})
            parts[int(match["number"])] = dataset
    for name, parts in series.items():
        joined = tuple(parts[n] for n in sorted(parts))
        folder = name.rpartition("/")[0]
        for other in [key for key in found if key.rpartition("/")[0] == folder]:
            if found[other][0].is_virtual and _size(found[other]) == _size(joined):
                del found[other]
        found[name] = joined
    return found


def _size(parts: Sequence[Any]) -> int:
    return sum(int(np.prod(part.shape, dtype=np.int64)) for part in parts)


def _real_axes(parts: Sequence[Any]) -> int:
    return max(sum(int(n) > 1 for n in part.shape) for part in parts)


def _shape(parts: Sequence[Any]) -> tuple[int, ...]:
    return (sum(int(part.shape[0]) for part in parts), *(int(n) for n in parts[0].shape[1:]))


def _list(groups: dict[str, tuple[Any, ...]]) -> str:
    names = sorted(groups, key=lambda name: _size(groups[name]), reverse=True)
    told = [f"{name} {_shape(groups[name])} {groups[name][0].dtype}" for name in names[:_LISTED]]
    more = len(names) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _asked(path: RecordingPath, groups: dict[str, tuple[Any, ...]], asked: str) -> Chosen:
    match = re.match(r"^(?P<name>[^\[\]]+?)(\[(?P<index>[^\[\]]*)\])?$", asked.strip())
    name = match["name"] if match else ""
    name = name if name.startswith("/") else f"/{name}"
    if match is None or name not in groups:
        raise FormatError(
            f"{path} holds no array {asked} of 3 to 6 dimensions",
            f"one of: {_list(groups)}" if groups else "patterns are (ny, nx, height, width)",
        )
    if match["index"] is None:
        return _whole(path, name, groups)
    return _checked(path, name, groups, _index(path, asked, match["index"], groups[name]))


def _index(
    path: RecordingPath, asked: str, text: str, parts: Sequence[Any]
) -> tuple[int | None, ...]:
    shape = _shape(parts)
    entries = [entry.strip() for entry in text.split(",")]
    try:
        index = [None if entry == ":" else int(entry) for entry in entries]
        index += [None] * (len(shape) - len(index))
        valid = len(index) == len(shape) and all(
            at is None or -size <= at < size for at, size in zip(index, shape, strict=True)
        )
    except ValueError:
        valid = False
    if not valid or (len(parts) > 1 and index[0] is not None):
        raise FormatError(
            f"{path}: --dataset {asked} is no index of an array of shape {shape}",
            f"numbers or : by commas, for example {asked.split('[')[0]}[0]",
        )
    return tuple(None if at is None else at % size for at, size in zip(index, shape, strict=True))


def _whole(path: RecordingPath, name: str, groups: dict[str, tuple[Any, ...]]) -> Chosen:
    """All of it; axes of one step are left out where there are more than four."""
    shape = _shape(groups[name])
    index: list[int | None] = [None] * len(shape)
    spare = [axis for axis, size in enumerate(shape[:-2]) if size == 1]
    while len(shape) - sum(at is not None for at in index) > 4 and spare:
        index[spare.pop()] = 0
    return _checked(path, name, groups, tuple(index))


def _checked(
    path: RecordingPath,
    name: str,
    groups: dict[str, tuple[Any, ...]],
    index: tuple[int | None, ...],
) -> Chosen:
    parts = groups[name]
    shape = _shape(parts)
    chosen = Chosen(name, parts, index)
    if len(chosen.axes) not in (3, 4):
        first = ",".join("0" if n < len(shape) - 4 else ":" for n in range(len(shape)))
        raise FormatError(
            f"{path}: {name} has the shape {shape}, which is more than one scan of patterns",
            f"choose a part, for example --dataset '{name}[{first}]'",
        )
    for part in parts[1:]:
        if part.shape[1:] != parts[0].shape[1:] or part.dtype != parts[0].dtype:
            raise FormatError(
                f"{path}: {part.name} has the shape {part.shape} of {part.dtype}, but "
                f"{parts[0].name} {parts[0].shape} of {parts[0].dtype}",
                "only arrays of one kind follow each other",
            )
    return chosen
