"""A network's precision put into its graph: float16 or bfloat16 where that is enough.

TensorRT computes each layer in the kind of numbers that the graph says ("strongly typed"), so
the graph has to say it. Convolutions and matrix products take numbers of 16 bits; what only
moves, adds or multiplies their results stays in them. All else is float32: norms, means and
other sums, exponentials, whatever is computed from inputs before the first such layer, inputs
and outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from stemd.inference.onnx_graph import (
    BFLOAT16,
    FLOAT,
    FLOAT16,
    INT64,
    Graph,
    Node,
    Values,
    cast,
    numbers,
    read_graph,
    renamed,
    tensor,
)

Precision = Literal["float32", "float16", "bfloat16"]
KINDS: dict[Precision, int] = {"float32": FLOAT, "float16": FLOAT16, "bfloat16": BFLOAT16}

_HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# operation: which of its inputs are numbers of the kind it computes in, all where it is None
_FOLLOWS: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Max", "Min", "Concat", "Relu", "PRelu", "Clip", "Neg", "Abs"), None
    ),
    **dict.fromkeys(
        ("Identity", "LeakyRelu", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze",
         "Slice", "Split", "DepthToSpace", "SpaceToDepth", "MaxPool", "Resize", "Expand", "Tile"),
        (0,),
    ),
    "Pad": (0, 2),
}  # fmt: skip
# stay float32, and give numbers of the kind that they are given
_EXACT = {
    "Div", "Exp", "Log", "Pow", "Sqrt", "Erf", "Sin", "Cos", "Reciprocal", "Sigmoid", "Tanh",
    "Softsign", "Softplus", "Softmax", "LogSoftmax", "Elu", "Selu", "Gelu", "Celu", "HardSigmoid",
    "HardSwish", "Mish", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
    "BatchNormalization", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceSum",
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "CumSum", "Sum", "Mean",
}  # fmt: skip


def converted(data: bytes, precision: Precision, *, rehearsed: bool = False) -> bytes:
    """An ONNX file of the same network, inputs and outputs, computed in this precision.

    Weights are stored in the precision in which they are used, so no layer has to make them
    first. `rehearsed` gives a graph in float32 that rounds where the converted one would, for
    libraries that do not compute in that precision. A graph with graphs inside it stays as it is.
    Raises ValueError or IndexError where the bytes are no ONNX file.
    """
    graph = read_graph(data)
    if any(node.nested for node in graph.nodes):
        return data
    return _Conversion(graph, KINDS[precision], rehearsed=rehearsed).done()


class _Conversion:
    """One pass over the nodes. `x` is always the float32 tensor, `x/half` the other one."""

    def __init__(self, graph: Graph, kind: int, *, rehearsed: bool) -> None:
        self._graph, self._kind, self._rehearsed = graph, kind, rehearsed
        self._nodes: list[Node] = []
        self._tensors: dict[str, bytes] = {}
        self._known: dict[str, int] = dict(graph.inputs)
        self._weights: dict[str, Values] = {}
        self._others: dict[str, bytes] = {}  # tensors that are no float32 numbers
        self._halves: set[str] = set()  # tensors of which there is `x/half`
        self._born: set[str] = set()  # of these, those that a layer gave that way
        self._made = set(graph.inputs) - set(graph.tensors)  # tensors of which there is `x`
        for name, stored in graph.tensors.items():
            self._keep(name, stored)

    def done(self) -> bytes:
        for node in self._graph.nodes:
            if not self._folded(node):
                self._take(node)
        for name in self._graph.outputs:
            self._float(name)
        return self._graph.changed(self._nodes, self._tensors)

    def _keep(self, name: str, stored: bytes) -> None:
        kind, values = numbers(stored)
        self._known[name] = kind
        self._others[name] = stored
        if values is not None:
            self._weights[name] = values
            if kind == FLOAT:
                del self._others[name]

    def _folded(self, node: Node) -> bool:
        """Weights and constants, also those stored as float16: not a node, but a tensor."""
        if node.operator == "Constant" and node.value is not None:
            self._keep(node.outputs[0], renamed(node.value, node.outputs[0]))
            return True
        source = node.inputs[0] if node.inputs else ""
        if node.operator == "Cast" and node.to == FLOAT and source in self._weights:
            self._weights[node.outputs[0]] = self._weights[source]
            self._known[node.outputs[0]] = FLOAT
            return True
        return False

    def _take(self, node: Node) -> None:
        known = [self._known.get(name, 0) for name in node.inputs]
        given = next(iter(known), 0)
        if node.operator in ("Shape", "Size"):
            given = INT64
        elif node.operator == "Cast":
            given = node.to
        elif node.operator not in _HEAVY | _EXACT | _FOLLOWS.keys():
            given = 0
        self._known |= dict.fromkeys(node.outputs, given)
        which = _FOLLOWS.get(node.operator)
        own_inputs = [
            i for i, name in enumerate(node.inputs) if name and (which is None or i in which)
        ]
        if self._kind != FLOAT and self._suits(node, own_inputs):
            self._as_half(node, own_inputs)
            return
        for name in node.inputs:
            self._float(name)
        self._nodes.append(node)
        self._made |= set(node.outputs)

    def _suits(self, node: Node, own: list[int]) -> bool:
        names = [node.inputs[i] for i in own]
        if any(self._known.get(name) != FLOAT for name in names):
            return False
        if node.operator in _HEAVY:
            return True
        moving = [name for name in names if name not in self._weights]
        follows = bool(moving) and all(name in self._born for name in moving)
        one = len(node.outputs) == 1 or node.operator == "Split"
        return node.operator in _FOLLOWS and follows and one

    def _as_half(self, node: Node, own: list[int]) -> None:
        for index, name in enumerate(node.inputs):
            if index not in own:
                self._float(name)
        inputs = tuple(
            self._half(name) if index in own else name for index, name in enumerate(node.inputs)
        )
        outputs = tuple(f"{name}/half" for name in node.outputs)
        if self._rehearsed:
            raw = tuple(f"{name}/exact" for name in node.outputs)
            self._nodes.append(replace(node, inputs=inputs, outputs=raw))
            for source, into in zip(raw, outputs, strict=True):
                self._round(source, into)
        else:
            self._nodes.append(replace(node, inputs=inputs, outputs=outputs))
        self._halves |= set(node.outputs)
        self._born |= set(node.outputs)

    def _half(self, name: str) -> str:
        half = f"{name}/half"
        if name in self._halves:
            return half
        self._halves.add(name)
        if name in self._weights:
            values, kind = self._weights[name], self._kind
            rounded = tensor(half, values, kind)
            if self._rehearsed:
                rounded = tensor(half, _rounded(values, kind), FLOAT)
            self._tensors[half] = rounded
        elif self._rehearsed:
            self._float(name)
            self._round(name, half)
        else:
            self._nodes.append(cast(name, half, self._kind))
        return half

    def _round(self, source: str, into: str) -> None:
        self._nodes.append(cast(source, f"{into}/rounded", self._kind))
        self._nodes.append(cast(f"{into}/rounded", into, FLOAT))

    def _float(self, name: str) -> None:
        """`name` itself, where something wants it: a tensor, or made from its half."""
        if not name or name in self._made:
            return
        self._made.add(name)
        if name in self._others:
            self._tensors[name] = self._others[name]
        elif name in self._weights:
            self._tensors[name] = tensor(name, self._weights[name], FLOAT)
        elif name in self._halves:
            operator = "Identity" if self._rehearsed else "Cast"
            back = cast(f"{name}/half", name, FLOAT)
            self._nodes.append(
                replace(back, operator=operator, others=b"") if self._rehearsed else back
            )


def _rounded(values: Values, kind: int) -> Values:
    found = numbers(tensor("", values, kind))[1]
    assert found is not None
    return found
