"""Tiny ONNX models, built here, for the tests of whatever runs networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemd.inference.model_file import ModelFile, model_of

OPEN: tuple[str | int, ...] = ("n", 1, "height", "width")


def build(
    nodes: Sequence[Any],
    weights: Sequence[Any] = (),
    *,
    shape: Sequence[str | int] = OPEN,
    inputs: Sequence[str] = ("image",),
    kind: int = TensorProto.FLOAT,
    **metadata: str,
) -> bytes:
    """A model from `image` to `restored`; metadata keys without the prefix `stemd.`."""
    values = [helper.make_tensor_value_info(name, kind, list(shape)) for name in inputs]
    result = helper.make_tensor_value_info("restored", kind, list(shape))
    model = helper.make_model(
        helper.make_graph(list(nodes), "tiny", values, [result], list(weights)),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {f"stemd.{key}": text for key, text in metadata.items()})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def conv(name: str, x: str, out: str, kernel: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """A convolution with padding; kernel (out, in, height, width)."""
    weight = numpy_helper.from_array(kernel.astype(np.float32), name)
    pad = kernel.shape[-1] // 2
    return helper.make_node("Conv", [x, name], [out], pads=[pad] * 4), weight


def smoother(**options: Any) -> bytes:
    """Two layers with random weights and a relu between them: not linear, not trivial."""
    rng = np.random.default_rng(7)
    first, w1 = conv("w1", "image", "a", rng.normal(0, 0.3, (8, 1, 3, 3)))
    relu = helper.make_node("Relu", ["a"], ["b"])
    second, w2 = conv("w2", "b", "restored", rng.normal(0, 0.3, (1, 8, 3, 3)))
    return build([first, relu, second], [w1, w2], **options)


def smoothed(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What `smoother` gives, in float64 and without any library of networks."""
    rng = np.random.default_rng(7)
    first, second = rng.normal(0, 0.3, (8, 1, 3, 3)), rng.normal(0, 0.3, (1, 8, 3, 3))

    def layer(x: np.ndarray[Any, Any], kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        kernel = kernel.astype(np.float32).astype(np.float64)
        ny, nx = x.shape[-2:]
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((x.shape[0], kernel.shape[0], ny, nx))
        for dy in range(3):
            for dx in range(3):
                part = padded[:, :, dy : dy + ny, dx : dx + nx]
                out += np.einsum("oi,niyx->noyx", kernel[:, :, dy, dx], part)
        return out

    return layer(np.maximum(layer(batch.astype(np.float64), first), 0.0), second)


def box_blur(size: int = 3, **options: Any) -> bytes:
    """The mean of size x size pixels, zeros outside: linear, with a context of size // 2."""
    kernel = np.full((1, 1, size, size), 1.0 / size**2)
    node, weight = conv("w", "image", "restored", kernel)
    return build([node], [weight], **options)


def halved() -> bytes:
    """Works on blocks of 2 x 2 pixels: odd sides are an error that shows when it runs."""
    nodes = [
        helper.make_node("SpaceToDepth", ["image"], ["a"], blocksize=2),
        helper.make_node("DepthToSpace", ["a"], ["restored"], blocksize=2),
    ]
    return build(nodes, multiple="2")


def hungry() -> bytes:
    """Compares every pixel with every other: n pixels take 4 n^2 bytes, 4 TiB for 1024 x 1024."""
    column = numpy_helper.from_array(np.array([-1, 1], np.int64), "column")
    row = numpy_helper.from_array(np.array([1, -1], np.int64), "row")
    nodes = [
        helper.make_node("Reshape", ["image", "column"], ["pixels"]),
        helper.make_node("Reshape", ["image", "row"], ["others"]),
        helper.make_node("Sub", ["pixels", "others"], ["pairs"]),
        helper.make_node("Exp", ["pairs"], ["weights"]),
        helper.make_node("ReduceMean", ["weights"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("Add", ["image", "mean"], ["restored"]),
    ]
    return build(nodes, [column, row])


def two_inputs() -> bytes:
    """Takes two images."""
    node = helper.make_node("Add", ["image", "other"], ["restored"])
    return build([node], inputs=("image", "other"))


def of_integers() -> bytes:
    """Takes whole numbers."""
    return build([helper.make_node("Abs", ["image"], ["restored"])], kind=TensorProto.INT32)


def model(data: bytes, name: str = "tiny") -> ModelFile:
    """A model file of bytes."""
    return model_of(data, name)


def write(folder: Path, data: bytes, name: str = "tiny") -> Path:
    """A model as a file."""
    path = folder / f"{name}.onnx"
    path.write_bytes(data)
    return path


def half_of_the_noise(**options: Any) -> bytes:
    """A model that is given an estimate: adds half of the noise, 0.5 noise exp(deviation)."""
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    sizes = numpy_helper.from_array(np.array([4, 1, 1, 1], np.int64), "sizes")
    nodes = [
        helper.make_node("Split", ["image", "sizes"], ["i", "noise", "a", "deviation"], axis=1),
        helper.make_node("Exp", ["deviation"], ["spread"]),
        helper.make_node("Mul", ["noise", "spread"], ["whole"]),
        helper.make_node("Mul", ["whole", "half"], ["restored"]),
    ]
    values = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 7, "h", "w"])]
    result = helper.make_tensor_value_info("restored", TensorProto.FLOAT, ["n", 1, "h", "w"])
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", values, [result], [half, sizes]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    known = {"inputs": "stemd.engines.estimate.channels", **options}
    helper.set_model_props(model, {f"stemd.{key}": text for key, text in known.items()})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
