"""Recordings in the formats of other programs, read lazily by rosettasciio."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.recordings import empad
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import by_bands
from stemd.adapters.recordings.calibration import (
    Calibration,
    axes_of,
    calibration_of,
    of_metadata,
    positive,
)
from stemd.adapters.recordings.stored_zip import stored_copy
from stemd.blocks import Notice
from stemd.errors import FormatError, StemdError

READERS: Mapping[str, str] = {
    "blo": "blockfile",
    "dm": "digitalmicrograph",
    "mrc": "mrc",
    "prz": "pantarhei",
    "empad": "empad",
}
"""rosettasciio's module for each kind of file."""
NEEDS = "pip install 'stemd[images]'"
_CHUNK = "8MiB"
_GOOD_BYTES, _MOST_BYTES = 8 * 1024 * 1024, 32 * 1024 * 1024
_opening = threading.Lock()


def open_foreign(
    path: Path, kind: str, scan: Scan | None = None, dataset: str | None = None
) -> ArrayRecording:
    """Open the patterns of a file of this kind; `dataset` is the title of a signal in it.

    Raises FormatError when rosettasciio is not installed or cannot read it, when it holds no
    patterns, or when they do not fit the scan.
    """
    read_from, close = path, _nothing
    if kind == "prz":
        read_from, close = stored_copy(path)
    try:
        return _recording(path, read_from, close, kind, scan, dataset)
    except BaseException:
        close()
        raise


def _nothing() -> None:
    pass


def _recording(
    path: Path,
    read_from: Path,
    close: Callable[[], None],
    kind: str,
    scan: Scan | None,
    dataset: str | None,
) -> ArrayRecording:
    signals = read_signals(read_from, READERS[kind], lazy=True, endings=kind, name=path)
    chosen = _chosen(path, signals, dataset)
    axes = sorted(chosen["axes"], key=lambda axis: axis.get("index_in_array", 0))
    known = axes_of(axes)
    if kind == "empad":
        raw = _raw_beside(path)
        return empad.open_raw(
            raw,
            scan,
            _empad_lines(axes),
            calibration_of(known[:-2], known[-2:], _microscope(chosen)),
        )
    data = chosen["data"]
    facts = ArrayFacts(
        calibration_of(known[:-2], known[-2:], _microscope(chosen)),
        detector=kind,
        notices=[Notice("reader", text) for text in chosen["told"]],
    )
    fetch = by_bands(data, _reader(data), good_bytes=_GOOD_BYTES, most_bytes=_MOST_BYTES)
    shape = tuple(int(n) for n in data.shape)
    return ArrayRecording(path, shape, data.dtype, fetch, scan, close, facts)


def read_signals(
    path: Path, module: str, *, lazy: bool, endings: str, name: Path | None = None, **options: Any
) -> list[dict[str, Any]]:
    """What rosettasciio finds in a file, each with its warnings as `told`.

    Raises FormatError, in which the file is called `name`.
    """
    name = name or path
    if importlib.util.find_spec("rsciio") is None:
        raise FormatError(
            f"{name}: reading {endings} needs rosettasciio, which is not installed", NEEDS
        )
    try:
        # some modules of rosettasciio keep what they read in globals, and warnings are global
        with _opening, warnings.catch_warnings(record=True) as told, _small_chunks(), _quiet():
            warnings.simplefilter("always")
            reader = importlib.import_module(f"rsciio.{module}")
            signals = _read(reader, path, lazy, options)
    except StemdError:
        raise
    except ImportError as error:
        raise FormatError(f"{name}: reading {endings} needs a package: {error}", NEEDS) from error
    except Exception as error:  # readers raise whatever a broken file makes them raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(
            f"{name} cannot be read as {endings}: {text}",
            "the file is cut off or damaged, or is of another kind: copy it again",
        ) from error
    ours = (UserWarning, RuntimeWarning)
    texts = [" ".join(str(each.message).split()) for each in told if each.category in ours]
    return [{**signal, "told": texts} for signal in signals]


def _read(reader: Any, path: Path, lazy: bool, options: Mapping[str, Any]) -> list[Any]:
    try:
        return list(reader.file_reader(str(path), lazy=lazy, **options))
    except Exception as error:
        # some readers leave their file to be closed when it is forgotten: forget it here
        traceback.clear_frames(error.__traceback__)
        raise


