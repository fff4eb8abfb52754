"""HDF5 files of any writer as recordings."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import Fetch, by_bands, mapped_fetch
from stemd.adapters.recordings.calibration import Axis, Calibration, calibration_of
from stemd.adapters.recordings.hdf5 import vendors
from stemd.adapters.recordings.hdf5.bounds import check_dataset
from stemd.adapters.recordings.hdf5.choice import SERIES, Chosen, choose
from stemd.adapters.recordings.hdf5.filters import NEEDS
from stemd.adapters.recordings.hdf5.gaps import lacking_files, with_gaps
from stemd.adapters.recordings.hdf5.heaps import texts_are_sound
from stemd.adapters.recordings.hdf5.joined import Joined
from stemd.adapters.recordings.hdf5.unopened import not_opened, still_written
from stemd.adapters.recordings.hdf5.unwritten import unwritten
from stemd.adapters.recordings.hdf5.virtual import gaps_of
from stemd.adapters.recordings.hdf5.walk import Found, datasets_of
from stemd.adapters.recordings.remote import RemoteBytes
from stemd.adapters.recordings.remote_stream import RemoteReader
from stemd.blocks import Notice
from stemd.errors import FormatError, StemdError
from stemd.pixels import Mask

_BUFFER_BYTES = 1024 * 1024
_CHUNK_CACHE_BYTES, _CHUNK_CACHE_SLOTS = 64 * 1024 * 1024, 100_003
"""Chunks of several lines are unpacked once, as long as two threads' lines of them fit in here. It
is shared by the files of a series."""
_GOOD_BYTES, _MOST_BYTES = 4 * 1024 * 1024, 16 * 1024 * 1024


def open_hdf5(
    path: RecordingPath, scan: Scan | None = None, dataset: str | None = None
) -> ArrayRecording:
    """Open the patterns of an HDF5 file; `dataset` names them where there are several arrays.

    Raises FormatError when there are none or it is not clear which, when they lie outside of the
    file's folder or are not all there, or do not fit the scan.
    """
    file, close = _opened(path, _CHUNK_CACHE_BYTES)
    try:
        found, chosen, sound = _chosen(path, file, dataset)
        files = _files(chosen)
        if files > 1:  # each has a cache of its own, of the size with which it is first opened
            del found, chosen
            close()
            file, close = _opened(path, _CHUNK_CACHE_BYTES // files)
            found, chosen, sound = _chosen(path, file, dataset)
        return _recording(path, file, close, scan, found, chosen, sound=sound)
    except StemdError:
        close()
        raise
    except Exception as error:  # whatever a damaged file makes the library raise
        close()
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(
            f"{path} cannot be read: {text}", "the file is cut off or damaged: copy it again"
        ) from error


def _opened(path: RecordingPath, cache_bytes: int) -> tuple[Any, Callable[[], None]]:
    try:
        import h5py
    except ImportError as error:
        raise FormatError(
            f"{path}: reading HDF5 needs h5py, which is not installed", NEEDS
        ) from error
    # HDF5 reads its metadata in small steps: the buffer makes one request of many
    opened: Any = path
    if isinstance(path, RemoteFile):
        opened = io.BufferedReader(RemoteReader(RemoteBytes(path)), _BUFFER_BYTES)
    try:
        file = h5py.File(opened, "r", rdcc_nbytes=cache_bytes, rdcc_nslots=_CHUNK_CACHE_SLOTS)
    except OSError as error:
        file = still_written(opened, error)
        if file is None:
            raise not_opened(path, error) from error
    return file, file.close


def _chosen(path: RecordingPath, file: Any, asked: str | None) -> tuple[Found, Chosen, bool]:
    """What the file holds, the patterns in it, and whether its texts may be read."""
    found = datasets_of(file, path)
    found.still_written = bool(file.swmr_mode)
    sound = not isinstance(path, Path) or texts_are_sound(path, found.datasets.values())
    if asked is None and sound and vendors.is_velox(file):
        raise FormatError(
            f"{path} is a file of Velox: it holds images and spectra, no diffraction patterns",
            "stemd.api.restore and the images adapter read its images",
        )
    for name, problem in found.problems.items():
        if SERIES.match(name):
            raise problem
    try:
        chosen = choose(path, found.datasets, asked)
    except FormatError:
        for problem in found.problems.values():
            if asked is None:
                raise problem from None
        raise
    for part in chosen.parts:
        check_dataset(part, path)
    chosen = with_gaps(path, chosen, found.datasets)
    return found, chosen, sound


def _files(chosen: Chosen) -> int:
    """How many files are read from."""
    sources = (
        source.file_name
        for part in chosen.parts
        if part.is_virtual
        for source in part.virtual_sources()
    )
    return len({part.file.filename for part in chosen.parts} | set(sources) - {"."})


def _recording(
    path: RecordingPath,
    file: Any,
    close: Callable[[], None],
    scan: Scan | None,
    found: Found,
    chosen: Chosen,
    *,
    sound: bool,
) -> ArrayRecording:
    first = chosen.parts[0]
    axes = vendors.axes_of_dataset(file, first) if sound else [Axis()] * int(first.ndim)
    order = vendors.order_of(first, axes, chosen.axes) if sound else chosen.axes
    array = Joined(chosen, order)
    known = [axes[axis] for axis in order]
    microscope = vendors.microscope_of(first) if sound else None
    facts = ArrayFacts(
        unwritten=unwritten(chosen, order, path) if isinstance(path, Path) else None,
        calibration=calibration_of(known[:-2], known[-2:], microscope),
        notices=_notices(chosen, found, sound),
        mask=_gaps(chosen, order),
    )
    if sound:
        facts = _with_master(file, array, facts, chosen)
    fetch = _mapped(path, array) or by_bands(
        array, array.__getitem__, good_bytes=_GOOD_BYTES, most_bytes=_MOST_BYTES
    )
    return ArrayRecording(path, array.shape, array.dtype, fetch, scan, close, facts)


def _gaps(chosen: Chosen, order: Sequence[int]) -> Mask | None:
    """Pixels for which virtual datasets have no source, as between the modules of a detector."""
    found = [gaps for part in chosen.parts if (gaps := gaps_of(part)) is not None]
    if not found:
        return None
    gaps = np.logical_or.reduce(found)
    return np.asarray(gaps if order[-2] < order[-1] else gaps.T)


def _notices(chosen: Chosen, found: Found, sound: bool) -> list[Notice]:
    told = [
        Notice("link_not_read", error.message, remedy=error.remedy)
        for error in found.problems.values()
    ]
    if not sound:
        text = "the file is damaged: what it says beside the patterns is not read, nor is its mask"
        told.append(Notice("damaged_texts", text, remedy="copy the file again"))
    if found.still_written:
        text = "the file is still being written, or its writer has crashed: it may lack the last"
        told.append(Notice("still_written", text, remedy="read it again when it is closed"))
    if chosen.among > 1:
        text = f"of {chosen.among} arrays that may be the patterns the file calls {chosen.name} "
        told.append(Notice("signal", f"{text}its signal", "info"))
    if len(chosen.parts) > 1:
        text = f"{len(chosen.parts)} arrays follow each other, {chosen.name}"
        told.append(Notice("joined", text, "info"))
    lacking = lacking_files(chosen, found.datasets)
    if lacking is not None:
        which = str(list(lacking.numbers[:20]))[1:-1]
        text = (
            f"of {lacking.most} data files these are not there: {which}; the positions of their "
            f"{sum(chosen.gaps):,} patterns are missing"
        )
        told.append(Notice("data_files_missing", text, remedy="copy them beside the others"))
    return told


def _with_master(file: Any, array: Joined, facts: ArrayFacts, chosen: Chosen) -> ArrayFacts:
    master = vendors.master_of(file, (array.shape[-2], array.shape[-1]))
    if master is None:
        return facts
    known = facts.calibration
    calibration = replace(known, dwell_time_us=known.dwell_time_us or master.dwell_time_us)
    frames = int(np.prod(array.shape[:-2]))
    told = list(facts.notices)
    if master.other_mask:
        height, width = array.shape[-2:]
        text = (
            f"the file's pixel mask is of {master.other_mask} pixels, the patterns of "
            f"{height} x {width}"
        )
        remedy = "it is not used: list the pixels that do not count in optics.mask"
        told.append(Notice("mask_not_read", text, remedy=remedy))
    mask = master.mask
    if facts.mask is not None:
        mask = facts.mask if mask is None else mask | facts.mask
    whole = master.lines is not None and int(np.prod(master.lines)) == frames
    return replace(
        facts,
        notices=told,
        calibration=calibration,
        mask=mask,
        lines=master.lines if whole else None,
        expected=master.expected if chosen.name.startswith("/entry/data/") else None,
        detector=master.name or facts.detector,
        marks=master.marks,
    )


def _mapped(path: RecordingPath, array: Joined) -> Fetch | None:
    """Patterns that lie in the file one after the other are mapped, and read by any threads."""
    dataset = array.plain
    if not isinstance(path, Path) or dataset is None or dataset.dtype.kind not in "uif":
        return None
    if dataset.chunks is not None or dataset.is_virtual or dataset.external:
        return None
    offset = dataset.id.get_offset()
    if offset is None or Path(dataset.file.filename).resolve() != path.resolve():
        return None
    size = int(np.prod(dataset.shape, dtype=np.int64)) * dataset.dtype.itemsize
    if dataset.file.userblock_size or offset + size > path.stat().st_size:
        return None
    # copy-on-write: kernels know writable arrays only, the file stays as it is
    return mapped_fetch(np.memmap(path, dataset.dtype, "c", offset, dataset.shape))


__all__ = ["NEEDS", "Calibration", "open_hdf5"]
