"""All images of a scan as one NeXus file (HDF5), for h5py, HyperSpy and NeXus viewers.

An NXentry with an NXdata for each image, its axes in nm or mrad, and everything that says how it
was made: https://manual.nexusformat.org.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemd import __version__
from stemd.acquisition import iso_utc
from stemd.documents import to_json
from stemd.errors import SinkError
from stemd.plugins import NoSettings
from stemd.results import Result, Snapshot
from stemd.storage.files import disk_error, plain_file_name, result_file_name, write_atomic
from stemd.storage.tiff import describe
from stemd.storage.writers import Written

NEEDS = "pip install 'stemd[hdf5]'"
MAIN = ("ricom", "direct_phase", "airpi_phase")
"""The image that a viewer shows first, if it is there."""

TAKEN = (
    *("title", "entry_identifier", "start_time", "program_name", "instrument", "scan", "settings"),
    *("sample", "user", "experiment_description", "default"),
)
"""Names in the entry that are no image's."""


def unavailable() -> str | None:
    """Why no HDF5 file can be written here."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        return f"h5py is not installed: {NEEDS}"
    return None


class NexusWriter:
    """A `stemd.storage.writers.ResultWriter`: `<scan id>.h5` with all images."""

    def __init__(self, settings: NoSettings) -> None:
        """Without settings."""

    def write(self, folder: Path, snapshot: Snapshot, settings: Mapping[str, Any]) -> Written:
        """Write the images; those of an earlier file that are not among them stay in it."""
        for result in snapshot.results:
            result_file_name(result.name)  # a name that a group may have
        if not snapshot.results:
            return Written([])
        path = folder / plain_file_name(f"{snapshot.acquisition.id}.h5")
        try:
            before = path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise disk_error(error, "read", path) from error
        return Written([write_atomic(path, [encode_nexus(snapshot, settings, before)])])


def encode_nexus(
    snapshot: Snapshot, settings: Mapping[str, Any], before: bytes | None = None
) -> bytes:
    """The file's bytes; `before` is an earlier file of the scan, whose other images are kept.

    Raises SinkError where h5py is not installed, or `before` is no HDF5 file.
    """
    if why := unavailable():
        raise SinkError(f"the images of {snapshot.acquisition.id} cannot be written: {why}", NEEDS)
    import h5py

    file = io.BytesIO()
    try:
        # a new file each time: HDF5 gives the room of what is replaced to nobody
        with h5py.File(file, "w", track_order=True) as root:
            if before is not None:
                with h5py.File(io.BytesIO(before), "r") as earlier:
                    _keep(earlier, _group(root, "scan", "NXentry"), snapshot)
            _write(root, snapshot, settings)
    except OSError as error:
        text = f"{snapshot.acquisition.id}.h5 cannot be written: {error}"
        raise SinkError(text, "move the damaged file away, then save again") from error
    return file.getvalue()


def _keep(earlier: Any, entry: Any, snapshot: Snapshot) -> None:
    """Copy the images that are not made again."""
    anew = {_name_of(result) for result in snapshot.results}
    for name, group in earlier.get("scan", {}).items():
        if name not in anew and group.attrs.get("NX_class") == "NXdata":
            earlier.copy(group, entry, name)


def _write(root: Any, snapshot: Snapshot, settings: Mapping[str, Any]) -> None:
    acquisition = snapshot.acquisition
    root.attrs["NX_class"] = "NXroot"
    root.attrs["default"] = "scan"
    root.attrs["creator"] = f"stemd {__version__}"
    entry = _group(root, "scan", "NXentry")
    _put(entry, "title", acquisition.id)
    _put(entry, "entry_identifier", acquisition.id)
    _put(entry, "start_time", iso_utc(acquisition.started_ns))
    _put(entry, "program_name", "stemd", version=__version__)
    for result in snapshot.results:
        _image(entry, result, snapshot)
    images = [name for name in entry if entry[name].attrs.get("NX_class") == "NXdata"]
    entry.attrs["default"] = next((name for name in MAIN if name in images), images[0])
    _about(entry, settings)
    optics = _group(_group(entry, "instrument", "NXinstrument"), "optics", "NXcollection")
    for key, value in (settings.get("optics") or {}).items():
        if isinstance(value, int | float | str):
            _put(optics, key, value)
    detector = _group(entry["instrument"], "detector", "NXdetector")
    _put(detector, "description", acquisition.detector.name)
    _put(detector, "shape", np.array(acquisition.detector.shape))
    scan = _group(entry, "scan", "NXcollection")
    for key, value in acquisition.scan.model_dump(mode="json").items():
        if value is not None:
            _put(scan, key, value)
    _put(entry, "settings", to_json(settings, indent=1))


def _about(entry: Any, settings: Mapping[str, Any]) -> None:
    about = settings.get("about") or {}
    if about.get("sample"):
        _put(_group(entry, "sample", "NXsample"), "name", about["sample"])
    if about.get("operator"):
        _put(_group(entry, "user", "NXuser"), "name", about["operator"])
    note = "; ".join([about.get("comment") or "", *(about.get("tags") or ())]).strip("; ")
    if note:
        _put(entry, "experiment_description", note)


def _name_of(result: Result) -> str:
    return f"{result.name}_image" if result.name in TAKEN else result.name


def _image(entry: Any, result: Result, snapshot: Snapshot) -> None:
    data = _group(entry, _name_of(result), "NXdata")
    data.attrs["signal"], data.attrs["axes"] = "data", ["y", "x"]
    pixels = data.create_dataset("data", data=result.image, compression="gzip", shuffle=True)
    pixels.attrs["units"], pixels.attrs["long_name"] = result.units, result.name
    in_scan = result.axes == "scan"
    size = result.pixel_size
    unit = "pixel" if size is None else "nm" if in_scan else "mrad"
    step = 1.0 if size is None else size / 10.0 if in_scan else size
    for axis, count in zip("yx", result.shape, strict=True):
        _put(data, axis, np.arange(count) * step, units=unit)
    _put(data, "description", to_json(describe(result, snapshot)))


def _group(parent: Any, name: str, kind: str) -> Any:
    made = parent.require_group(name)
    made.attrs["NX_class"] = kind
    return made


def _put(parent: Any, name: str, value: Any, **attributes: str) -> None:
    if isinstance(value, str):
        value = value.replace("\0", "")  # ends a text in HDF5
    made = parent.create_dataset(name, data=value)
    for key, text in attributes.items():
        made.attrs[key] = text
