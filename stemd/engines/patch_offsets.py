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
is small, and noise would grow without bound: the divisor is never below a floor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def centred(through: NDArray[Any], weight: NDArray[np.floating]) -> NDArray[Any]:
    """Transmissions (..., w, w) turned so that their weighted mean is real and positive.

    `weight` (w, w) or (..., w, w). A patch whose mean is 0 stays as it is.
    """
    mean = (through * weight).sum(axis=(-2, -1), keepdims=True)
    size = np.abs(mean)
    turn = np.where(size > 0, np.conj(mean) / np.where(size > 0, size, 1.0), 1.0)
    return np.asarray((through * turn).astype(through.dtype))


def with_coarse_structure(
    phase: F32, known: NDArray[np.bool_], taken: F64, averaged: F64, floor: float
) -> F32:
    """A stitched phase of centred patches with its coarse structure back, 0 where not known.

    phase float32 (height, width) in radian; `known`: where there is any. `taken` (p, p): the
    weights by which a patch's mean was found, `averaged` (p, p) those by which patches are
    averaged, both on the image's pixels about the probe; of any sum. `floor`: the least divisor,
    above 0. The image is continued as in a mirror, the unknown as the mean of the known.
    """
    if not known.any():
        return np.zeros_like(phase)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = known[box]
    image = phase[box].astype(np.float64)
    image = np.where(inside, image - image[inside].mean(), 0.0)
    mirrored = np.concatenate([image, image[::-1]], axis=0)
    mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
    lost = _spectrum(taken, mirrored.shape) * np.conj(_spectrum(averaged, mirrored.shape))
    divisor = np.maximum(1.0 - lost.real, floor)
    back = np.fft.irfft2(np.fft.rfft2(mirrored) / divisor, mirrored.shape)
    result = np.zeros_like(phase)
    result[box] = np.where(inside, back[: image.shape[0], : image.shape[1]], 0.0)
    return result


def _spectrum(weight: F64, shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """Transform of weights of sum 1 whose middle is at the origin, (ny, nx // 2 + 1).

    Weights that do not fit are folded, as a periodic image would have it.
    """
    image = np.zeros(shape)
    p = weight.shape[0]
    y, x = np.indices(weight.shape) - p // 2
    np.add.at(image, (y % shape[0], x % shape[1]), weight / weight.sum())
    return np.asarray(np.fft.rfft2(image))