@contextlib.contextmanager
def _small_chunks() -> Iterator[None]:
    import dask

    with dask.config.set({"array.chunk-size": _CHUNK}):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What its readers log at this place is raised, or said better, by what follows."""
    logger = logging.getLogger("rsciio")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


_KNOWN = ("beam_energy", "convergence_angle", "camera_length")


def _microscope(signal: Mapping[str, Any]) -> Calibration:
    """What a file says of the microscope; where its own metadata have it, rosettasciio maps it."""
    table: dict[str, Any] = {}
    for source, (target, convert) in dict(signal.get("mapping") or {}).items():
        key = target.rpartition(".")[2]
        value: Any = signal.get("original_metadata", {})
        for part in source.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and key in _KNOWN and target.startswith("Acquisition_instrument.TEM"):
            with contextlib.suppress(Exception):  # a value that is none says nothing
                table[key] = convert(value) if convert is not None else value
    known = of_metadata({"Acquisition_instrument": {"TEM": table}})
    own = of_metadata(signal.get("metadata", {}))
    length_m, pixel = positive(table.get("camera_length")), signal["axes"][-1]
    pixel_m = _METRES.get(str(pixel.get("units")), 0.0) * (positive(pixel.get("scale")) or 0.0)
    angle = (
        1e3 * pixel_m / length_m
        if length_m and pixel_m and "blockfile" in str(list(signal.get("original_metadata", {})))
        else None
    )
    return Calibration(
        energy_ev=own.energy_ev or known.energy_ev,
        convergence_semi_angle_mrad=(
            own.convergence_semi_angle_mrad or known.convergence_semi_angle_mrad
        ),
        pixel_size_mrad=angle,
    )


_METRES = {"cm": 1e-2, "mm": 1e-3}


def _reader(data: Any) -> Any:
    """Reads bands of a dask array in the thread that asks for them."""
    return lambda index: _computed(data[index])


def _computed(part: Any) -> NDArray[Any]:
    """The values of a dask array, without a copy where they are one chunk."""
    from dask.core import flatten
    from dask.local import get_sync

    keys: list[Any] = list(flatten(part.__dask_keys__()))  # type: ignore[no-untyped-call]
    if len(keys) > 1:
        return np.asarray(part.compute(scheduler="synchronous"))
    graph = part.__dask_optimize__(part.__dask_graph__(), keys)
    (found,) = get_sync(graph, keys)
    return np.asarray(found)


def _chosen(path: Path, signals: Sequence[dict[str, Any]], asked: str | None) -> dict[str, Any]:
    patterns = [signal for signal in signals if is_patterns(signal)]
    titles = [title_of(signal) for signal in patterns]
    if asked is not None:
        matching = [s for s, title in zip(patterns, titles, strict=True) if title == asked]
        if not matching:
            raise FormatError(
                f"{path} holds no patterns titled {asked!r}",
                f"one of: {', '.join(map(repr, titles)) or 'none'}",
            )
        return matching[0]
    if not patterns:
        held = "; ".join(_told(signal) for signal in signals) or "nothing"
        raise FormatError(
            f"{path} holds no diffraction patterns: {held}",
            "stemd.api.restore and the images adapter read images",
        )
    by_size = sorted(patterns, key=lambda signal: int(np.prod(signal["data"].shape)), reverse=True)
    if len(by_size) > 1 and by_size[0]["data"].ndim == by_size[1]["data"].ndim:
        raise FormatError(
            f"{path} holds several arrays that may be the patterns",
            f"choose one with --dataset: {'; '.join(_told(signal) for signal in patterns)}",
        )
    return by_size[0]


def is_patterns(signal: Mapping[str, Any]) -> bool:
    """Whether a signal is a stack or a scan of two-dimensional patterns."""
    data = signal["data"]
    if data.ndim not in (3, 4) or 0 in data.shape or data.dtype.kind not in "uifbc":
        return False
    axes = sorted(signal["axes"], key=lambda axis: axis.get("index_in_array", 0))
    return len(axes) == data.ndim and not any(axis.get("navigate") for axis in axes[-2:])


def title_of(signal: Mapping[str, Any]) -> str:
    """The title of a signal, "" where it has none."""
    general = signal.get("metadata", {}).get("General", {})
    return str(general.get("title", "")) if isinstance(general, Mapping) else ""


def _told(signal: Mapping[str, Any]) -> str:
    data = signal["data"]
    return f"{title_of(signal) or 'an array'} {tuple(int(n) for n in data.shape)} of {data.dtype}"


def _raw_beside(path: Path) -> Path:
    """The .raw file that an EMPAD .xml speaks of. Raises FormatError when it is not beside it."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise FormatError(f"{path} is not XML: {error}", "copy the file again") from error
    element = root.find("raw_file")
    name = element.get("filename", "") if element is not None else ""
    if not name or Path(name).name != name:
        raise FormatError(
            f"{path}: the patterns are in another file, {name or 'which is not named'}",
            "only a file beside it is read: copy it, and name it in the .xml without a folder",
        )
    raw = path.with_name(name)
    if not raw.is_file():
        raise FormatError(
            f"{path}: the patterns are in {name}, which is not there", f"copy {name} beside it"
        )
    return raw


def _empad_lines(axes: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    sizes = {str(axis.get("name")): int(axis["size"]) for axis in axes if axis.get("navigate")}
    if "series_count" in sizes:
        return 1, sizes["series_count"]
    if not sizes:
        return 1, 1
    return sizes.get("scan_y", 1), sizes.get("scan_x", 1)
