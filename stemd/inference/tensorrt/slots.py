"""Where a batch is on its way through a GPU: buffers on both sides and a stream of its own."""

from __future__ import annotations

import contextlib
import math
import queue
from typing import Any

import numpy as np

from stemd.errors import ModelError
from stemd.inference.base import Batch
from stemd.inference.tensorrt.engine import Loaded
from stemd.inference.tensorrt.gpu import Gpu, no_memory

SLOTS = 2
"""While the GPU works on one batch the next is copied to it, and the last one back."""


class ExecutionError(Exception):
    """TensorRT did not begin a batch."""


class Slot:
    """Pinned memory of the host, memory of the GPU, stream and execution context.

    Everything is taken once, for the largest batch; `begin` and `end` allocate nothing on the
    GPU. All of it inside `gpu.current`.
    """

    def __init__(self, gpu: Gpu, loaded: Loaded, model: str, largest: tuple[int, ...]) -> None:
        self._cuda, self._model = gpu.cuda, model
        self._input, self._output = loaded.input, loaded.output
        self._host: list[Any] = []
        self._device: list[Any] = []
        try:
            self._prepare(gpu, loaded, largest)
        except Exception:
            self.close()  # here, where the GPU is current, not with the error's traceback
            raise

    def _prepare(self, gpu: Gpu, loaded: Loaded, largest: tuple[int, ...]) -> None:
        self._context = loaded.engine.create_execution_context()
        if self._context is None:
            raise no_memory(gpu, self._model, "work with the engine", "TensorRT gives no context")
        self._stream = gpu.cuda.Stream()
        self._context.set_optimization_profile_async(0, self._stream.handle)
        self._stream.synchronize()
        self._shape: tuple[int, ...] = ()
        self._gives: tuple[int, ...] = ()
        self._set_shape(largest)
        for name, shape in ((self._input, largest), (self._output, self._gives)):
            self._host.append(gpu.cuda.pagelocked_empty(math.prod(shape), np.float32))
            self._device.append(gpu.cuda.mem_alloc(self._host[-1].nbytes))
            self._context.set_tensor_address(name, int(self._device[-1]))

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        if shape == self._shape:
            return
        if not self._context.set_input_shape(self._input, shape):
            raise ModelError(f"model {self._model} does not take a batch of {shape}", "resize it")
        self._shape = shape
        self._gives = tuple(int(n) for n in self._context.get_tensor_shape(self._output))

    def close(self) -> None:
        """Give up everything; the slot cannot be used any more."""
        self._host.clear()
        self._device.clear()
        self._stream = self._context = None

    def begin(self, batch: Batch) -> None:
        """Send a batch on its way. Raises ModelError where the model does not take its shape."""
        self._set_shape(batch.shape)
        into = self._host[0][: batch.size]
        into[:] = batch.reshape(-1)
        self._cuda.memcpy_htod_async(self._device[0], into, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise ExecutionError
        back = self._host[1][: math.prod(self._gives)]
        self._cuda.memcpy_dtoh_async(back, self._device[1], self._stream)

    def end(self) -> Batch:
        """Wait for the batch; its result, which is overwritten by the next one."""
        self._stream.synchronize()
        result: Batch = self._host[1][: math.prod(self._gives)].reshape(self._gives)
        return result

    def settle(self) -> None:
        """Wait until nothing is on its way, whatever became of it."""
        with contextlib.suppress(self._cuda.Error):
            self._stream.synchronize()


class Slots:
    """The slots of a network. Implements gpu.Holder."""

    def __init__(self, gpu: Gpu, loaded: Loaded, model: str, largest: tuple[int, ...]) -> None:
        self._free: queue.LifoQueue[Slot | None] = queue.LifoQueue()
        self._loaded: Loaded | None = loaded  # the engine has to outlive its contexts
        made: list[Slot] = []
        try:
            made.extend(Slot(gpu, loaded, model, largest) for _ in range(SLOTS))
        except Exception:
            for slot in made:
                slot.close()
            raise
        for slot in made:
            self._free.put(slot)
        gpu.holders.add(self)

    def take(self, *, wait: bool) -> Slot | None:
        """A slot; None where all are in use, or, after waiting, where they are released."""
        try:
            slot = self._free.get(block=wait)
        except queue.Empty:
            return None
        if slot is None:
            self._free.put(None)  # for the next who waits
        return slot

    def give(self, slot: Slot) -> None:
        """Back, for the next batch."""
        self._free.put(slot)

    def release(self) -> None:
        """See gpu.Holder; whoever waits for a slot gets None."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._free.get_nowait()
        self._loaded = None
        self._free.put(None)
