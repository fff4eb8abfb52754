"""Small files of every format: by rosettasciio and h5py where these write it, else by hand."""

from __future__ import annotations

import importlib
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
STEP_NM, PIXEL_INVERSE_NM = 0.05, 0.2
"""The calibration that the files have where their format can hold one."""


def counts(shape: tuple[int, ...] = (4, 5, 16, 16), dtype: str = "u2", most: int = 200) -> Array:
    """Patterns that all differ."""
    return np.random.default_rng(7).integers(0, most, shape).astype(dtype)


def signal(data: Array) -> dict[str, Any]:
    """The patterns as HyperSpy's world has them: 300 keV, steps in nm, detector in 1/nm."""
    names = ["y", "x", "ky", "kx"][4 - data.ndim :]
    axes = [
        {
            "size": size,
            "index_in_array": index,
            "name": name,
            "scale": STEP_NM if index < data.ndim - 2 else PIXEL_INVERSE_NM,
            "offset": 0.0,
            "units": "nm" if index < data.ndim - 2 else "1/nm",
            "navigate": index < data.ndim - 2,
            "_type": "UniformDataAxis",
            "is_binned": False,
        }
        for index, (name, size) in enumerate(zip(names, data.shape, strict=True))
    ]
    return {
        "data": data,
        "axes": axes,
        "metadata": {
            "General": {"title": "patterns"},
            "Signal": {"signal_type": ""},
            "Acquisition_instrument": {"TEM": {"beam_energy": 300.0, "convergence_angle": 20.0}},
        },
        "original_metadata": {},
        "learning_results": {},
        "package_info": {"package": "stemd", "package_version": "0"},
        "models": {},
        "tmp_parameters": {},
        "attributes": {"_lazy": False, "ragged": False},
    }


def by_rosettasciio(module: str) -> Callable[[Path, Array], None]:
    """Writes with one of rosettasciio's modules."""

    def write(path: Path, data: Array) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            writer = importlib.import_module(f"rsciio.{module}")
            writer.file_writer(str(path), signal(data))

    return write


def empad(path: Path, data: Array) -> None:
    """An .xml, and the .raw of float32 with two more rows that it speaks of."""
    ny, nx = data.shape[:2]
    raw = path.with_name(f"scan_x{nx}_y{ny}.raw")
    stored = np.full((ny, nx, 130, 128), 7.5, "<f4")
    stored[:, :, :128] = data
    stored.tofile(raw)
    path.write_text(
        f'<?xml version="1.0"?><root><raw_file filename="{raw.name}"/>'
        f"<pix_x>{nx}</pix_x><pix_y>{ny}</pix_y><iom_measurements>"
        f"<calibrated_pixelsize>{PIXEL_INVERSE_NM * 1e-9}</calibrated_pixelsize>"
        "<optics><get_full_scan_field_of_view>"
        f"({ny * STEP_NM * 1e-9}, {nx * STEP_NM * 1e-9})"
        "</get_full_scan_field_of_view></optics></iom_measurements></root>"
    )


def blo(path: Path, data: Array) -> None:
    """ASTAR's block file: a header, a virtual image, then 6 bytes and a pattern a position."""
    ny, nx, size = data.shape[0], data.shape[1], data.shape[-1]
    header = struct.pack(
        "<6sHIIIHHHHHddIHId", b"IMGBLO", 0x102, 0x1000, 0x1000 + ny * nx, 131141, size, 0,
        nx, ny, 0, STEP_NM, STEP_NM, 300_000, 4000, 20_000, 2.0,
    )  # fmt: skip
    frames = b"".join(
        b"\xaa\x55" + struct.pack("<I", number) + pattern.astype("u1").tobytes()
        for number, pattern in enumerate(data.reshape(-1, size, size))
    )
    path.write_bytes(header.ljust(0x1000, b"\0") + bytes(ny * nx) + frames)


def zspy(path: Path, data: Array) -> None:
    """HyperSpy's hierarchy in a zarr store of version 2, as HyperSpy 2 writes it."""
    import zarr

    about = signal(data)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs.update(file_format="ZSpy", file_format_version="3.1")
    group = root.create_group("Experiments").create_group("patterns")
    for beside in ("original_metadata", "learning_results", "package_info"):
        group.create_group(beside)
    array = group.create_array("data", shape=data.shape, chunks=(2, 3, 16, 16), dtype=data.dtype)
    array[...] = data
    for number, axis in enumerate(about["axes"]):
        group.create_group(f"axis-{number}").attrs.update(axis)
    metadata = group.create_group("metadata").create_group("Acquisition_instrument")
    metadata.create_group("TEM").attrs.update(about["metadata"]["Acquisition_instrument"]["TEM"])


def mrc(path: Path, data: Array) -> None:
    """MRC2014, mode 6 is uint16: a stack of patterns."""
    stack = data.reshape(-1, *data.shape[-2:]).astype("<u2")
    header = bytearray(1024)
    n, height, width = stack.shape
    struct.pack_into("<4i", header, 0, width, height, n, 6)
    struct.pack_into("<3i", header, 28, width, height, n)
    struct.pack_into("<3f", header, 40, 2.0 * width, 2.0 * height, float(n))
    header[208:216] = b"MAP \x44\x44\x00\x00"
    path.write_bytes(bytes(header) + stack.tobytes())


