"""Weights out of an exported model: a training goes on where only its result was kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from training.restoration.network import Layout, RestorationNetwork


def convolutions(network: RestorationNetwork) -> Iterator[nn.Conv2d]:
    """All convolutions in the order in which they are exported."""
    yield network.enter
    for level, blocks in enumerate(network.down):
        yield from (module for module in blocks.modules() if isinstance(module, nn.Conv2d))
        if level < len(network.shrink):
            yield network.shrink[level]  # type: ignore[misc]
    for level in reversed(range(len(network.up))):
        yield network.grow[level]  # type: ignore[misc]
        yield from (m for m in network.up[level].modules() if isinstance(m, nn.Conv2d))
    yield network.leave


def load_shipped(path: Path) -> tuple[RestorationNetwork, int]:
    """Network and step of an exported .onnx. Raises ValueError where it is another network."""
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "stemd.layout" not in metadata:
        raise ValueError(f"{path} was not exported by training.restoration.export")
    layout = {key: tuple(value) for key, value in json.loads(metadata["stemd.layout"]).items()}
    network = RestorationNetwork(Layout(**layout))
    stored = [numpy_helper.to_array(weight) for weight in model.graph.initializer]
    # constants beside the weights have no convolution
    stored = [values for values in stored if values.dtype == np.float16]
    layers = list(convolutions(network))
    if len(stored) != 2 * len(layers):
        raise ValueError(f"{path} has {len(stored)} weights, its layout {2 * len(layers)}")
    with torch.no_grad():
        for layer, weight, bias in zip(layers, stored[::2], stored[1::2], strict=True):
            assert layer.bias is not None
            fits = tuple(layer.weight.shape) == weight.shape
            if not fits and layer not in (network.enter, network.leave):
                raise ValueError(f"{path}: {weight.shape} where {layer.weight.shape} is expected")
            # a model of fewer inputs or outputs had the first ones: new inputs are not yet used
            outputs, inputs = weight.shape[:2]
            if layer is network.enter:
                parted = weight.reshape(outputs, 4, inputs // 4, *weight.shape[2:])
                weight = parted.swapaxes(1, 2).reshape(weight.shape)
            layer.weight[:outputs] = 0.0
            layer.weight[:outputs, :inputs] = torch.from_numpy(weight.astype("float32"))
            layer.bias[:outputs] = torch.from_numpy(bias.astype("float32"))
    return network.eval(), int(metadata["stemd.steps"])
