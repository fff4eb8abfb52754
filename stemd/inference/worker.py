"""The one thread in which networks are run beside a scan, at low priority."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import TypeVar

from stemd import installation
from stemd.errors import ModelError
from stemd.inference import choice
from stemd.inference.base import Network, Options
from stemd.inference.catalogue import find, shipped_folder
from stemd.inference.model_file import ModelFile, read_model

NICENESS = 10
MAX_LOADED = 4
T = TypeVar("T")
_Key = tuple[Path, int, int, str, int, tuple[int, ...] | None, int]


class NetworkThread:
    """Runs jobs one after the other, urgent ones first, and keeps the networks they load.

    One thread for all scans and pipelines: networks never take more of the machine than it and
    the threads that the libraries start from it, which inherit its priority. The thread is
    started by the first job and ends with the process.
    """

    def __init__(self, name: str = "networks") -> None:
        self._name = name
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._shipped: dict[str, Path] = {}
        self._loaded: OrderedDict[_Key, tuple[ModelFile, Network]] = OrderedDict()

    def submit(self, job: Callable[[], T], *, urgent: bool = False) -> Future[T]:
        """Have a job done; its result, or what it raises, is in the future."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put((0 if urgent else 1, next(self._count), run))
        with self._lock:
            if self._thread is None:
                self._start()
        return future

    def network(
        self,
        name: str,
        backend: str,
        threads: int,
        largest: tuple[int, ...] | None = None,
        check: Callable[[ModelFile], None] = lambda model: None,
        device: int = 0,
    ) -> tuple[ModelFile, Network]:
        """A network by name or path, loaded once as long as its file stays the same.

        `largest` and `device` as in `Options`; `check` raises ModelError where the file is of
        another kind. To be called by jobs. Raises ModelError.
        """
        path, stamp, size = self._stamped(name)
        key = (path, stamp, size, backend, threads, largest, device)
        if key not in self._loaded:
            if name in self._shipped and (changed := installation.at_start().changed()) is not None:
                raise ModelError(f"model {name}: {changed.message}", changed.remedy)
            model = read_model(path)
            check(model)
            options = Options(threads, largest=largest, device=device)
            self._loaded[key] = model, choice.load(model, backend, options)
            while len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _stamped(self, name: str) -> tuple[Path, int, int]:
        """A network's file, and what tells it from an earlier one of the same name.

        One that came with stemd belongs to this code and stays what it was at first: an update
        may have replaced it. Raises ModelError.
        """
        if name in self._shipped:
            return self._shipped[name], 0, 0
        path = find(name)
        if path.parent == shipped_folder():
            self._shipped[name] = path
            return path, 0, 0
        about = path.stat()
        return path, about.st_mtime_ns, about.st_size

    def _work(self) -> None:
        # Linux has a niceness for each thread, and gives it to the threads that this one starts
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            while True:
                _, _, run = self._jobs.get()
                run()
                del run  # it holds what it was to work on
        finally:  # it never returns: jobs that wait would wait for ever
            self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()


@cache
def shared() -> NetworkThread:
    """The process's own thread for networks."""
    return NetworkThread()
