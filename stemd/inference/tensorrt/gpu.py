"""The GPUs of this process, by PyCUDA: one context for each, whatever the number of networks."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from stemd.errors import DeviceLostError, ModelError, ModelMemoryError

MORE_MEMORY = (
    "free memory of the GPU (nvidia-smi shows who has it), set a smaller batch or tile, or use "
    "another backend"
)
_NO_MEMORY = ("out of memory", "outofmemory", "cudaerrormemoryallocation")

_lock = threading.Lock()
_opened: dict[int, Gpu] = {}


class Holder(Protocol):
    """What has memory of a GPU."""

    def release(self) -> None:
        """Give everything up."""
        ...


class Gpu:
    """One GPU. Its work is done inside `current`; whoever has memory of it is one of `holders`."""

    def __init__(self, index: int) -> None:
        import pycuda.driver as cuda

        cuda.init()
        count = cuda.Device.count()
        if index >= count:
            raise ModelError(
                f"there is no GPU number {index}: this machine shows {count}, from 0 on",
                "set `device` to one that nvidia-smi lists; CUDA_VISIBLE_DEVICES may hide some",
            )
        device = cuda.Device(index)
        self.cuda: Any = cuda
        self.index = index
        self.name = str(device.name())
        self.capability: tuple[int, int] = device.compute_capability()
        self.holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self.lost = False
        # the primary context is the one that TensorRT works in
        self._cuda_context = device.retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """The GPU is the calling thread's own inside."""
        self._cuda_context.push()
        try:
            yield
        finally:
            self._cuda_context.pop()

    @contextmanager
    def blamed(self, model: str, doing: str) -> Iterator[None]:
        """`current`; what CUDA raises inside as one error that says what failed.

        ModelMemoryError, DeviceLostError where the GPU does nothing any more, else ModelError.
        """
        try:
            with self.current():
                yield
        except self.cuda.MemoryError as error:
            raise no_memory(self, model, doing, str(error)) from error
        except self.cuda.Error as error:
            if self.works():
                raise ModelError(
                    f"model {model}: {self.name} cannot {doing}: {_line(error)}",
                    "use another backend, and report this line with that of stemd plugins",
                ) from error
            raise self.failed(model, doing, str(error)) from error

    def failed(self, model: str, doing: str, why: str) -> DeviceLostError:
        """The error to raise when the GPU has failed; nothing of it can be used from now on."""
        self._lose()
        return DeviceLostError(
            f"model {model}: {self.name} failed, it cannot {doing}: {_line(why)}",
            "see nvidia-smi and dmesg (Xid); if it does not come back, start stemd again",
        )

    def works(self) -> bool:
        """Whether the GPU finishes what it was given."""
        try:
            with self.current():
                self.cuda.Context.synchronize()
        except self.cuda.Error:
            return False
        return True

    def free_bytes(self) -> int:
        """Memory that nobody has. Inside `current`."""
        return int(self.cuda.mem_get_info()[0])

    def cuda_version(self) -> str:
        """What the driver can do, such as 13.0."""
        number = int(self.cuda.get_driver_version())
        return f"{number // 1000}.{number % 1000 // 10}"

    def _lose(self) -> None:
        with _lock:
            if self.lost:
                return
            self.lost = True
            if _opened.get(self.index) is self:
                del _opened[self.index]
        # what is left of the context makes every call fail until it ends, so its errors say nothing
        with contextlib.suppress(self.cuda.Error):
            self._cuda_context.push()
        for holder in list(self.holders):
            holder.release()
        with contextlib.suppress(self.cuda.Error):
            self._cuda_context.detach()


def opened(index: int) -> Gpu:
    """The GPU of this number. Raises ModelError where there is none, or it cannot be used."""
    with _lock:
        if index not in _opened:
            try:
                _opened[index] = Gpu(index)
            except ModelError:
                raise
            except Exception as error:  # a missing library or driver shows in several ways
                raise ModelError(
                    f"GPU {index} cannot be used: {_line(error)}",
                    "check the driver with nvidia-smi",
                ) from error
        return _opened[index]


def no_memory(gpu: Gpu, model: str, doing: str, why: str) -> ModelMemoryError:
    """The error to raise where memory of the GPU does not suffice."""
    return ModelMemoryError(
        f"model {model}: not enough memory on {gpu.name} to {doing}: {_line(why)}",
        MORE_MEMORY,
    )


def tells_of_memory(text: str) -> bool:
    """Whether a message of TensorRT says that memory does not suffice."""
    return any(word in text.lower() for word in _NO_MEMORY)


def _line(why: Exception | str) -> str:
    return " ".join(str(why).split())[:300]
