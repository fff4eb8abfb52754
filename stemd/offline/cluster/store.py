"""The parts folder: finished parts of a scan, so that nothing is reduced twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd import __version__
from stemd.adapters.base import Checkpoint
from stemd.blocks import Notice
from stemd.offline.cluster.parts import Part
from stemd.storage.files import TEMPORARY, disk_error

FORMAT = 3
_MAPS = ("total", "moment_y", "moment_x", "detectors", "done")
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RecursionError, zipfile.BadZipFile)

Span = tuple[int, int]


def key_of(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """16 hex digits for a file, the settings it was reduced with, and the stemd that did it."""
    said = {"format": FORMAT, "stemd": __version__, "file": identity, "settings": settings}
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gaps(known: Iterable[Span], extent: int) -> tuple[list[Span], list[Span]]:
    """(spans to use, spans still to be done): together they cover 0..extent-1 exactly once."""
    used: list[Span] = []
    missing: list[Span] = []
    at = 0
    for first, stop in sorted(known, key=lambda span: (span[0], -span[1])):
        if first < at or stop <= first or stop > extent:
            continue
        if first > at:
            missing.append((at, first))
        used.append((first, stop))
        at = stop
    if at < extent:
        missing.append((at, extent))
    return used, missing


def cut(spans: Iterable[Span], size: int) -> list[Span]:
    """The same spans in pieces of at most `size`."""
    return [(at, min(at + size, stop)) for first, stop in spans for at in range(first, stop, size)]


class PartStore:
    """Parts of one file and one reduction, each a .npz in a folder of their own.

    A part that cannot be read, or is not what its name says, is as good as not there. Methods
    raise SinkError where the folder cannot be written.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key

    def spans(self) -> list[Span]:
        """(first, stop) of every part that can be read."""
        return [
            (part.first, part.stop)
            for path in sorted(self.folder.glob("*-*.npz"))
            if (part := _read(path)) is not None and path.name == _name(part.first, part.stop)
        ]

    def load(self, first: int, stop: int) -> Part | None:
        """One part, None where it is not there or cannot be read."""
        return _read(self.folder / _name(first, stop))

    def save(self, part: Part) -> None:
        """Write a part (but not its checkpoint)."""
        _write(self.folder / _name(part.first, part.stop), _arrays(part))

    def keep_only(self, spans: Sequence[Span]) -> None:
        """Throw every other part away."""
        kept = {_name(first, stop) for first, stop in spans}
        for path in self.folder.glob("*-*.npz"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


class CheckpointStore:
    """Where an event stream can be taken up, whatever is made of its events."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / f"checkpoints-{key}"

    def positions(self) -> list[int]:
        """Bytes at which there is a checkpoint."""
        found = (path.stem for path in self.folder.glob("*.npz"))
        return sorted(int(name) for name in found if name.isdecimal())

    def load(self, position: int) -> Checkpoint | None:
        """The checkpoint at a byte, None where it is not there or cannot be read."""
        try:
            found = _read_arrays(self.folder / f"{position}.npz")
            return found if int(found["position"][0]) == position else None
        except _UNREADABLE:
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint under its position."""
        _write(self.folder / f"{int(checkpoint['position'][0])}.npz", checkpoint, compressed=True)


def _name(first: int, stop: int) -> str:
    return f"{first:012d}-{stop:012d}.npz"


def _arrays(part: Part) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(part, name) for name in _MAPS}
    for engine, gathered in part.gathered.items():
        arrays |= {f"gathered.{engine}.{name}": array for name, array in gathered.items()}
    for engine, found in part.found.items():
        arrays |= {f"found.{engine}.{name}": array for name, array in found.items()}
    about = {
        "first": part.first,
        "stop": part.stop,
        "low": part.low,
        "frames": part.frames,
        "centre": part.centre,
        "fixed": part.fixed,
        "over": part.over,
        "failed": dict(part.failed),
        "notices": [asdict(notice) for notice in part.notices],
        "engines": list(part.gathered),
        "finders": list(part.found),
    }
    return {**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}


def _read(path: Path) -> Part | None:
    try:
        arrays = _read_arrays(path)
        about: dict[str, Any] = json.loads(arrays.pop("about").tobytes())
        kinds: dict[str, dict[str, dict[str, NDArray[Any]]]] = {
            kind: {name: {} for name in about.pop(names)}
            for kind, names in (("gathered", "engines"), ("found", "finders"))
        }
        for name in [name for name in arrays if name.startswith(("gathered.", "found."))]:
            kind, rest = name.split(".", 1)
            engine = max((e for e in kinds[kind] if rest.startswith(f"{e}.")), key=len)
            kinds[kind][engine][rest[len(engine) + 1 :]] = arrays.pop(name)
        centre = about.pop("centre")
        about["notices"] = tuple(Notice(**notice) for notice in about.pop("notices", ()))
        fields: dict[str, Any] = {**about, **arrays, **kinds}
        return Part(**fields, centre=tuple(centre) if centre else None)
    except (*_UNREADABLE, TypeError):
        return None


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    # numpy leaves a file open that it cannot read
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _write(path: Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False) -> None:
    """Whole or not at all for whoever reads it. Not flushed: what a power cut takes is made anew,
    and the checksums inside tell."""
    packed = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(packed, **dict(arrays))  # type: ignore[arg-type]
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(packed.getbuffer())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise disk_error(error, "write", path) from error
