"""The least precision that is enough for a network, found by trying it on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from stemd.inference.base import Batch, Info, Options
from stemd.inference.half import Precision, converted
from stemd.inference.model_file import ModelFile, model_of
from stemd.logs import get_logger

TRIED: tuple[tuple[Precision, float], ...] = (("float16", 4e-3), ("bfloat16", 3e-2))
"""In this order, and the root-mean-square difference from float32 that each may make, in
deviations of the output. bfloat16 has 8 of float16's 11 bits and the range of float32."""

LEAST_SIDE, SAMPLES = 64, 4

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """An ONNX file in a precision, and its difference from float32 (see `TRIED`)."""

    precision: Precision
    difference: float
    data: bytes = field(repr=False)


def chosen(model: ModelFile, options: Options) -> Chosen:
    """The network in the first precision that keeps to its tolerance on a reference batch.

    ONNX Runtime computes in float32 and rounds after every layer of 16 bits, as a device would at
    worst. Raises ModelError where ONNX Runtime does not take the model.
    """
    from stemd.inference.onnxruntime import OnnxRuntimeNetwork

    on_cpu = Options(threads=options.threads, exact=True)
    original = OnnxRuntimeNetwork(model, on_cpu)
    if not options.exact:
        batch = reference_batch(original.info)
        expected = original.run(batch)
        for precision, allowed in TRIED:
            rehearsal = model_of(converted(model.data, precision, rehearsed=True), model.name)
            found = difference(OnnxRuntimeNetwork(rehearsal, on_cpu).run(batch), expected)
            if found <= allowed:
                return Chosen(precision, found, converted(model.data, precision))
            log.info(
                "a precision is not enough for a network",
                model=model.name, precision=precision, difference=found, allowed=allowed,
            )  # fmt: skip
    return Chosen("float32", 0.0, converted(model.data, "float32"))


def reference_batch(info: Info) -> Batch:
    """What a network may be given: mean about 0, deviation about 1, the same every time.

    Images are a lattice with noise, since of noise alone a network that removes it leaves too
    little to compare; open sides have 64 pixels or a little more. Rows of numbers, (n, numbers),
    are 4 of noise.
    """
    side = math.ceil(LEAST_SIDE / info.multiple) * info.multiple
    many = SAMPLES if len(info.input_shape) == 2 else 1
    shape = tuple(
        length if length is not None else many if index == 0 else side
        for index, length in enumerate(info.input_shape)
    )
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    if len(shape) < 4:
        return noise
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    lattice = 2.0 * np.cos(0.7 * y + 0.2 * x) * np.cos(0.8 * x - 0.1 * y)
    return (0.9 * lattice + 0.45 * noise).astype(np.float32)


def difference(found: Batch, expected: Batch) -> float:
    """Root mean square, in deviations of what is expected; infinite where a number is not one."""
    if not np.isfinite(found).all():
        return math.inf
    deviation = float(expected.std()) or 1.0
    return float(np.sqrt(np.mean((found - expected) ** 2, dtype=np.float64))) / deviation
