"""A stand-in for `pycuda.driver`: GPUs whose memory is the host's, strict about order and threads.

It has only names of the real library (`names/pycuda-*.txt`, tested). Copies happen when their
stream gets to them, not when they are asked for, so what is not waited for is not there yet.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np


@dataclass
class World:
    """The machine: what it has, what has happened on it (`events`), what was done wrong.

    A GPU in `lost` fails until its context has ended everywhere and it is taken out again.
    """

    gpus: list[str] = field(default_factory=lambda: ["NVIDIA Stand-in"])
    bytes_each: int = 1 << 30
    driver: int = 13000
    version: str = "11.4.0.106"
    events: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    broken_contexts: set[int] = field(default_factory=set)
    retained: dict[int, int] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    streams: weakref.WeakValueDictionary[int, Any] = field(
        default_factory=weakref.WeakValueDictionary
    )
    memory: weakref.WeakValueDictionary[int, Any] = field(
        default_factory=weakref.WeakValueDictionary
    )
    # for the stand-in of TensorRT
    builds: int = 0
    unsupported: set[str] = field(default_factory=set)
    build_error: str = ""
    no_context: bool = False
    refuse: str = ""
    _stacks: threading.local = field(default_factory=threading.local)

    def stack(self) -> list[Any]:
        """Contexts of the calling thread."""
        if not hasattr(self._stacks, "own"):
            self._stacks.own = []
        found: list[Any] = self._stacks.own
        return found

    def lose(self, index: int = 0) -> None:
        """The GPU fails, and the context that lives on it."""
        self.lost.add(index)
        self.broken_contexts.add(index)

    def repair(self, index: int = 0) -> None:
        """The GPU could be used again, by a new context."""
        self.lost.discard(index)


class Pinned(np.ndarray):  # type: ignore[type-arg]
    """Memory of the host that a GPU can reach."""


def module(world: World) -> ModuleType:
    """A module `pycuda.driver` for this machine."""
    cuda = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class LogicError(Error):
        pass

    class LaunchError(Error):
        pass

    class CudaMemoryError(Error):
        pass

    CudaMemoryError.__name__ = "MemoryError"

    def current(doing: str) -> Any:
        if not world.stack():
            raise LogicError(f"{doing} failed: invalid device context")
        context = world.stack()[-1]
        if not context.valid or context.index in world.broken_contexts:
            raise LaunchError(f"{doing} failed: unspecified launch failure")
        return context

    class Context:
        def __init__(self, index: int) -> None:
            self.index, self.valid = index, True
            world.retained[index] = world.retained.get(index, 0) + 1

        def push(self) -> None:
            world.stack().append(self)

        @staticmethod
        def pop() -> None:
            if not world.stack():
                raise LogicError("context::pop failed: invalid device context")
            world.stack().pop()

        def detach(self) -> None:
            if not self.valid:
                raise LogicError("context::detach failed: invalid device context")
            if not world.stack() or world.stack()[-1] is not self:
                world.complaints.append("a context ended where it was not current")
                return
            world.stack().pop()
            self.valid = False
            world.retained[self.index] -= 1
            if not world.retained[self.index] and self.index not in world.lost:
                world.broken_contexts.discard(self.index)

        @staticmethod
        def synchronize() -> None:
            current("cuCtxSynchronize")

    class Device:
        def __init__(self, index: int) -> None:
            if index >= len(world.gpus):
                raise LogicError("cuDeviceGet failed: invalid device ordinal")
            self._index = index

        @staticmethod
        def count() -> int:
            return len(world.gpus)

        def name(self) -> str:
            return world.gpus[self._index]

        def compute_capability(self) -> tuple[int, int]:
            return 9, 0

        def retain_primary_context(self) -> Context:
            if self._index in world.lost:
                raise LogicError("cuDevicePrimaryCtxRetain failed: no CUDA-capable device")
            if not world.retained.get(self._index, 0):
                world.broken_contexts.discard(self._index)
            return Context(self._index)

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            self._index = current("cuStreamCreate").index
            self._waiting: list[Callable[[], None]] = []
            self._number = 0
            self._number = len([e for e in world.events if e.startswith("stream")])
            world.events.append(f"stream {self._number}")
            world.streams[id(self)] = self

        @property
        def handle(self) -> int:
            return id(self)

        def synchronize(self) -> None:
            context = current("cuStreamSynchronize")
            if context.index != self._index:
                raise LogicError("cuStreamSynchronize failed: invalid resource handle")
            world.events.append(f"wait {self._number}")
            waiting, self._waiting = self._waiting, []
            for work in waiting:
                work()

    def add(stream: Any, what: str, work: Callable[[], None]) -> None:
        """What a stream has to do, in its turn."""
        world.events.append(f"{what} {stream._number}")
        stream._waiting.append(work)

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self._held = np.full(size, 0xFF, np.uint8)
            self._context = current("cuMemAlloc")
            self._index, self._size = self._context.index, size
            world.used[self._index] = world.used.get(self._index, 0) + size
            world.memory[int(self)] = self

        def __int__(self) -> int:
            return int(self._held.ctypes.data)

        def free(self) -> None:
            world.used[self._index] -= self._size
            self._size = 0

        def __del__(self) -> None:
            if not hasattr(self, "_size"):
                return
            if self._context.valid and self._context not in world.stack():
                world.complaints.append("memory was freed where its GPU was not current")
            self.free()

    def init(flags: int = 0) -> None:
        world.events.append("init")

    def get_driver_version() -> int:
        return world.driver

    def mem_alloc(size: int) -> DeviceAllocation:
        index = current("cuMemAlloc").index
        if world.used.get(index, 0) + size > world.bytes_each:
            raise CudaMemoryError("cuMemAlloc failed: out of memory")
        world.events.append("alloc")
        return DeviceAllocation(size)

    def mem_get_info() -> tuple[int, int]:
        index = current("cuMemGetInfo").index
        return world.bytes_each - world.used.get(index, 0), world.bytes_each

    def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        current("cuMemHostAlloc")
        world.events.append("pinned")
        return np.full(shape, 7, dtype).view(Pinned)

    def checked(host: Any, device: Any, stream: Any, doing: str) -> None:
        current(doing)
        if not isinstance(host, Pinned) or not host.flags.c_contiguous:
            world.complaints.append(f"{doing} from or to memory that is not pinned")
        if host.nbytes > device._held.nbytes:
            raise LogicError(f"{doing} failed: invalid argument")

    def memcpy_htod_async(dest: Any, src: Any, stream: Any = None) -> None:
        checked(src, dest, stream, "cuMemcpyHtoDAsync")

        def copy() -> None:
            dest._held[: src.nbytes] = src.view(np.uint8)

        add(stream, "in", copy)

    def memcpy_dtoh_async(dest: Any, src: Any, stream: Any = None) -> None:
        checked(dest, src, stream, "cuMemcpyDtoHAsync")

        def copy() -> None:
            dest.view(np.uint8)[:] = src._held[: dest.nbytes]

        add(stream, "out", copy)

    for name, thing in (
        ("Error", Error), ("LogicError", LogicError), ("LaunchError", LaunchError),
        ("MemoryError", CudaMemoryError), ("Context", Context), ("Device", Device),
        ("Stream", Stream), ("DeviceAllocation", DeviceAllocation), ("init", init),
        ("get_driver_version", get_driver_version), ("mem_alloc", mem_alloc),
        ("mem_get_info", mem_get_info), ("pagelocked_empty", pagelocked_empty),
        ("memcpy_htod_async", memcpy_htod_async), ("memcpy_dtoh_async", memcpy_dtoh_async),
    ):  # fmt: skip
        setattr(cuda, name, thing)
    cuda._add = add  # type: ignore[attr-defined]
    return cuda
