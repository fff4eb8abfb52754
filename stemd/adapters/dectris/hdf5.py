"""A record as the files that a control unit's file writer makes: a master, and data files.

The images' chunks are the camera's own bytes: nothing is compressed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stemd.adapters.dectris.compression import ALGORITHMS, HEAD_BYTES
from stemd.adapters.dectris.recording import DectrisRecording
from stemd.errors import FormatError

IMAGES_PER_FILE = 100_000
_NEEDS = "pip install 'stemd[hdf5]'"
_PART = ".part"
_NXS = {"entry": "NXentry", "entry/data": "NXdata", "entry/instrument": "NXinstrument"}
_DETECTOR = "entry/instrument/detector"


def _libraries() -> tuple[Any, Any]:
    try:
        import h5py
        import hdf5plugin
    except ImportError as error:
        raise FormatError(
            f"writing HDF5 needs {error.name}, which is not installed", _NEEDS
        ) from error
    return h5py, hdf5plugin


def write_hdf5(recording: DectrisRecording, folder: Path, stem: str) -> list[Path]:
    """Write `<stem>_master.h5` and its data files into a folder; the master comes first.

    An image stands where its number says; one that did not come has the type's maximum, which
    says that there is no value. Raises FormatError, OSError.
    """
    h5py, _ = _libraries()
    numbers, codes = recording.numbers, set(recording.algorithms.tolist())
    if len(codes) > 1:
        raise FormatError(
            f"{recording.path}: its images are compressed in several ways, a file's in one",
            "stemd process reads the record itself",
        )
    algorithm = ALGORITHMS[codes.pop()]
    first, last = int(numbers.min()), int(numbers.max())
    master = folder / f"{stem}_master.h5"
    made: list[Path] = []
    with _whole(master) as path, h5py.File(path, "w") as file:
        _describe(file, recording, last - first + 1)
        for index, begin in enumerate(range(first, last + 1, IMAGES_PER_FILE), 1):
            stop = min(begin + IMAGES_PER_FILE, last + 1)
            data = folder / f"{stem}_data_{index:06d}.h5"
            with _whole(data) as part, h5py.File(part, "w") as images:
                _write_images(images, recording, begin, stop, algorithm)
            link = h5py.ExternalLink(data.name, "/entry/data/data")
            file[f"entry/data/data_{index:06d}"] = link
            made.append(data)
    return [master, *made]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place once all is well."""
    part = path.with_name(path.name + _PART)
    try:
        yield part
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _groups(file: Any) -> None:
    for name, kind in _NXS.items():
        file.require_group(name).attrs["NX_class"] = kind


def _describe(file: Any, recording: DectrisRecording, images: int) -> None:
    """What the series' start said, under the names that readers look for."""
    _groups(file)
    acquisition = recording.acquisition
    detector = file.create_group(_DETECTOR)
    detector.attrs["NX_class"] = "NXdetector"
    detector["bit_depth_image"] = 8 * int(recording.layout.dtype[1])
    special = detector.create_group("detectorSpecific")
    special["nimages"], special["ntrigger"] = images, 1
    special["y_pixels_in_detector"], special["x_pixels_in_detector"] = recording.layout.shape
    if acquisition.detector.mask is not None:
        special["pixel_mask"] = acquisition.detector.mask.astype(np.uint32)
    if acquisition.detector.header:
        special["stream_start"] = acquisition.detector.header


def _write_images(
    file: Any, recording: DectrisRecording, begin: int, stop: int, algorithm: str
) -> None:
    """Images begin..stop-1, as far as they came; of equal numbers the first."""
    _, hdf5plugin = _libraries()
    filters: dict[str, Any] = {
        "none": {},
        "lz4": hdf5plugin.LZ4(),
        "bslz4": hdf5plugin.Bitshuffle(cname="lz4"),
    }
    _groups(file)
    dtype = np.dtype(f"<{recording.layout.dtype}")
    shape = recording.layout.shape
    data = file.create_dataset(
        "entry/data/data",
        (stop - begin, *shape),
        dtype,
        chunks=(1, *shape),
        fillvalue=np.iinfo(dtype).max,
        **filters[algorithm],
    )
    data.attrs["image_nr_low"], data.attrs["image_nr_high"] = begin + 1, stop
    seen = np.zeros(stop - begin, np.bool_)
    for number, packed in recording.packed(begin, stop):
        if seen[number - begin]:
            continue
        seen[number - begin] = True
        if algorithm == "lz4":
            packed = _with_head(packed, recording.layout.pixel_bytes)
        data.id.write_direct_chunk((number - begin, 0, 0), packed)


def _with_head(packed: bytes, size: int) -> bytes:
    """The chunk of an LZ4 block: the legacy stream leaves out the head that HDF5's filter has."""
    if len(packed) >= HEAD_BYTES and int.from_bytes(packed[:8], "big") == size:
        return packed
    return (
        size.to_bytes(8, "big") + size.to_bytes(4, "big") + len(packed).to_bytes(4, "big") + packed
    )
