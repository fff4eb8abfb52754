"""All datasets of an HDF5 file, external links followed only to files beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.hdf5.bounds import beside_of, check_below, check_dataset
from stemd.adapters.recordings.hdf5.heaps import texts_are_sound
from stemd.errors import FormatError

MAX_DEPTH = 32
MAX_ITEMS = 100_000
"""More groups and datasets than any file of patterns has: a file that lists more is not walked."""


@dataclass(slots=True)
class Found:
    """Datasets in the order of the file, and links that cannot be followed, by their full names.

    A dataset in a linked file has another name there.
    """

    datasets: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, FormatError] = field(default_factory=dict)
    still_written: bool = False


def datasets_of(file: Any, path: RecordingPath) -> Found:
    """Every dataset once. Raises FormatError for a file that lists too much."""
    found, seen = Found(), set[Any]()
    _below(file, "", path, found, seen, 0)
    return found


def _below(
    group: Any, prefix: str, path: RecordingPath, found: Found, seen: set[Any], depth: int
) -> None:
    import h5py

    if depth > MAX_DEPTH or len(seen) > MAX_ITEMS:
        raise FormatError(f"{path} has too many groups within groups", "copy out what matters")
    for name in group:
        full = f"{prefix}/{name}"
        try:
            item = linked(group, name, group.get(name, getlink=True), path, full)
        except FormatError as error:
            found.problems[full] = error
            continue
        if item is None:
            continue
        info = h5py.h5o.get_info(item.id)
        key = (info.fileno, info.addr)
        if key in seen:
            continue
        seen.add(key)
        if isinstance(item, h5py.Dataset):
            found.datasets[full] = item
        elif isinstance(item, h5py.Group):
            _below(item, full, path, found, seen, depth + 1)


def linked(group: Any, name: str, link: Any, path: RecordingPath, full: str) -> Any:
    """The group or dataset of a link; None for one within the file that leads nowhere.

    Raises FormatError for a link to a file that is elsewhere, is not there or lacks the target.
    """
    import h5py

    if isinstance(link, h5py.ExternalLink):
        beside = beside_of(path, link.filename)
        check_below(path, beside, full, link.filename)
        if not beside.is_file():
            raise FormatError(
                f"{path}: {full} is in {link.filename}, which is not there",
                f"copy {link.filename} into {beside.parent}",
            )
        check_links_of(beside)
    try:
        item = group[name]
        if isinstance(link, h5py.ExternalLink):
            check_below(path, Path(item.file.filename), full)
        return item
    except (KeyError, OSError, RuntimeError) as error:
        if isinstance(link, h5py.ExternalLink):
            raise FormatError(
                f"{path}: {full} should be {link.path} of {link.filename}, which cannot be read: "
                f"{error}",
                f"copy {link.filename} again",
            ) from error
        if isinstance(link, h5py.SoftLink):
            return None
        raise


def check_links_of(beside: Path) -> None:
    """A linked file must not lead further: its own links would not have been looked at."""
    import h5py

    def visit(_name: str, link: Any) -> str | None:
        return str(link.filename) if isinstance(link, h5py.ExternalLink) else None

    try:
        with h5py.File(beside, "r") as other:
            further = other.visititems_links(visit)
    except OSError as error:
        raise FormatError(
            f"{beside} cannot be read: {error}", f"copy {beside.name} again"
        ) from error
    if further is not None:
        raise FormatError(
            f"{beside}: a file that is linked to links to another, {further}", "copy the values"
        )


def refuse_foreign_bytes(path: Path) -> None:
    """Raises FormatError where any dataset of an HDF5 file lies elsewhere, unpacks hugely, or where
    its texts cannot be read without harm."""
    import h5py

    with h5py.File(path, "r") as file:
        found = datasets_of(file, path)
        if not texts_are_sound(path, found.datasets.values()):
            raise FormatError(f"{path} is damaged: its texts never end", "copy the file again")
        for problem in found.problems.values():
            raise problem
        for dataset in found.datasets.values():
            check_dataset(dataset, path)
