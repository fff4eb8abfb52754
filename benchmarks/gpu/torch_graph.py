"""An ONNX graph of a shipped network in PyTorch, layer by layer in the graph's own precision."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from stemd.inference import protobuf
from stemd.inference.onnx_graph import BFLOAT16, FLOAT, FLOAT16, INT64, Node, numbers, read_graph

_ATTRIBUTE, _NAME, _I, _TEXT, _INTS = 5, 1, 3, 4, 8  # of NodeProto and AttributeProto
_FRACTION = bytes([2 << 3 | 5])


class TorchNetwork:
    """Weights on a device. Raises ValueError where there is an operation that it does not know."""

    def __init__(self, data: bytes, device: str) -> None:
        import torch

        self._torch, self.device = torch, device
        self._kinds = {FLOAT: torch.float32, FLOAT16: torch.float16, BFLOAT16: torch.bfloat16}
        self.graph = read_graph(data)
        self._held = {name: self._tensor(stored) for name, stored in self.graph.tensors.items()}
        operations = self._operations()
        unknown = {node.operator for node in self.graph.nodes} - operations.keys()
        if unknown:
            raise ValueError(f"not among the operations of stemd's networks: {sorted(unknown)}")
        self._steps = [
            (operations[node.operator], node, attributes(node)) for node in self.graph.nodes
        ]

    def _tensor(self, stored: bytes) -> Any:
        kind, values = numbers(stored)
        if values is not None:
            return self._torch.tensor(values).to(self.device, self._kinds[kind])
        if kind != INT64:
            raise ValueError(f"a tensor of kind {kind}")
        raw = next(
            bytes(v) for n, v in protobuf.fields(stored) if n == 9 and not isinstance(v, int)
        )
        return np.frombuffer(raw, "<i8").tolist()

    def on_device(self, batch: Any) -> Any:
        """A batch that is on the device already; the result stays there."""
        values = dict(self._held)
        values[next(iter(self.graph.inputs))] = batch
        for operation, node, given in self._steps:
            made = operation([values[name] for name in node.inputs if name], given, node)
            made = made if isinstance(made, (list, tuple)) else [made]
            values.update(zip(node.outputs, made, strict=True))
        return values[next(iter(self.graph.outputs))]

    def run(self, batch: Any) -> Any:
        """A batch as an array, copied there and back."""
        with self._torch.inference_mode():
            return self.on_device(self._torch.tensor(batch).to(self.device)).cpu().numpy()

    def _operations(self) -> dict[str, Callable[[list[Any], dict[str, Any], Node], Any]]:
        torch = self._torch
        f = torch.nn.functional

        def conv(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            pads, strides = a.get("pads", [0] * 4), a.get("strides", [1, 1])
            return f.conv2d(*x, stride=strides, padding=pads[:2])

        def grown(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            return f.conv_transpose2d(*x, stride=a["strides"], padding=a["pads"][:2])

        def cut(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            data, starts, ends, axes = x[:4]
            for start, end, axis in zip(starts, ends, axes, strict=True):
                size = data.shape[axis]
                stop = min(end, size)
                data = data.narrow(axis, start, stop - start)
            return data

        def reshaped(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            return x[0].reshape([x[0].shape[i] if n == 0 else n for i, n in enumerate(x[1])])

        def normed(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            return f.layer_norm(x[0], x[1].shape, x[1], x[2], a.get("epsilon", 1e-5))

        def together(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            # ONNX has depth ordered by place in the block, PyTorch by channel
            size = a["blocksize"]
            n, c, h, w = x[0].shape
            blocks = x[0].reshape(n, c, h // size, size, w // size, size)
            return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // size, w // size)

        def apart(x: list[Any], a: dict[str, Any], _: Node) -> Any:
            size = a["blocksize"]
            if a.get("mode") == "CRD":
                return f.pixel_shuffle(x[0], size)
            n, c, h, w = x[0].shape
            blocks = x[0].reshape(n, size, size, c // size**2, h, w)
            return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * size, w * size)

        return {
            "Conv": conv,
            "ConvTranspose": grown,
            "MatMul": lambda x, a, _: torch.matmul(*x),
            "Add": lambda x, a, _: x[0] + x[1],
            "Sub": lambda x, a, _: x[0] - x[1],
            "Mul": lambda x, a, _: x[0] * x[1],
            "Div": lambda x, a, _: x[0] / x[1],
            "Exp": lambda x, a, _: torch.exp(x[0]),
            "Relu": lambda x, a, _: torch.relu(x[0]),
            "Softsign": lambda x, a, _: f.softsign(x[0]),
            "Softmax": lambda x, a, _: torch.softmax(x[0], a.get("axis", -1)),
            "Concat": lambda x, a, _: torch.cat(x, a["axis"]),
            "Split": lambda x, a, n: torch.split(x[0], x[1], a.get("axis", 0)),
            "Slice": cut,
            "Reshape": reshaped,
            "LayerNormalization": normed,
            "SpaceToDepth": together,
            "DepthToSpace": apart,
            "Cast": lambda x, a, n: x[0].to(self._kinds[n.to]),
        }


def attributes(node: Node) -> dict[str, Any]:
    """Whole numbers, lists of them, fractions and words of a node."""
    found: dict[str, Any] = {}
    for number, part in protobuf.fields(node.others):
        if number != _ATTRIBUTE or isinstance(part, int):
            continue
        name, listed = "", []
        for key, value in protobuf.fields(part):
            if key == _NAME and not isinstance(value, int):
                name = bytes(value).decode()
            elif key == _I and isinstance(value, int):
                found[name] = _signed(value)
            elif key == _TEXT and not isinstance(value, int):
                found[name] = bytes(value).decode()
            elif key == _INTS:
                listed += [value] if isinstance(value, int) else _packed(value)
        if listed:
            found[name] = [_signed(value) for value in listed]
        elif name not in found and _FRACTION in bytes(part):
            # `fields` leaves numbers of fixed size out: it follows the name
            at = bytes(part).index(_FRACTION, len(name) + 2)
            (found[name],) = struct.unpack("<f", bytes(part)[at + 1 : at + 5])
    return found


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _packed(view: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(view):
        value, at = protobuf.varint(view, at)
        values.append(value)
    return values
