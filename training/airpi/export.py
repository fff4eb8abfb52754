"""Write a checkpoint's averaged network as ONNX, and check it against PyTorch.

    python -m training.airpi.export state/airpi.pt stemd/models/airpi.onnx

Input `features` (n, 9 K + SCALARS), output `change` (n, 2, WINDOW, WINDOW), both float32: see
`stemd.engines.airpi.features`, whose grid and window stand in the metadata.
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

from stemd.engines.airpi.features import WINDOW, inputs
from stemd.engines.airpi.model import model_metadata
from training.airpi.network import Block, ExitWaveNetwork, K
from training.airpi.train import load_averaged
from training.onnx_graph import Graph

log = structlog.get_logger()
OPSET = 17


class _Graph(Graph):
    """What this network is made of."""

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def linear(self, layer: nn.Linear, x: str) -> str:
        product = self.add("MatMul", [x, self.weight(layer.weight.T)])
        if layer.bias is None:
            return product
        return self.add("Add", [product, self.weight(layer.bias)])

    def normalised(self, layer: nn.LayerNorm, x: str) -> str:
        inputs = [x, self.weight(layer.weight), self.weight(layer.bias)]
        return self.add("LayerNormalization", inputs, axis=-1, epsilon=float(layer.eps))


def as_onnx(network: ExitWaveNetwork, metadata: dict[str, str]) -> onnx.ModelProto:
    """The network as an ONNX model, weights in float16, arithmetic in float32."""
    graph = _Graph()
    one = graph.numbers(1)
    ends = graph.numbers(0), graph.numbers(9 * K), graph.numbers(inputs())
    patterns = graph.add("Slice", ["features", ends[0], ends[1], one])
    plain = graph.add("Slice", ["features", ends[1], ends[2], one])
    told = graph.add("Relu", [graph.linear(network.hear, plain)])
    told = graph.add("Relu", [graph.linear(network.hear_more, told)])
    rows = graph.add("Reshape", [patterns, graph.numbers(-1, K)])
    seen = graph.linear(network.embed, rows)
    seen = graph.add("Reshape", [seen, graph.numbers(-1, 9 * network.layout.pattern)])
    entered = graph.linear(network.enter, seen)
    gain = graph.linear(network.gain, told)
    x = first = graph.add("Add", [entered, graph.add("Mul", [entered, gain])])
    for block in network.blocks:
        assert isinstance(block, Block)
        inner = graph.linear(block.first, graph.normalised(block.norm, x))
        inner = graph.add("Add", [inner, graph.linear(block.tell, told)])
        x = graph.add("Add", [x, graph.linear(block.second, graph.add("Relu", [inner]))])
    straight = graph.linear(network.straight, first)
    x = graph.add("Add", [straight, graph.linear(network.leave, graph.normalised(network.norm, x))])
    window = graph.numbers(-1, 2, WINDOW, WINDOW)
    graph.nodes.append(helper.make_node("Reshape", [x, window], ["change"], "change"))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "airpi",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", inputs()])],
            [helper.make_tensor_value_info("change", TensorProto.FLOAT, ["n", 2, WINDOW, WINDOW])],
            [*graph.weights, *graph.constants],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="stemd",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def largest_difference(model: onnx.ModelProto, network: ExitWaveNetwork) -> float:
    """Largest difference between ONNX Runtime and PyTorch on noise, both in float32."""
    import onnxruntime

    features = np.random.default_rng(0).standard_normal((32, inputs()), np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(None, {"features": features})
    with torch.inference_mode():
        expected = network(torch.from_numpy(features)).numpy()
    return float(np.abs(np.asarray(got) - expected).max())


def metadata_of(network: ExitWaveNetwork, steps: int) -> dict[str, str]:
    """What the engine must know of a model, and checks."""
    return {
        **model_metadata(),
        "stemd.layout": json.dumps(network.layout.as_dict()),
        "stemd.steps": str(steps),
    }


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
    model = as_onnx(network, metadata_of(network, step))
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
