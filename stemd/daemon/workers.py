"""The event loop's worker threads: none is waited for in vain, whatever has become of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from stemd.daemon.beside import beside
from stemd.errors import StemdError
from stemd.logs import get_logger

MOST = 6
"""Threads that work at a time. Their work waits for disks; numbers are crunched elsewhere."""
END_S = 2.0
LATE_S = 5.0
"""Idle worker threads answer in milliseconds; when all of them hang, nobody does."""
LOOK_S = 1.0
DIED = "the worker thread that did this has died", "try again; see the daemon's log"

log = get_logger(__name__)
Job = tuple[Future[Any], Callable[[], Any]]


class Workers(ThreadPoolExecutor):
    """Does jobs in threads that keep no process from ending.

    Unlike its base it notices threads that have died: `revive` begins new ones, and whoever
    waits for what they were doing is told. asyncio asks for an executor of this class.
    """

    def __init__(self) -> None:
        super().__init__(MOST, thread_name_prefix="worker")
        self._jobs: deque[Job] = deque()
        self._at: dict[threading.Thread, Job | None] = {}
        """What each thread does now."""
        self._news = threading.Condition()
        self._numbers = 0
        self._ending = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Have it done; its result, or what it raises, is in the future."""
        future: Future[Any] = Future()
        with self._news:
            if self._ending:
                raise RuntimeError("the workers have ended")
            self._jobs.append((future, lambda: fn(*args, **more)))
            self._begin_threads()
            self._news.notify()
        return future

    def revive(self) -> int:
        """Begin new threads for those that have died; returns how many have."""
        with self._news:
            dead = [thread for thread in self._at if not thread.is_alive()]
            for thread in dead:
                job = self._at.pop(thread)
                if job is not None and job not in self._jobs and not job[0].done():
                    with contextlib.suppress(Exception):  # it was cancelled meanwhile
                        job[0].set_exception(StemdError(*DIED))
            self._begin_threads()
        return len(dead)

    def abandon(self) -> None:
        """Count on none of the threads there are: new ones do what waits."""
        with self._news:
            self._at.clear()
            self._begin_threads()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; what is being done is waited for for a moment only."""
        with self._news:
            self._ending = True
            if cancel_futures:
                for future, _ in self._jobs:
                    future.cancel()
                self._jobs.clear()
            self._news.notify_all()
            threads = list(self._at)
        until = time.monotonic() + END_S
        for thread in threads if wait else ():
            thread.join(max(0.0, until - time.monotonic()))

    def _begin_threads(self) -> None:
        idle = sum(job is None for job in self._at.values())
        while idle < len(self._jobs) and len(self._at) < MOST:
            self._numbers += 1
            name = f"worker-{self._numbers}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._at[thread] = None
            thread.start()
            idle += 1

    def _work(self) -> None:
        thread = threading.current_thread()
        while True:
            with self._news:
                self._news.wait_for(lambda: self._jobs or self._ending or thread not in self._at)
                if not self._jobs or thread not in self._at:
                    return
                # first: who dies between these two lines has the job, and the queue has it too
                self._at[thread] = job = self._jobs[0]
                self._jobs.popleft()
            future, do = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(do())
                except BaseException as error:
                    future.set_exception(error)
                    if not isinstance(error, Exception):
                        raise
            with self._news:
                if thread in self._at:
                    self._at[thread] = None
            # else an idle thread keeps what its last job has made, as an image of 64 MiB
            del job, future, do


async def watch_workers(workers: Workers, told: dict[str, StemdError]) -> None:
    """Have the worker threads do nothing now and then; where none answers, begin new ones.

    `told` is where health is told of it, as `workers`.
    """
    loop = asyncio.get_running_loop()
    loop.set_default_executor(workers)
    while True:
        answer = asyncio.ensure_future(loop.run_in_executor(None, time.monotonic))
        looks = 0
        # looks and no seconds: a computer that stood still for a while has hung no thread
        while not answer.done() and looks * LOOK_S < LATE_S:
            await asyncio.wait({answer}, timeout=LOOK_S)
            _revive(workers)
            looks += 1
        if not answer.done():
            # on a busy computer every thread is late: these hang where a new one is sooner
            with contextlib.suppress(RuntimeError):
                await beside(time.monotonic, name="no worker")
        if answer.done():
            told.pop("workers", None)
            if not answer.cancelled():
                answer.exception()
            await asyncio.sleep(LOOK_S)
            continue
        told["workers"] = StemdError(
            f"no worker thread has answered for {LATE_S:.0f} s",
            "a disk or network drive may hang; new threads were begun, restart stemd if it lasts",
        )
        workers.abandon()
        answer.cancel()


def _revive(workers: Workers) -> None:
    if dead := workers.revive():
        log.error("worker threads died and are begun again", threads=dead)
