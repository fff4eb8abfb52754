"""What `stemd process` reads: files, records, scan folders, days; and where images go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.kinds import is_no_recording_of_its_own
from stemd.errors import StemdError, UsageError
from stemd.storage.recorded import RecordedScan, record_in, recorded_scan

DEEPEST = 3
"""Folders in folders that are looked into: data folder, day, scan."""


@dataclass(frozen=True, slots=True)
class Input:
    """A recording, what the scan.json beside it says, and whether it was found in a folder.

    `problem`: why that cannot be understood.
    """

    path: RecordingPath
    known: RecordedScan | None = None
    found: bool = False
    problem: StemdError | None = None

    @classmethod
    def of(cls, path: RecordingPath, *, found: bool = False) -> Input:
        """A recording with what lies beside it."""
        try:
            known = recorded_scan(path) if isinstance(path, Path) else None
        except StemdError as error:
            return cls(path, None, found, error)
        return cls(path, known, found)


def inputs_of(paths: Iterable[RecordingPath]) -> list[Input]:
    """The recordings that are named, or lie in the folders that are named.

    Raises UsageError for a folder that holds none.
    """
    inputs: list[Input] = []
    for path in paths:
        if isinstance(path, Path) and path.is_dir() and path.suffix.lower() not in _suffixes():
            inside = list(_in_folder(path))
            if not inside:
                raise UsageError(
                    f"{path} is a folder without a recording",
                    f"name a file ({', '.join(_suffixes())}), the folder of a recorded scan, or "
                    "that of a day",
                )
            inputs += inside
        else:
            inputs.append(Input.of(path))
    return inputs


def targets_of(inputs: Sequence[Input], out: Path) -> dict[Path, Input]:
    """The folder for each recording's images.

    A file's is named after it. Records, which all have one name, have the name of their scan if
    there are several, or if they were found in a folder. Raises UsageError where two have one.
    """
    stems = Counter(each.path.stem for each in inputs)
    targets: dict[Path, Input] = {}
    for each in inputs:
        stem, name = each.path.stem, each.path.stem
        if each.known is not None and each.known.id and (each.found or stems[stem] > 1):
            name = each.known.id
        target = out / name
        if target in targets:
            raise UsageError(
                f"{targets[target].path} and {each.path} would both be written to {target}",
                "process them in two calls with different --out",
            )
        targets[target] = each
    return targets


def of_scan(target: Path, number: int) -> Path:
    """The folder for images of a file's scan with this number, beside that of the first."""
    return target if number == 1 else target.with_name(f"{target.name}_scan{number}")


def _suffixes() -> list[str]:
    from stemd.adapters.files import recording_suffixes

    return recording_suffixes()


def _in_folder(folder: Path, depth: int = DEEPEST) -> Iterator[Input]:
    record = record_in(folder)
    if record is not None:
        yield Input.of(record, found=True)
        return
    if (folder / "scan.json").is_file():
        return  # a scan without a record: images are no recordings
    suffixes = _suffixes()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in suffixes:
            if not is_no_recording_of_its_own(path):
                yield Input.of(path)
        elif path.is_dir() and depth > 1:
            yield from _in_folder(path, depth - 1)
