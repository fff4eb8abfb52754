"""The published network as an ONNX graph: residual dense blocks at half the image's sampling.

I. Lobato, T. Friedrich, S. Van Aert, arXiv 2303.17025; T. Friedrich, PhD thesis, University of
Antwerp 2023, chapter 2. Layers are taken in the order of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemd.errors import FormatError

if TYPE_CHECKING:
    import onnx

GROUPS, BLOCKS, CONVOLUTIONS = 4, 4, 8
WIDTH, GROWTH = 64, 32
OPSET, IR_VERSION = 17, 8

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (height, width, in, out; of the transposed convolution out, in) and bias."""


class _Graph:
    """Nodes and weights while they are gathered; methods return the name of what they make."""

    def __init__(self, layers: Iterator[Layer]) -> None:
        from onnx import helper, numpy_helper

        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._node, self._tensor = helper.make_node, numpy_helper.from_array
        self._layers = layers

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self._node(operator, inputs, [name], name, **attributes))
        return name

    def _weight(self, values: NDArray[np.float32]) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(self._tensor(np.ascontiguousarray(values), name))
        return name

    def conv(
        self, x: str, size: int, into: int, out: int, *, stride: int = 1, grow: bool = False
    ) -> str:
        """The next layer, which must be a convolution of this kind; sides are padded with 0."""
        kernel, bias = next(self._layers)
        expected = (size, size, out, into) if grow else (size, size, into, out)
        if kernel.shape != expected or bias.shape != (out,):
            raise FormatError(
                f"the checkpoint has a layer of {kernel.shape} where {expected} was expected",
                "only the networks of tk_r_em 1.0 can be imported",
            )
        pad = (size - stride) // 2 if size > 1 and stride > 1 else size // 2
        return self.add(
            "ConvTranspose" if grow else "Conv",
            [x, self._weight(kernel.transpose(3, 2, 0, 1)), self._weight(bias)],
            kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4,
        )  # fmt: skip

    def dense_block(self, x: str) -> str:
        known = [x]
        for index in range(CONVOLUTIONS):
            joined = known[0] if index == 0 else self.add("Concat", list(known), axis=1)
            known.append(self.add("Relu", [self.conv(joined, 3, WIDTH + index * GROWTH, GROWTH)]))
        joined = self.add("Concat", known, axis=1)
        fused = self.conv(joined, 1, WIDTH + CONVOLUTIONS * GROWTH, WIDTH)
        return self.add("Add", [fused, x])

    def group(self, x: str) -> str:
        made, inner = [], x
        for _ in range(BLOCKS):
            inner = self.dense_block(inner)
            made.append(inner)
        fused = self.conv(self.add("Concat", made, axis=1), 1, BLOCKS * WIDTH, WIDTH)
        return self.add("Add", [fused, x])


def as_onnx(layers: Iterator[Layer], metadata: dict[str, str]) -> onnx.ModelProto:
    """The ONNX model of a checkpoint's layers; input and output (n, 1, height, width) float32.

    Sides are even. The image is normalised outside the graph, so that tiles share it. Raises
    FormatError when the layers are not those of the published network.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(layers)
    entered = graph.conv("image", 3, 1, WIDTH)
    x = body = graph.conv(entered, 4, WIDTH, WIDTH, stride=2)
    made = []
    for _ in range(GROUPS):
        x = graph.group(x)
        made.append(x)
    x = graph.conv(graph.add("Concat", made, axis=1), 1, GROUPS * WIDTH, WIDTH)
    x = graph.add("Add", [x, body])
    x = graph.conv(x, 4, WIDTH, WIDTH, stride=2, grow=True)
    x = graph.conv(x, 3, WIDTH, 1)
    if next(layers, None) is not None:
        raise FormatError(
            "the checkpoint has more layers than expected",
            "only the networks of tk_r_em 1.0 can be imported",
        )
    graph.nodes.append(helper.make_node("Add", [x, "image"], ["restored"], "restored"))
    shape: list[str | int | None] = ["n", 1, "height", "width"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "r_em",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape)],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="stemd",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
