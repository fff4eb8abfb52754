"""Write a checkpoint's averaged network as ONNX, and check it against PyTorch.

    python -m training.restoration.export state/restoration.pt stemd/models/restoration.onnx

The graph is built from plain operators, so that every runtime fuses it well. Input `channels` is
(n, 7, height, width), `stemd.engines.restoration.estimate.channels.CHANNELS`, output `correction`,
which is to be added to the channel `shown`, (n, 1, height, width), both float32 with sides that are
multiples of `multiple`. Normalisation and estimate are outside the graph: the tiles of a big image
must share the one, and the other is no network. What a caller must know stands in the metadata.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import structlog
import torch
from onnx import TensorProto, helper
from torch import nn

from stemd.engines.restoration.tiling import ESTIMATE
from training.onnx_graph import Graph
from training.restoration.network import BOUND, INPUTS, Residual, RestorationNetwork
from training.restoration.train import load_averaged

log = structlog.get_logger()

OPSET = 17
HALO = 96
"""Pixels of context at which a tile equals the whole image to about a percent of its noise."""


class _Graph(Graph):
    """What this network is made of."""

    def split(self, x: str, sizes: tuple[int, ...]) -> list[str]:
        """Groups of channels."""
        name = f"split_{len(self.nodes)}"
        outputs = [f"{name}_{n}" for n in range(len(sizes))]
        sizes_name = self.constant(np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [x, sizes_name], outputs, name, axis=1))
        return outputs

    def conv(self, layer: nn.Conv2d, x: str, weight: torch.Tensor | None = None) -> str:
        assert layer.bias is not None
        py, px = (int(n) for n in layer.padding)
        sy, sx = (int(n) for n in layer.stride)
        own = self.weight(layer.weight if weight is None else weight)
        inputs = [x, own, self.weight(layer.bias)]
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
    images, noise, added, deviation = graph.split("channels", (4, 1, 1, 1))
    bound = graph.constant(np.array(BOUND, np.float32))
    eyes = [
        graph.add("Mul", [graph.add("Softsign", [graph.add("Div", [x, bound])]), bound])
        for x in (noise, added)
    ]
    x = graph.add("Concat", [images, *eyes, deviation], axis=1)
    x = graph.add("SpaceToDepth", [x], blocksize=2)
    x = graph.conv(network.enter, x, by_place(network.enter.weight))
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
    own, part, weights = graph.split(x, (1, 1, 4))
    weights = graph.add("Softmax", [weights], axis=1)
    to_own, _, to_waves, to_aligned = graph.split(weights, (1, 1, 1, 1))
    _, shown = graph.split(images, (3, 1))
    first = graph.add("Mul", [to_own, graph.add("Sub", [own, shown])])
    rest = graph.add("Mul", [to_aligned, noise])
    rest = graph.add("Sub", [rest, graph.add("Mul", [to_waves, added])])
    rest = graph.add("Mul", [graph.add("Exp", [deviation]), graph.add("Add", [rest, part])])
    graph.nodes.append(helper.make_node("Add", [first, rest], ["correction"], "correction"))
    sides: list[str | int | None] = ["height", "width"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "restoration",
            [helper.make_tensor_value_info("channels", TensorProto.FLOAT, ["n", INPUTS, *sides])],
            [helper.make_tensor_value_info("correction", TensorProto.FLOAT, ["n", 1, *sides])],
            [*graph.weights, *graph.constants],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="stemd",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def by_place(weight: torch.Tensor) -> torch.Tensor:
    """Weights (out, 4 c, ky, kx) of the first layer, for ONNX's order of SpaceToDepth.

    There the place within 2 x 2 pixels comes before the channel, in PyTorch after it.
    """
    out, inputs, ky, kx = weight.shape
    parted = weight.reshape(out, inputs // 4, 4, ky, kx)
    return parted.transpose(1, 2).reshape(out, inputs, ky, kx)


def largest_difference(model: onnx.ModelProto, network: RestorationNetwork) -> float:
    """Largest difference between ONNX Runtime and PyTorch on noise, both in float32."""
    import onnxruntime

    image = np.random.default_rng(0).standard_normal((2, INPUTS, 96, 160), np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(None, {"channels": image})
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
        "stemd.inputs": ESTIMATE,
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
