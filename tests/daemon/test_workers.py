"""Threads that hang or die: whoever waits is told, nobody else waits for them."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from stemd.daemon import workers as threads
from stemd.daemon.pipeline.camera_control import MOST_WAITING, CameraControl
from stemd.daemon.workers import MOST, Workers
from stemd.errors import CameraError, StemdError
from tests.conftest import wait_until


async def test_a_camera_that_does_not_answer_takes_its_own_threads_only() -> None:
    answer = threading.Event()

    def hangs(name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        answer.wait(30.0)
        return {"name": name}

    control = CameraControl("cam", hangs)
    waiting = [asyncio.ensure_future(control("start", {})) for _ in range(MOST_WAITING)]
    try:
        await asyncio.sleep(0)
        with pytest.raises(CameraError, match="has not answered 8 commands"):
            await control("start", {})
        waiting[0].cancel()  # who gives up frees no place: the thread still hangs
        await asyncio.sleep(0)
        with pytest.raises(CameraError):
            await control("abort", {})
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 10.0) == 7
    finally:
        answer.set()
    assert (await asyncio.gather(*waiting[1:]))[0] == {"name": "start"}
    assert await control("stop", {}) == {"name": "stop"}


def _kill(thread: threading.Thread) -> None:
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_die_idle_are_begun_again_and_lose_no_job() -> None:
    workers = Workers()
    try:
        assert workers.submit(lambda: 1).result(10.0) == 1
        for thread in list(workers._at):
            _kill(thread)
        found = workers.submit(lambda: 2)  # wakes the one that dies of it
        wait_until(lambda: workers.revive() or found.done(), "it is noticed", 10.0)
        assert found.result(10.0) == 2
    finally:
        workers.shutdown()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whoever_waits_for_a_thread_that_died_is_told() -> None:
    workers = Workers()
    began = threading.Event()
    try:
        lost = workers.submit(began.set)
        lost.result(10.0)
        (thread,) = workers._at
        other = workers.submit(lambda: 3)
        other.result(10.0)
        _kill(thread)
        workers.submit(lambda: None)
        wait_until(lambda: not thread.is_alive(), "it is dead", 10.0)
        future: Any = type(other)()
        workers._at[thread] = (future, lambda: None)  # as if it had died with this job
        assert workers.revive() == 1
        with pytest.raises(StemdError, match="has died"):
            future.result(1.0)
    finally:
        workers.shutdown()


def test_when_all_threads_hang_new_ones_do_what_waits_and_the_end_waits_for_none() -> None:
    workers, answer, began = Workers(), threading.Event(), threading.Barrier(MOST + 1)

    def hang() -> None:
        began.wait(30.0)
        answer.wait(30.0)

    try:
        for _ in range(MOST):
            workers.submit(hang)
        began.wait(30.0)
        waits = workers.submit(lambda: 5)
        assert not waits.done()
        workers.abandon()
        assert waits.result(10.0) == 5
    finally:
        workers.shutdown()
        answer.set()


class Silent(Workers):
    """Whose threads never answer, unless somebody does it for them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Future[float]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        self.asked.append(Future())
        return self.asked[-1]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LATE_S", 0.03)
    monkeypatch.setattr(threads, "LOOK_S", 0.01)


@pytest.mark.usefixtures("impatient")
async def test_on_a_computer_that_is_so_busy_that_every_thread_is_late_no_worker_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, late, others = dict[str, StemdError](), Silent(), list[int]()

    async def as_late(*_: Any, **__: Any) -> None:
        others.append(len(late.asked))
        late.asked[-1].set_result(0.0)
        await asyncio.sleep(0.0)  # the answer comes to the event loop

    monkeypatch.setattr(threads, "beside", as_late)
    watching = asyncio.ensure_future(threads.watch_workers(late, told))
    while len(others) < 3:
        await asyncio.sleep(0.01)
        assert not told
        assert not watching.done()
    watching.cancel()


@pytest.mark.usefixtures("impatient")
async def test_workers_that_do_not_answer_where_a_new_thread_does_are_told() -> None:
    told: dict[str, StemdError] = {}
    watching = asyncio.ensure_future(threads.watch_workers(Silent(), told))
    for _ in range(2000):
        await asyncio.sleep(0.0 if told else 0.01)
    assert "no worker thread has answered" in told["workers"].message
    watching.cancel()


def test_an_idle_thread_keeps_nothing_of_what_its_last_job_has_made() -> None:
    """Five threads kept an image of 64 MiB each, that MQTT had sent long since."""

    class Made:
        pass

    workers = Workers()
    try:
        made = weakref.ref(workers.submit(Made).result(10.0))
        wait_until(lambda: made() is None, "nobody keeps it", 10.0)
    finally:
        workers.shutdown()
