"""The phase that a patch cannot know, and what is lost with it.

A diffraction pattern does not change when the whole exit wave is turned by a phase. A network can
only guess a patch's mean phase, from how such patterns mostly come about, and a wrong guess that
all patches of a crystal share makes its coarse structure too strong or too weak. So the mean is
taken out of every patch. An object of such patches is the true one through a filter that is
known: with the weights w of sum 1 by which patches are averaged, each phase loses its own
weighted mean, and the mean of all patches over a place is

    phi - w * (w x phi),    of transfer 1 - |W(k)|^2,

* being a convolution and x a correlation. Dividing by this transfer gives the coarse structure
back from what the patches say of slopes, as integrating a centre of mass does. At the coarsest it
is small, and noise would grow without bound: the divisor is never below a floor. What is still
missing then is taken from the centre of mass (`measured_slopes`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]


def centred(through: NDArray[Any], weight: NDArray[np.floating]) -> NDArray[Any]:
    """Transmissions (..., w, w) turned so that their weighted mean is real and positive.

    `weight` (w, w) or (..., w, w). A patch whose mean is 0 stays as it is.
    """
    mean = (through * weight).sum(axis=(-2, -1), keepdims=True)
    size = np.abs(mean)
    turn = np.where(size > 0, np.conj(mean) / np.where(size > 0, size, 1.0), 1.0)
    return np.asarray((through * turn).astype(through.dtype))


def without_mean(phase: F32, known: NDArray[np.bool_]) -> F32:
    """The phase less the mean of the known, which the unknown is taken for."""
    return np.where(known, phase - phase[known].mean(dtype=np.float64), 0.0).astype(np.float32)


def restored_spectrum(image: F32, taken: F64, averaged: F64, floor: float) -> C64:
    """Transform of an image (h, w), mirrored at its edges, divided by the transfer of stitching.

    complex64 (2 h, w + 1), for `image_of`. `taken` (p, p): the weights by which a patch's mean
    was found, `averaged` (p, p) those by which patches are averaged, both on the image's pixels
    about the probe; of any sum. `floor`: the least divisor, above 0.
    """
    spectrum = np.fft.rfft2(mirrored(image))
    shape = 2 * image.shape[0], 2 * image.shape[1]
    lost = _spectrum(taken, shape) * np.conj(_spectrum(averaged, shape))
    spectrum /= np.maximum(1.0 - lost.real, floor).astype(np.float32)
    return spectrum.astype(np.complex64, copy=False)


def mirrored(field: F32, odd_axis: int | None = None) -> F32:
    """A field (h, w) continued as in a mirror, (2 h, 2 w); along `odd_axis` with the other sign."""
    for axis in (0, 1):
        sign = np.float32(-1.0 if axis == odd_axis else 1.0)
        field = np.concatenate([field, sign * np.flip(field, axis)], axis)
    return field


def image_of(spectrum: C64, shape: tuple[int, int]) -> F32:
    """The image (h, w) whose mirrored continuation has this transform."""
    whole = np.fft.irfft2(spectrum, (2 * shape[0], 2 * shape[1]))
    return np.ascontiguousarray(whole[: shape[0], : shape[1]], np.float32)


def _spectrum(weight: F64, shape: tuple[int, int]) -> C64:
    """Transform of weights of sum 1 whose middle is at the origin, (ny, nx // 2 + 1).

    Weights that do not fit are folded, as a periodic image would have it. They are few: sums
    over them cost less than a transform of the image's size.
    """
    ny, nx = shape
    place = np.arange(weight.shape[0]) - weight.shape[0] // 2
    y = np.exp(-2j * math.pi / ny * np.outer(np.arange(ny), place)).astype(np.complex64)
    x = np.exp(-2j * math.pi / nx * np.outer(place, np.arange(nx // 2 + 1))).astype(np.complex64)
    return np.asarray((y @ (weight / weight.sum()).astype(np.complex64)) @ x, np.complex64)
