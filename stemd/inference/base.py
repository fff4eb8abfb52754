"""What a network is to the engines, and what a backend has to provide.

A backend is a plugin whose `build` makes a `Network` from a ModelFile and Options; it raises
ModelError when library, device or model cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.errors import ModelError, ModelMemoryError
from stemd.inference.model_file import ModelFile

Batch = NDArray[np.float32]
Shape = tuple[int | None, ...]
"""Sides of an array; None where any size is taken."""

TOLERANCE: Mapping[str, float] = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
"""Root-mean-square difference from ONNX Runtime in float32 that a precision may make.

In deviations of the output. It is what tells a rounding from a mistake, not what to expect.
"""

SMALLER = "restore smaller tiles, or free memory"
_NO_MEMORY = ("alloc", "out of memory", "outofmemory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Options:
    """How a network is to be run.

    `threads` of the CPU; `exact` asks for float32 even where less would be faster; `largest` is
    the shape of the largest batch to come, for backends that must know it (default: a batch of 1
    and 1024 where the model leaves a side open); `device` is the number of the GPU.
    """

    threads: int = 1
    exact: bool = False
    largest: tuple[int, ...] | None = None
    device: int = 0


@dataclass(frozen=True, slots=True)
class Info:
    """What runs: library and version, device, precision, shapes; `why` this one was taken.

    Open sides beyond the second must be multiples of `multiple`.
    """

    model: str
    backend: str
    version: str
    device: str
    precision: str
    input_shape: Shape
    output_shape: Shape
    multiple: int = 1
    why: str = ""

    def __str__(self) -> str:
        return f"{self.backend} {self.version}, {self.device}, {self.precision}"


class Network(Protocol):
    """A loaded network of one input and one output. `run` may be called by several threads."""

    @property
    def info(self) -> Info:
        """What runs."""
        ...

    def run(self, batch: Batch) -> Batch:
        """The output of a batch, both float32; the result belongs to the caller.

        Raises ModelError when the batch has a shape that the model does not take,
        ModelMemoryError when memory does not suffice.
        """
        ...


def takes(info: Info, expected: Shape, what: str, gives: Shape | None = None) -> None:
    """Raises ModelError unless the model's input has this shape, and its output `gives`.

    `gives` is the input's shape where it is not said.
    """
    for side, shape, wanted in (
        ("takes", info.input_shape, expected),
        ("gives", info.output_shape, gives or expected),
    ):
        if not _fits(shape, wanted):
            raise ModelError(
                f"model {info.model} {side} {described(shape)}, which is not {what}: "
                f"that has {described(wanted)}",
                "name another model: stemd models list shows what there is",
            )


def _fits(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        want is None or have is None or have == want
        for have, want in zip(shape, expected, strict=True)
    )


def checked(info: Info, batch: Batch) -> Batch:
    """The batch as float32 in one piece. Raises ModelError where the shape does not fit."""
    array = np.ascontiguousarray(batch, np.float32)
    if not _fits(array.shape, info.input_shape) or 0 in array.shape:
        raise ModelError(
            f"model {info.model} takes {described(info.input_shape)}, not {described(array.shape)}",
            "see stemd models list",
        )
    # not left to the libraries: some of them cut an odd line off without a word
    if any(
        want is None and side % info.multiple
        for want, side in zip(info.input_shape[2:], array.shape[2:], strict=True)
    ):
        raise ModelError(
            f"model {info.model} takes sides that are multiples of {info.multiple}, "
            f"not {described(array.shape)}",
            "pad the image",
        )
    return array


def multiple_of(model: ModelFile) -> int:
    """What the model's sides must be multiples of, by its metadata. Raises ModelError."""
    return model.number("stemd.multiple", 1)


def described(shape: Sequence[int | None]) -> str:
    """A shape for people: (any, 1, any, any)."""
    return "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"


def only(model: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> tuple[Shape, Shape]:
    """The one input and output. Raises ModelError when there are more, or none."""
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"model {model} has {len(inputs)} inputs and {len(outputs)} outputs, not one of each",
            "name another model: stemd models list shows what there is",
        )
    return inputs[0], outputs[0]


@contextmanager
def blamed(model: str, doing: str) -> Iterator[None]:
    """What a library raises inside as ModelError, or ModelMemoryError, of one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # each library has its own, most are RuntimeError
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MemoryError) or any(word in text.lower() for word in _NO_MEMORY):
            raise ModelMemoryError(
                f"model {model}: not enough memory to {doing}: {text[:300]}", SMALLER
            ) from error
        raise ModelError(
            f"model {model}: cannot {doing}: {text[:300]}",
            "check the file with stemd models check, or name another model",
        ) from error