def dectris(path: Path, data: Array, each: int = 7, **options: Any) -> None:
    """A master with a pixel mask, and data files of at most `each` patterns that it links to."""
    stack = data.reshape(-1, *data.shape[-2:])
    mask = np.zeros(stack.shape[1:], np.uint32)
    mask[3, 4] = 1
    stem = path.stem.removesuffix("_master")
    with h5py.File(path, "w") as master:
        group = master.create_group("entry/data")
        specific = master.create_group("entry/instrument/detector/detectorSpecific")
        specific["pixel_mask"] = mask
        specific["ntrigger"], specific["nimages"] = data.shape[0], data.shape[1]
        master["entry/instrument/detector/frame_time"] = 1e-5
        master["entry/instrument/detector/description"] = "Dectris ARINA"
        for number, first in enumerate(range(0, len(stack), each), 1):
            some = stack[first : first + each]
            name = f"{stem}_data_{number:06d}.h5"
            with h5py.File(path.with_name(name), "w") as file:
                file.create_dataset(
                    "entry/data/data", data=some, chunks=(1, *some.shape[1:]), **options
                )
            group[f"data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")


def py4dstem(path: Path, data: Array) -> None:
    """A datacube as emdfile lays it out: axes as dim0, dim1, ... beside the data."""
    with h5py.File(path, "w") as file:
        group = file.create_group("datacube_root/datacube")
        group.attrs["emd_group_type"] = "array"
        group["data"] = data
        steps = (STEP_NM * 10, STEP_NM * 10, PIXEL_INVERSE_NM / 10, PIXEL_INVERSE_NM / 10)
        names, units = ("Rx", "Ry", "Qx", "Qy"), ("A", "A", "A^-1", "A^-1")
        for number, (step, name, unit) in enumerate(zip(steps, names, units, strict=True)):
            axis = group.create_dataset(f"dim{number}", data=step * np.arange(2))
            axis.attrs["name"], axis.attrs["units"] = name, unit
        file["datacube_root/virtual_bf"] = data.sum((2, 3))


def dm(path: Path, data: Array) -> None:
    """Gatan's DM3 or DM4 with the tags that readers need: one 4D image of uint16, calibrated."""
    path.write_bytes(_Dm(int(path.suffix[-1])).file(data))


class _Dm:
    """Version 3 or 4: big-endian structure of tags, little-endian values (a format known by its
    public readers). Sizes have 4 bytes in version 3, 8 in version 4, where each tag has one."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.size = "I" if version == 3 else "Q"

    def file(self, data: Array) -> bytes:
        scales = (PIXEL_INVERSE_NM, PIXEL_INVERSE_NM, STEP_NM, STEP_NM)
        units = ("1/nm", "1/nm", "nm", "nm")
        axes = [
            self.group("", [
                self.number("Origin", 6, 0.0), self.number("Scale", 6, scale),
                self.text("Units", unit),
            ])
            for scale, unit in zip(scales, units, strict=True)
        ]  # fmt: skip
        brightness = self.group("Brightness", [
            self.number("Origin", 6, 0.0), self.number("Scale", 6, 1.0), self.text("Units", ""),
        ])  # fmt: skip
        image = self.group("", [
            self.group("ImageData", [
                self.group("Calibrations", [brightness, self.group("Dimension", axes)]),
                self.array("Data", 4, data.astype("<u2").tobytes(), 2),
                self.number("DataType", 5, 10),
                self.group("Dimensions", [self.number("", 5, n) for n in data.shape[::-1]]),
                self.number("PixelDepth", 5, 2),
            ]),
            self.group("ImageTags", []),
            self.text("Name", "patterns"),
        ])  # fmt: skip
        body = self.tags([
            self.group("ImageList", [image]),
            self.group("ImageSourceList", []),
        ])  # fmt: skip
        return struct.pack(f">I{self.size}I", self.version, len(body), 1) + body + bytes(8)

    def tags(self, entries: list[bytes]) -> bytes:
        return struct.pack(f">bb{self.size}", 1, 0, len(entries)) + b"".join(entries)

    def group(self, name: str, entries: list[bytes]) -> bytes:
        return self.named(20, name, self.tags(entries))

    def named(self, kind: int, name: str, body: bytes) -> bytes:
        size = struct.pack(">Q", len(body)) if self.version == 4 else b""
        return struct.pack(">BH", kind, len(name)) + name.encode() + size + body

    def tag(self, name: str, info: list[int], value: bytes) -> bytes:
        told = struct.pack(f">{len(info) + 1}{self.size}", len(info), *info)
        return self.named(21, name, b"%%%%" + told + value)

    def number(self, name: str, kind: int, value: float) -> bytes:
        packed = struct.pack("<f", value) if kind == 6 else struct.pack("<I", int(value))
        return self.tag(name, [kind], packed)

    def array(self, name: str, kind: int, value: bytes, each: int) -> bytes:
        return self.tag(name, [20, kind, len(value) // each], value)

    def text(self, name: str, value: str) -> bytes:
        return self.array(name, 4, value.encode("utf-16-le"), 2)


WRITERS: dict[str, Callable[[Path, Array], None]] = {
    "scan.blo": blo,
    "scan_000.tvips": by_rosettasciio("tvips"),
    "scan.prz": by_rosettasciio("pantarhei"),
    "scan.hspy": by_rosettasciio("hspy"),
    "scan.zspy": zspy,
    "scan.nxs": by_rosettasciio("nexus"),
    "scan.emd": by_rosettasciio("emd"),
    "scan.mrc": mrc,
    "scan.dm3": dm,
    "scan.dm4": dm,
    "scan.xml": empad,
    "scan_master.h5": dectris,
    "py4dstem.h5": py4dstem,
}
