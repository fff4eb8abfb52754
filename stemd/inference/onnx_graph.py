"""The graph of an ONNX file: its nodes and numbers, read, changed and written again.

Only what a change of precision needs; every other field is kept as bytes (onnx.proto of ONNX 1.x).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stemd.inference import protobuf
from stemd.inference.protobuf import fields, varint

FLOAT, INT64, FLOAT16, BFLOAT16 = 1, 7, 10, 16
"""Kinds of numbers (TensorProto.DataType)."""

# fields of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto
_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_NAME, _I, _T, _G, _GRAPHS, _TYPE = 1, 3, 5, 6, 11, 20
_INT = 2  # AttributeProto.AttributeType
_DIMS, _KIND, _FLOATS, _INT32S, _TENSOR_NAME, _RAW, _LOCATION = 1, 2, 4, 5, 8, 9, 14
_VALUE_TYPE, _TENSOR_TYPE, _ELEMENT = 2, 1, 1

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Node:
    """An operation. `others` are its further fields as bytes; `to` is the kind a Cast gives.

    `value` is the tensor of a Constant, `nested` says that graphs are inside.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    others: bytes = b""
    to: int = 0
    value: bytes | None = None
    nested: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order in which they run; `tensors` (initializers) by name, as bytes.

    `inputs` and `outputs` are kinds of numbers by name. `around` are the fields of the model
    besides the graph, `others` those of the graph besides these.
    """

    nodes: list[Node]
    tensors: dict[str, bytes]
    inputs: dict[str, int]
    outputs: dict[str, int]
    others: bytes = field(repr=False, default=b"")
    around: bytes = field(repr=False, default=b"")

    def changed(self, nodes: list[Node], tensors: dict[str, bytes]) -> bytes:
        """The ONNX file with other nodes and initializers."""
        parts = [protobuf.field(_NODE, _written(node)) for node in nodes]
        parts += [protobuf.field(_INITIALIZER, data) for data in tensors.values()]
        return self.around + protobuf.field(_GRAPH, b"".join([*parts, self.others]))


def read_graph(data: bytes) -> Graph:
    """The graph of an ONNX file. Raises ValueError or IndexError where the bytes are none."""
    graph = Graph([], {}, {}, {})
    around, others = [], []
    for number, value in fields(data):
        if number != _GRAPH or isinstance(value, int):
            around.append(protobuf.field(number, value))
            continue
        for inner, part in fields(value):
            # known shapes and kinds of what is in between would be wrong afterwards
            if inner == _VALUE_INFO:
                continue
            if isinstance(part, int) or inner not in (_NODE, _INITIALIZER):
                others.append(protobuf.field(inner, part))
            if isinstance(part, int):
                continue
            if inner == _NODE:
                graph.nodes.append(_node(part))
            elif inner == _INITIALIZER:
                graph.tensors[_text(part, _TENSOR_NAME)] = bytes(part)
            elif inner in (_INPUT, _OUTPUT):
                into = graph.inputs if inner == _INPUT else graph.outputs
                into[_text(part, _NAME)] = _element(part)
    return replace(graph, others=b"".join(others), around=b"".join(around))


def numbers(tensor: bytes) -> tuple[int, Values | None]:
    """Kind of a tensor, and its values where they are float32 or shorter and in the file.

    Raises ValueError where the bytes are no tensor.
    """
    dims: list[int] = []
    kind, raw, location = 0, None, 0
    for number, value in fields(tensor):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == _KIND and isinstance(value, int):
            kind = value
        elif number == _LOCATION and isinstance(value, int):
            location = value
        elif isinstance(value, memoryview) and number in (_RAW, _FLOATS):
            raw = bytes(value)
        elif isinstance(value, memoryview) and number == _INT32S:
            raw = np.array(_packed(value), np.uint16).tobytes()  # 16 bits in each
    stored = {FLOAT: "<f4", FLOAT16: "<f2", BFLOAT16: "<u2"}.get(kind)
    if stored is None or location or (raw is None and 0 not in dims):
        return kind, None
    held = np.frombuffer(raw or b"", stored).reshape(dims)
    if kind == BFLOAT16:
        return kind, (held.astype("<u4") << 16).view("<f4")
    return kind, held.astype(np.float32)


def tensor(name: str, values: Values, kind: int) -> bytes:
    """A tensor of this kind as bytes; bfloat16 rounded to the nearest, ties to even."""
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite
        if kind == BFLOAT16:
            raw = bfloat16(values).tobytes()
        else:
            raw = values.astype("<f2" if kind == FLOAT16 else "<f4").tobytes()
    dims = b"".join(protobuf.field(_DIMS, side) for side in values.shape)
    text = protobuf.field(_TENSOR_NAME, name.encode())
    return dims + protobuf.field(_KIND, kind) + text + protobuf.field(_RAW, raw)


def renamed(stored: bytes, name: str) -> bytes:
    """A tensor under another name."""
    kept = [protobuf.field(key, value) for key, value in fields(stored) if key != _TENSOR_NAME]
    return b"".join([*kept, protobuf.field(_TENSOR_NAME, name.encode())])


def bfloat16(values: Values) -> NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4").astype(np.uint64)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return rounded


def cast(source: str, into: str, kind: int) -> Node:
    """A node that turns `source` into numbers of another kind."""
    attribute = protobuf.field(_NAME, b"to") + protobuf.field(_I, kind)
    others = protobuf.field(3, f"cast {into}".encode()) + protobuf.field(
        _ATTRIBUTE, attribute + protobuf.field(_TYPE, _INT)
    )
    return Node("Cast", (source,), (into,), others, kind)


def _node(message: memoryview) -> Node:
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _OPERATOR: [], _DOMAIN: []}
    others = []
    to, value, nested = 0, None, False
    for number, part in fields(message):
        if number in texts and isinstance(part, memoryview):
            texts[number].append(bytes(part).decode())
        if number not in (_NODE_INPUT, _NODE_OUTPUT, _OPERATOR):
            others.append(protobuf.field(number, part))
        if number == _ATTRIBUTE and isinstance(part, memoryview):
            held = dict(fields(part))
            named, whole, inner = _text(part, _NAME), held.get(_I), held.get(_T)
            nested |= _G in held or _GRAPHS in held
            if named == "to" and isinstance(whole, int):
                to = whole
            if named == "value" and isinstance(inner, memoryview):
                value = bytes(inner)
    operator = "".join(texts[_OPERATOR])
    domain = "".join(texts[_DOMAIN])
    if domain not in ("", "ai.onnx"):
        operator = f"{domain}.{operator}"  # an operation of the same name, and yet another one
    inputs, outputs = tuple(texts[_NODE_INPUT]), tuple(texts[_NODE_OUTPUT])
    return Node(operator, inputs, outputs, b"".join(others), to, value, nested)


def _written(node: Node) -> bytes:
    parts = [protobuf.field(_NODE_INPUT, name.encode()) for name in node.inputs]
    parts += [protobuf.field(_NODE_OUTPUT, name.encode()) for name in node.outputs]
    operator = node.operator.rsplit(".", 1)[-1]
    return b"".join([*parts, protobuf.field(_OPERATOR, operator.encode()), node.others])


def _packed(view: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(view):
        value, at = varint(view, at)
        found.append(value)
    return found


def _text(message: memoryview, number: int) -> str:
    found = (part for key, part in fields(message) if key == number)
    return next((bytes(part).decode() for part in found if isinstance(part, memoryview)), "")


def _element(message: memoryview) -> int:
    """The kind of numbers of an input or output; 0 where it is no tensor."""
    part: int | memoryview = message
    for number in (_VALUE_TYPE, _TENSOR_TYPE, _ELEMENT):
        if isinstance(part, int):
            return 0
        part = next((value for key, value in fields(part) if key == number), 0)
    return part if isinstance(part, int) else 0
