"""The package `tk_r_em` as the user has it (folder, .tar.gz or wheel), network by network.

Its weights are licensed under the GPL, version 3; stemd does not ship them.
"""

from __future__ import annotations

import io
import math
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemd.errors import FormatError, ModelError
from stemd.inference.r_em.checkpoint import read_float, read_index
from stemd.inference.r_em.graph import Layer, as_onnx

if TYPE_CHECKING:
    import onnx

NETWORKS: Mapping[str, str] = {
    "hrstem": "STEM, atomic resolution",
    "lrstem": "STEM, low magnification",
    "hrtem": "TEM, atomic resolution",
    "lrtem": "TEM, low magnification",
    "hrsem": "SEM, high magnification",
    "lrsem": "SEM, low magnification",
}
LAYERS = 153
REFERENCE_SHAPE = (32, 48)
LARGEST_DIFFERENCE = 1e-4
"""From the stored outputs of the original, in standard deviations of the image."""
_MAX_MEMBER_BYTES = 256 * 1024 * 1024
_INDEX, _DATA = "variables.index", "variables.data-00000-of-00001"

Image = NDArray[np.float32]
Fetch = Callable[[str], bytes]
"""A file of the package by the end of its path. Raises KeyError."""


def open_package(path: Path) -> Fetch:
    """The package's files. Raises FormatError when `path` is no folder, .tar.gz or wheel."""
    try:
        if path.is_dir():
            return _folder(path)
        if tarfile.is_tarfile(path):
            return _tar(path)
        if zipfile.is_zipfile(path):
            return _zip(path)
    except OSError as error:
        raise FormatError(
            f"{path} cannot be read: {error.strerror or error}",
            "pip download --no-deps tk_r_em, and name the file it has fetched",
        ) from error
    raise FormatError(
        f"{path} is no folder, .tar.gz or wheel of tk_r_em",
        "pip download --no-deps tk_r_em, and name the file it has fetched",
    )


def _folder(path: Path) -> Fetch:
    def fetch(ending: str) -> bytes:
        name = ending.rsplit("/", 1)[-1]
        for found in sorted(path.rglob(name)):
            if found.as_posix().endswith(ending) and found.is_file():
                return found.read_bytes()
        raise KeyError(ending)

    return fetch


def _tar(path: Path) -> Fetch:
    def fetch(ending: str) -> bytes:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(ending):
                    _bounded(member.name, member.size)
                    file = archive.extractfile(member)
                    assert file is not None
                    return file.read()
        raise KeyError(ending)

    return fetch


def _zip(path: Path) -> Fetch:
    def fetch(ending: str) -> bytes:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(ending):
                    _bounded(member.filename, member.file_size)
                    return archive.read(member)
        raise KeyError(ending)

    return fetch


def _bounded(name: str, size: int) -> None:
    if size > _MAX_MEMBER_BYTES:
        raise FormatError(f"{name} has {size:,} bytes, more than any network of tk_r_em")


def convert(fetch: Fetch, network: str) -> onnx.ModelProto:
    """A network of the package as ONNX.

    Raises FormatError where the package does not have it, or something else under its name;
    KeyError for a network that is not one of `NETWORKS`.
    """
    about = NETWORKS[network]
    try:
        places = read_index(fetch(f"models/sfr_{network}/variables/{_INDEX}"))
        data = fetch(f"models/sfr_{network}/variables/{_DATA}")
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise FormatError(
            f"the package has no readable network sfr_{network}", "download tk_r_em 1.0 again"
        ) from error

    def layers() -> Iterator[Layer]:
        for index in range(LAYERS):
            key = f"layer_with_weights-{index}/{{}}/.ATTRIBUTES/VARIABLE_VALUE"
            try:
                kernel, bias = places[key.format("kernel")], places[key.format("bias")]
            except KeyError as error:
                raise FormatError(f"sfr_{network} has no layer {index}") from error
            yield read_float(data, kernel), read_float(data, bias)

    return as_onnx(
        layers(),
        {
            "stemd.task": "restoration",
            "stemd.multiple": "2",
            "stemd.halo": "96",
            "stemd.normalise": "mean and deviation",
            "stemd.about": f"{about}; published network, weights of tk_r_em",
            "stemd.license": "GPL-3.0",
            "stemd.citation": "Lobato, Friedrich, Van Aert, arXiv 2303.17025",
        },
    )


def reference_input() -> Image:
    """The image on which the original's outputs are stored: a lattice with noise, by formula."""
    ny, nx = REFERENCE_SHAPE
    y, x = np.mgrid[:ny, :nx].astype(np.float64)
    first, second = 0.11 * y + 0.07 * x, 0.12 * x - 0.06 * y
    lattice = np.cos(2 * math.pi * first) * np.cos(2 * math.pi * second)
    # multiplicative hashing (Knuth): the same numbers everywhere
    hashed = (np.arange(ny * nx, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    noise = hashed.reshape(ny, nx) / 2.0**32 - 0.5
    image: Image = (100.0 + 40.0 * lattice + 30.0 * noise).astype(np.float32)
    return image


def reference_output(network: str) -> Image:
    """What the original gives for `reference_input`, computed once with TensorFlow 2.21."""
    stored = resources.files("stemd.inference.r_em").joinpath("reference.npz").read_bytes()
    with np.load(io.BytesIO(stored)) as arrays:
        image: Image = arrays[network]
    return image


def largest_difference(network: str, run: Callable[[Image], Image]) -> float:
    """Largest difference from the original, in deviations of the input.

    `run` takes and gives a normalised batch (1, 1, ny, nx).
    """
    image = reference_input()
    mean, deviation = float(image.mean()), max(float(image.std()), 0.1)
    output = run(((image - mean) / deviation)[None, None])[0, 0] * deviation + mean
    return float(np.abs(output - reference_output(network)).max()) / deviation


def verify(network: str, run: Callable[[Image], Image]) -> float:
    """As `largest_difference`. Raises ModelError where it is more than `LARGEST_DIFFERENCE`."""
    found = largest_difference(network, run)
    if not found <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"r-em-{network}: differs from the original by {found:.1e} deviations, more than "
            f"{LARGEST_DIFFERENCE:g}; nothing was written",
            "only the networks of tk_r_em 1.0 can be imported",
        )
    return found
