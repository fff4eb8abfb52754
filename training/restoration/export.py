"""Write a checkpoint's averaged network as ONNX, and check it against PyTorch.

    python -m training.restoration.export state/restoration.pt stemd/models/restoration.onnx

The graph is built from plain operators (Conv, Relu, Add, SpaceToDepth, DepthToSpace), so that
every runtime fuses it well. Input `image` and output `restored` are (n, 1, height, width)
float32 with sides that are multiples of `multiple`; normalisation is outside the graph, since
the tiles of a big image must share it. What a caller must know stands in the metadata.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import structlog
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training.restoration.network import Residual, RestorationNetwork
from training.restoration.train import load_averaged

log = structlog.get_logger()

OPSET = 17
HALO = 96
"""Pixels of context at which a tile equals the whole image to about a percent of its noise."""


class _Graph:
    """Nodes and weights of an ONNX graph while it is built; methods return a value's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def weight(self, values: torch.Tensor) -> str:
        """Stored as float16, half the size; runtimes fold the cast when they load the file."""
        name = f"weight_{len(self.weights)}"
        half = values.detach().numpy().astype(np.float16)
        self.weights.append(numpy_helper.from_array(half, name))
        return self.add("Cast", [name], to=TensorProto.FLOAT)

    def conv(self, layer: nn.Conv2d, x: str) -> str:
        assert layer.bias is not None
        py, px = (int(n) for n in layer.padding)
        sy, sx = (int(n) for n in layer.stride)
        inputs = [x, self.weight(layer.weight), self.weight(layer.bias)]
        return self.add(
            "Conv", inputs, kernel_shape=list(layer.kernel_size), strides=[sy, sx],
            pads=[py, px, py, px],
        )  # fmt: skip

    def blocks(self, sequence: nn.Module, x: str) -> str:
        for block in sequence.children():
            assert isinstance(block, Residual)
            inner = self.conv(block.first, self.add("Relu", [x]))
            inner = self.conv(block.second, self.add("Relu", [inner]))
            x = self.add("Add", [x, inner])
        return x


def as_onnx(network: RestorationNetwork, metadata: dict[str, str]) -> onnx.ModelProto:
    """The network as an ONNX model, weights in float16, arithmetic in float32."""
    graph = _Graph()
    x = graph.add("SpaceToDepth", ["image"], blocksize=2)
    x = graph.conv(network.enter, x)
    passed: list[str] = []
    for level, blocks in enumerate(network.down):
        x = graph.blocks(blocks, x)
        if level < len(network.shrink):
            passed.append(x)
            x = graph.conv(network.shrink[level], x)  # type: ignore[arg-type]
    for level in reversed(range(len(network.up))):
        x = graph.conv(network.grow[level], x)  # type: ignore[arg-type]
        x = graph.add("DepthToSpace", [x], blocksize=2, mode="CRD")
        x = graph.blocks(network.up[level], graph.add("Add", [x, passed[level]]))
    x = graph.add("DepthToSpace", [graph.conv(network.leave, x)], blocksize=2, mode="CRD")
    graph.nodes.append(helper.make_node("Identity", [x], ["restored"], "restored"))
    shape: list[str | int | None] = ["n", 1, "height", "width"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "restoration",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape)],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="stemd",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def largest_difference(model: onnx.ModelProto, network: RestorationNetwork) -> float:
    """Largest difference between ONNX Runtime and PyTorch on noise, both in float32."""
    import onnxruntime

    image = np.random.default_rng(0).standard_normal((2, 1, 96, 160), np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(None, {"image": image})
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    return float(np.abs(np.asarray(got) - expected).max())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("model", type=Path, help="the .onnx file to write")
    options = parser.parse_args()
    network, step = load_averaged(options.checkpoint)
    for values in network.parameters():
        # compared as shipped: with the weights rounded to float16
        values.data = values.data.half().float()
    metadata = {
        "stemd.task": "restoration",
        "stemd.multiple": str(network.layout.multiple),
        "stemd.halo": str(HALO),
        "stemd.normalise": "stemd.engines.robust_scale.normalise",
        "stemd.layout": json.dumps(network.layout.as_dict()),
        "stemd.steps": str(step),
    }
    model = as_onnx(network, metadata)
    difference = largest_difference(model, network)
    if difference > 1e-4:
        raise SystemExit(f"ONNX Runtime and PyTorch differ by {difference:g}: nothing was written")
    options.model.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, options.model)
    size = options.model.stat().st_size / 1e6
    log.info("exported", model=str(options.model), steps=step, megabytes=round(size, 2),
             largest_difference=difference)  # fmt: skip


if __name__ == "__main__":
    main()
