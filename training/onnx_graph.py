"""An ONNX graph while it is built, for the exports of all networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and weights of an ONNX graph; methods return a value's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """One more node."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def weight(self, values: torch.Tensor) -> str:
        """Stored as float16, half the size; runtimes fold the cast when they load the file."""
        name = f"weight_{len(self.weights)}"
        half = values.detach().numpy().astype(np.float16)
        self.weights.append(numpy_helper.from_array(half, name))
        return self.add("Cast", [name], to=TensorProto.FLOAT)

    def constant(self, values: np.ndarray[Any, Any]) -> str:
        """Numbers that are not weights, as they are."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name
