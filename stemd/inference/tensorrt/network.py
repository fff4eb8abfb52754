"""A network on a GPU: batches in, results out, copies and work side by side."""

from __future__ import annotations

import contextlib
import weakref
from collections import deque

import numpy as np

from stemd.errors import DeviceLostError, ModelError
from stemd.inference.base import Batch, Info, Options, blamed, checked, multiple_of
from stemd.inference.model_file import ModelFile
from stemd.inference.tensorrt import messages
from stemd.inference.tensorrt.engine import load_engine, profile_of
from stemd.inference.tensorrt.gpu import Gpu, no_memory, opened, tells_of_memory
from stemd.inference.tensorrt.slots import ExecutionError, Slot, Slots


class TensorRtNetwork:
    """Implements inference.base.Network; raises DeviceLostError once the GPU has failed.

    Where the model leaves the number of images open they must not see each other: a large batch
    is cut, and its parts overlap on the GPU. Threads that call at the same time overlap too.
    """

    def __init__(self, model: ModelFile, options: Options) -> None:
        import tensorrt as trt

        self._gpu = opened(options.device)
        self._logger = messages.logger(trt, model.name)
        step = multiple_of(model)
        with blamed(model.name, "load it with TensorRT"), self._gpu.blamed(model.name, "load it"):
            loaded = load_engine(self._gpu, model, options, self._logger)
            self._largest = profile_of(step, loaded.shapes[0], options).largest
            self._slots = Slots(self._gpu, loaded, model.name, self._largest)
        self.info = Info(
            model.name,
            "tensorrt",
            f"{trt.__version__} (CUDA {self._gpu.cuda_version()})",
            self._gpu.name if not options.device else f"{self._gpu.name} number {options.device}",
            loaded.precision,
            *loaded.shapes,
            step,
        )
        weakref.finalize(self, _free, self._gpu, self._slots)

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network; a side beyond the largest one is an error too."""
        array = checked(self.info, batch)
        cut = self.info.input_shape[0] is None
        if any(
            have > most for have, most in zip(array.shape[cut:], self._largest[cut:], strict=True)
        ):
            raise ModelError(
                f"model {self.info.model}: the engine was built for sides up to "
                f"{self._largest[cut:]}, not {array.shape[cut:]}",
                "ask for smaller tiles",
            )
        doing = f"run a batch of {array.shape}"
        if self._gpu.lost:
            raise self._gpu.failed(self.info.model, doing, "it was lost before")
        with blamed(self.info.model, doing), self._gpu.blamed(self.info.model, doing):
            try:
                return self._run(array, self._largest[0])
            except ExecutionError:
                works, why = self._gpu.works(), str(self._logger.errors())
        if not works:
            raise self._gpu.failed(self.info.model, doing, why)
        if tells_of_memory(why):
            raise no_memory(self._gpu, self.info.model, doing, why)
        raise ModelError(f"model {self.info.model}: TensorRT cannot {doing}: {why}",
                         "use another backend, and report this line")  # fmt: skip

    def _run(self, array: Batch, many: int) -> Batch:
        """Parts go to the free slots; the oldest is waited for only where there is no other."""
        output: Batch | None = None
        running: deque[tuple[Slot, int]] = deque()
        ended = 0

        def end() -> None:
            nonlocal output, ended
            slot, count = running[0]
            part = slot.end()
            if output is None:
                output = np.empty((len(array) - count + len(part), *part.shape[1:]), np.float32)
            output[ended : ended + len(part)] = part
            ended += len(part)
            self._slots.give(running.popleft()[0])

        try:
            for first in range(0, len(array), many):
                part = array[first : first + many]
                slot = self._slots.take(wait=not running)
                while slot is None and running:
                    end()
                    slot = self._slots.take(wait=not running)
                if slot is None:
                    raise DeviceLostError(
                        f"model {self.info.model}: {self._gpu.name} was lost by another batch"
                    )
                running.append((slot, len(part)))
                slot.begin(part)
            while running:
                end()
        finally:
            for slot, _ in running:
                slot.settle()
                self._slots.give(slot)
        assert output is not None
        return output


def _free(gpu: Gpu, slots: Slots) -> None:
    """PyCUDA frees memory only where the GPU is the thread's own."""
    if gpu.lost:
        return
    with contextlib.suppress(gpu.cuda.Error), gpu.current():
        slots.release()
