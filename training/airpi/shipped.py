"""A network from the file that is shipped of it, to train it on; `export` writes such files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from training.airpi.network import Block, ExitWaveNetwork, Layout


def _in_order(network: ExitWaveNetwork) -> list[tuple[nn.Parameter, bool]]:
    """The network's weights as `as_onnx` writes them, and whether they are transposed there."""
    layers: list[nn.Module] = [network.hear, network.hear_more, network.embed, network.enter]
    layers.append(network.gain)
    for block in network.blocks:
        assert isinstance(block, Block)
        layers += [block.norm, block.first, block.tell, block.second]
    layers += [network.straight, network.norm, network.leave]
    return [(values, values.ndim == 2) for layer in layers for values in layer.parameters()]


def from_onnx(path: Path) -> tuple[ExitWaveNetwork, int]:
    """The network of a file that `main` wrote, and its steps. Raises ValueError for others."""
    model = onnx.load(path)
    told = {each.key: each.value for each in model.metadata_props}
    network = ExitWaveNetwork(Layout(**json.loads(told["stemd.layout"])))
    weights = [
        numpy_helper.to_array(each)
        for each in model.graph.initializer
        if each.data_type == TensorProto.FLOAT16
    ]
    for (values, turned), stored in zip(_in_order(network), weights, strict=True):
        stored = stored.T if turned else stored
        if tuple(values.shape) != stored.shape:
            raise ValueError(f"{path}: weights of another network")
        values.data = torch.from_numpy(np.ascontiguousarray(stored, np.float32))
    return network.eval(), int(told["stemd.steps"])
