"""Tiny networks and small scans for the tests of AIRPI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.engines.airpi.features import GRID, WINDOW, inputs
from stemd.engines.airpi.model import model_metadata

BEAM = Beam(300e3, 20.0)
PIXEL_MRAD = 3.0
OPTICS = Optics(
    energy_ev=BEAM.energy_ev,
    convergence_semi_angle_mrad=BEAM.convergence_semi_angle_mrad,
    pixel_size_mrad=PIXEL_MRAD,
    center=(31.5, 31.5),
)
OUT = 2 * WINDOW * WINDOW


def linear(
    weight: NDArray[Any] | None = None, bias: NDArray[Any] | None = None, **more: str
) -> bytes:
    """A network D = features @ weight + bias, of shape (n, 2, WINDOW, WINDOW); default: 0."""
    weight = np.zeros((inputs(), OUT), np.float32) if weight is None else weight
    bias = np.zeros(OUT, np.float32) if bias is None else bias
    values = [
        numpy_helper.from_array(weight.astype(np.float32), "weight"),
        numpy_helper.from_array(bias.astype(np.float32).reshape(-1), "bias"),
        numpy_helper.from_array(np.array([-1, 2, WINDOW, WINDOW], np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["change"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", inputs()])],
        [helper.make_tensor_value_info("change", TensorProto.FLOAT, ["n", 2, WINDOW, WINDOW])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {**model_metadata(), **more})
    return bytes(model.SerializeToString())


def reader() -> bytes:
    """D is a random sum of the pixels of the disc in all nine patterns: whatever is wrong with a
    group shows.
    """
    weight = np.zeros((inputs(), 2, WINDOW, WINDOW), np.float32)
    disc = np.flatnonzero(np.hypot(*GRID.vectors.T) < 0.9)
    rng = np.random.default_rng(3)
    K = GRID.members.size
    for j in range(9):
        weight[j * K + disc] = rng.normal(0, 2e-3, (disc.size, 2, WINDOW, WINDOW))
    return linear(weight.reshape(inputs(), OUT))


def write(folder: Path, data: bytes, name: str = "tiny") -> str:
    """A model as a file; its path."""
    path = folder / f"{name}.onnx"
    path.write_bytes(data)
    return str(path)


def random_patterns(
    count: int, size: int = 64, seed: int = 1, dose: float = 3.0
) -> NDArray[np.uint16]:
    """Poisson counts in a disc with gentle structure, (count, size, size)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    disc = np.hypot(y, x) * PIXEL_MRAD < BEAM.convergence_semi_angle_mrad
    tilt = rng.normal(0, 0.02, (count, 2, 1, 1))
    mean = dose * disc * np.clip(1 + tilt[:, 0] * y + tilt[:, 1] * x, 0, 3) + 0.02
    return rng.poisson(mean).astype(np.uint16)
