"""The one thread in which networks are run beside a scan, at low priority."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from stemd import installation
from stemd.errors import ModelError
from stemd.inference import activity, choice
from stemd.inference.base import Batch, Info, Network, Options
from stemd.inference.catalogue import find, shipped_folder
from stemd.inference.deadline import LOAD_S, RUN_S, Call
from stemd.inference.model_file import ModelFile, read_model
from stemd.inference.trial import tried
from stemd.logs import get_logger

log = get_logger(__name__)

NICENESS = 10
MAX_LOADED = 4
LOOK_S = 0.5
"""Between two looks at how long a call has lasted."""
T = TypeVar("T")
_Queued = tuple[int, int, Future[Any], Callable[[], Any]]
_Key = tuple[Path, int, int, str, int, tuple[int, ...] | None, int]


class _Worker(threading.Thread):
    """The thread that does the jobs, until it is given up because a job never ends."""

    def __init__(self, name: str, jobs: queue.PriorityQueue[_Queued]) -> None:
        super().__init__(name=name, daemon=True)
        self._jobs = jobs
        self.future: Future[Any] | None = None
        self.call: Call | None = None
        self.given_up = False

    def run(self) -> None:
        """Do one job after the other."""
        # Linux has a niceness for each thread, and gives it to the threads that this one starts
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self.given_up:
            self._do(*self._jobs.get()[2:])  # by no name here: a job holds what it works on

    def _do(self, future: Future[Any], job: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self.future = future
        result, failed = None, None
        try:
            result = job()
        except BaseException as error:
            failed = error
        self.future = None
        with contextlib.suppress(InvalidStateError):  # nobody has waited for it to the end
            if failed is not None:
                future.set_exception(failed)
            else:
                future.set_result(result)
        del failed  # an error knows this frame, and this frame the error


class NetworkThread:
    """Runs jobs one after the other, urgent ones first, and keeps the networks they load.

    One thread for all scans and pipelines: networks never take more of the machine than it and
    the threads that the libraries start from it, which inherit its priority. The thread is
    started by the first job and ends with the process. A network that is not loaded in time, or
    does not give a batch back in time, fails its job and is left out, until it answers after all or
    its file is another one; the other jobs go on in a new thread.
    """

    def __init__(self, name: str = "networks") -> None:
        self._name = name
        self._jobs: queue.PriorityQueue[_Queued] = queue.PriorityQueue()
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._watcher: threading.Thread | None = None
        self._late: dict[_Key, ModelError] = {}
        self._sign = 0.0
        self._most_s = math.inf
        self._shipped: dict[str, Path] = {}
        self._loaded: OrderedDict[_Key, tuple[ModelFile, Network]] = OrderedDict()

    @property
    def late(self) -> list[ModelError]:
        """What is wrong with networks that do not answer now."""
        return list(self._late.values())

    def hurry(self, most_s: float | None) -> None:
        """From now on a batch may take no longer, as a process is to end; None: no hurry."""
        self._sign = time.monotonic()
        self._most_s = math.inf if most_s is None else most_s

    def submit(self, job: Callable[[], T], *, urgent: bool = False) -> Future[T]:
        """Have a job done; its result, or what it raises, is in the future."""
        future: Future[T] = Future()
        self._jobs.put((0 if urgent else 1, next(self._count), future, job))
        with self._lock:
            if self._worker is None:
                self._begin()
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(
                    target=self._watch, name=f"{self._name}-watch", daemon=True
                )
                self._watcher.start()
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
        for other in [known for known in self._late if known[0] == path]:
            if other[1:3] != (stamp, size):  # another file by now
                self._late.pop(other, None)
        self._check_answers(key)
        if key not in self._loaded:
            if name in self._shipped and (changed := installation.at_start().changed()) is not None:
                raise ModelError(f"model {name}: {changed.message}", changed.remedy)
            model = read_model(path)
            check(model)
            if name not in self._shipped and backend != "onnxruntime":
                with self._limited(key, model.name, "run a small batch", RUN_S) as call:
                    tried(model, partial(setattr, call, "cancel"))
            options = Options(threads, largest=largest, device=device)
            with self._limited(key, model.name, "load", LOAD_S):
                network = choice.load(model, backend, options)
            self._loaded[key] = model, _Limited(network, partial(self._limited, key, model.name))
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

    @contextlib.contextmanager
    def _limited(self, key: _Key, model: str, doing: str, limit_s: float) -> Iterator[Call]:
        """A call into a library; raises ModelError at its end where that came too late."""
        self._check_answers(key)
        call = Call(key, model, doing, limit_s)
        worker = threading.current_thread()
        if not isinstance(worker, _Worker):  # whoever called waits as long as he likes
            yield call
            return
        worker.call = call
        try:
            yield call
        finally:
            with self._lock:
                worker.call = None
                if not call.cancelled:  # it would only have to be cancelled again
                    self._late.pop(key, None)
        if call.late is not None:
            raise call.late

    def _check_answers(self, key: _Key) -> None:
        """Raises ModelError where an earlier call of this network goes on and is late."""
        if (late := self._late.get(key)) is not None:
            raise ModelError(late.message, late.remedy)

    def _watch(self) -> None:
        with activity.watched(self._alive):
            while True:
                time.sleep(LOOK_S)
                with self._lock:
                    worker = self._worker
                    call = worker.call if worker is not None else None
                    if worker is None or not worker.is_alive():
                        self._bury(worker)
                        self._begin()  # jobs that wait would wait for ever
                    elif call is not None and call.is_late(self._sign, self._most_s):
                        self._give_up(worker, call)

    @staticmethod
    def _bury(worker: _Worker | None) -> None:
        """The thread has died: whoever waits for what it was doing is told."""
        log.error("the networks' thread died and is begun again")
        if worker is not None and worker.future is not None:
            with contextlib.suppress(InvalidStateError):
                worker.future.set_exception(ModelError("the networks' thread died", "scan again"))

    def _give_up(self, worker: _Worker, call: Call) -> None:
        assert call.late is not None
        self._late[call.key] = call.late
        worker.given_up = True
        log.error(call.late.message, remedy=call.late.remedy)
        if worker.future is not None:
            with contextlib.suppress(InvalidStateError):
                worker.future.set_exception(call.late)
        if call.cancel is not None:
            call.cancelled = True
            call.cancel()
        self._begin()

    def _alive(self, _text: str) -> None:
        self._sign = time.monotonic()

    def _begin(self) -> None:
        self._worker = _Worker(self._name, self._jobs)
        self._worker.start()


class _Limited:
    """A network each batch of which has a deadline. Implements inference.base.Network."""

    def __init__(
        self,
        network: Network,
        limited: Callable[[str, float], contextlib.AbstractContextManager[Call]],
    ) -> None:
        self._network, self._limited_call = network, limited
        self._cancel: Callable[[], None] | None = getattr(network, "cancel", None)

    @property
    def info(self) -> Info:
        """See inference.base.Network."""
        return self._network.info

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network. Raises ModelError where it takes too long."""
        with self._limited_call("run a batch", RUN_S) as call:
            call.cancel = self._cancel
            return self._network.run(batch)


@cache
def shared() -> NetworkThread:
    """The process's own thread for networks."""
    return NetworkThread()
