"""HyperSpy's .zspy: a zarr store, as a folder or a zip file, opened for reading only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import by_bands
from stemd.adapters.recordings.calibration import axis_of, calibration_of, of_metadata
from stemd.errors import FormatError, StemdError

NEEDS = "pip install 'stemd[images]'"
_GOOD_BYTES, _MOST_BYTES = 8 * 1024 * 1024, 64 * 1024 * 1024


def open_zspy(path: Path, scan: Scan | None = None, dataset: str | None = None) -> ArrayRecording:
    """Open the patterns of a .zspy store; `dataset` is the name of an experiment in it.

    Raises FormatError when zarr is not installed, when it is no such store, holds no patterns, or
    they do not fit the scan.
    """
    try:
        import zarr
    except ImportError as error:
        raise FormatError(
            f"{path}: reading .zspy needs zarr, which is not installed", NEEDS
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store: Any = path if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
            root: Any = zarr.open_group(store, mode="r")
            experiments = dict(root["Experiments"].groups())
            return _recording(path, store, experiments, scan, dataset)
    except StemdError:
        raise
    except Exception as error:  # whatever a damaged store makes zarr raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(
            f"{path} is not a .zspy store that can be read: {text}", "copy it again"
        ) from error


def _recording(
    path: Path, store: Any, experiments: dict[str, Any], scan: Scan | None, asked: str | None
) -> ArrayRecording:
    if asked is not None:
        experiments = {name: group for name, group in experiments.items() if name == asked}
    found = {name: group["data"] for name, group in experiments.items() if "data" in group}
    found = {name: array for name, array in found.items() if array.ndim in (3, 4)}
    if len(found) != 1:
        listed = "; ".join(f"{name} {array.shape}" for name, array in found.items())
        raise FormatError(
            f"{path} holds {len(found) or 'no'} arrays of patterns"
            + (f" named {asked!r}" if asked is not None else ""),
            f"choose one with --dataset: {listed}" if found else "patterns have 3 or 4 dimensions",
        )
    ((name, array),) = found.items()
    group = experiments[name]
    tables = [_table(group, f"axis-{number}") for number in range(array.ndim)]
    axes = [axis_of(table) for table in tables]
    facts = ArrayFacts(
        calibration_of(axes[:-2], axes[-2:], of_metadata(_table(group, "metadata"))),
        detector="zspy",
    )
    fetch = by_bands(array, array.__getitem__, good_bytes=_GOOD_BYTES, most_bytes=_MOST_BYTES)
    close = getattr(store, "close", lambda: None)
    shape = tuple(int(n) for n in array.shape)
    return ArrayRecording(path, shape, array.dtype, fetch, scan, close, facts)


def _table(group: Any, name: str) -> dict[str, Any]:
    """The attributes of a group and of those in it, as a table."""
    if name not in group:
        return {}
    inner = group[name]
    found = dict(inner.attrs)
    if hasattr(inner, "group_keys"):
        for key in inner.group_keys():
            found[key] = _table(inner, key)
    return found
