"""A network of somebody else is run once, small and within limits, before it is trusted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stemd.errors import ModelError, ModelMemoryError
from stemd.inference.base import Options, Shape
from stemd.inference.model_file import ModelFile
from stemd.inference.onnxruntime import OnnxRuntimeNetwork

SIDE = 128
"""Of the batch, where the model leaves a side open."""


def tried(model: ModelFile, begun: Callable[[Callable[[], None]], None]) -> None:
    """Run a batch of zeros on ONNX Runtime, which has a limit of memory and can be ended.

    `begun` is given what ends it. Raises ModelError where the memory does not suffice. Everything
    else that is wrong with the model is left to the backend that is to run it.
    """
    try:
        network = OnnxRuntimeNetwork(model, Options(exact=True))
        begun(network.cancel)
        info = network.info
        network.run(np.zeros(_smallest(info.input_shape, info.multiple), np.float32))
    except ModelMemoryError as error:
        raise ModelError(error.message, "name another model") from error
    except ModelError:
        return


def _smallest(shape: Shape, multiple: int) -> tuple[int, ...]:
    side = -(-SIDE // multiple) * multiple
    return tuple(known or (1 if place < 2 else side) for place, known in enumerate(shape))
