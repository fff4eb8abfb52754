"""A cluster that does not work: told within ten seconds, again while it lasts, in our words."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stemd.offline.cluster.watch import AGAIN_S, PATIENCE_S, SILENT_S, STUCK_S, Workers, WorkerWatch

from ..conftest import wait_until
from .conftest import Processes

pytestmark = pytest.mark.waits
SOON_S = 11.0
"""Ten, and what a loaded machine takes to write a line."""


class Command:
    """`stemd process --cluster` as a person starts it, and the lines it writes, with times."""

    def __init__(self, folder: Path, address: str, *more: str) -> None:
        path = folder / "big.npy"
        if not path.exists():
            # a file of holes, of more than the workers are through with at once
            shape = (600, 120, 64, 64)
            del_me = np.lib.format.open_memmap(path, "w+", dtype=np.uint16, shape=shape)
            del del_me
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "stemd", "process", str(path), "--engine", "sum"),
                *("--out", str(folder / "out"), "--part-mib", "1", "--cluster", address, *more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line))

    @property
    def told(self) -> str:
        """All that stands on standard error."""
        return "".join(line for _, line in self.lines)

    def count(self, text: str) -> int:
        """Lines with the text."""
        return sum(text in line for _, line in self.lines)

    def interrupt(self) -> int:
        """Ctrl-C as a terminal sends it, to the whole group; the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """The exit code."""
        code = self.process.wait(60.0)
        self._reader.join(10.0)
        return code

    def end(self) -> None:
        """Nothing of it is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(10.0)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    made: list[Command] = []

    def make(address: str, *more: str) -> Command:
        made.append(Command(tmp_path, address, *more))
        return made[-1]

    yield make
    for each in made:
        each.end()


def _without_dask(told: str) -> None:
    for word in ("Traceback", "distributed", "tornado", "asyncio", "Warning", "exception"):
        assert word not in told, told


def test_workers_that_never_come_are_told_and_ctrl_c_names_the_file(
    processes: Callable[[int], Processes], command: Callable[..., Command]
) -> None:
    made = command(processes(0).address)
    began = time.monotonic()
    wait_until(lambda: made.count("no worker has come yet") >= 2, "it is told twice", 60.0)
    first, second = [at for at, line in made.lines if "no worker has come" in line][:2]
    assert first - began < SOON_S + 10.0  # the command starts within some seconds
    assert AGAIN_S - 1.0 < second - first < AGAIN_S + 3.0
    assert made.interrupt() == 130
    assert "1 of 1 not processed" in made.told
    assert "big.npy\n" in made.told
    assert "the same command goes on" in made.told
    _without_dask(made.told)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("killed", "all workers are gone"),
        ("stopped", "none of 2 workers gives a sign of life"),
        ("scheduler stopped", "the scheduler does not answer"),
    ],
)
def test_a_cluster_that_stops_is_told_within_ten_seconds_and_goes_on_when_it_is_back(
    fault: str,
    words: str,
    processes: Callable[[int], Processes],
    command: Callable[..., Command],
    tmp_path: Path,
) -> None:
    dask = processes(2)
    made = command(dask.address)
    parts = tmp_path / "out" / "big" / "parts"
    wait_until(lambda: any(parts.glob("*/*.npz")), "some parts are done", 60.0)
    hurt = [dask.scheduler] if fault == "scheduler stopped" else dask.workers[:]
    number = signal.SIGKILL if fault == "killed" else signal.SIGSTOP
    began = time.monotonic()
    for each in hurt:
        each.send_signal(number)
    try:
        with contextlib.suppress(pytest.fail.Exception):  # what was told instead is worth more
            wait_until(lambda: made.count(words) or made.process.poll() is not None, words, 30.0)
        assert made.count(words), made.told
        assert time.monotonic() - began < SOON_S
        if fault == "scheduler stopped":  # which the command might wait for; a clock tests the rest
            wait_until(lambda: made.count(words) >= 2, f"{words} is told again", 30.0)
    finally:
        for each in hurt:
            if number == signal.SIGSTOP:
                each.send_signal(signal.SIGCONT)
    if fault == "killed":
        dask.add_worker()
    assert made.wait() == 0, made.told
    assert "the cluster works again" in made.told
    _without_dask(made.told)


def test_a_scheduler_that_dies_is_one_error_in_our_words(
    processes: Callable[[int], Processes], command: Callable[..., Command]
) -> None:
    dask = processes(0)
    made = command(dask.address)
    wait_until(lambda: made.count("no worker has come yet") >= 1, "it waits", 60.0)
    dask.kill(dask.scheduler)
    assert made.wait() == 1
    assert "the connection to the scheduler" in made.told
    _without_dask(made.told)


def test_ctrl_c_ends_the_workers_that_were_started_here_without_a_word_of_theirs(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    made = command("local:2")
    parts = tmp_path / "out" / "big" / "parts"
    wait_until(lambda: any(parts.glob("*/*.npz")), "some parts are done", 60.0)
    assert made.interrupt() == 130
    assert "1 of 1 not processed" in made.told
    _without_dask(made.told)
    with contextlib.suppress(ProcessLookupError):
        wait_until(lambda: os.killpg(made.process.pid, 0) is not None, "nothing is left", 10.0)


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _look(
    watch: WorkerWatch, clock: _Clock, workers: Callable[[float], Workers], until: float
) -> None:
    while clock.now < until:
        watch.look(workers(clock.now), 0)
        clock.now += 1.0


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (lambda now: Workers(1, {"a": 5.0}), "sign of life"),
        (lambda now: Workers(1, {"a": now}, frozenset("a")), "paused"),
        (lambda now: Workers(2, {"a": now, "b": 5.0}, frozenset("a")), "paused"),
        (lambda now: Workers(), "no worker has come"),
        (lambda now: Workers(answered=False), "does not answer"),
    ],
)
def test_each_kind_of_standstill_has_its_sentence(
    workers: Callable[[float], Workers], words: str
) -> None:
    clock, told = _Clock(), list[tuple[float, str, bool]]()
    watch = WorkerWatch(lambda text, over=False: told.append((clock.now, text, over)), clock)
    _look(watch, clock, workers, 30.0)
    assert all(words in text for _, text, _ in told)
    assert PATIENCE_S <= told[0][0] <= 10.0
    assert [round(b[0] - a[0]) for a, b in itertools.pairwise(told)] == [AGAIN_S] * (len(told) - 1)
    watch.look(Workers(1, {"c": clock.now}), 1)
    assert told[-1][2]
    assert "works again" in told[-1][1]


def test_a_cluster_that_works_is_not_talked_about_unless_nothing_ends() -> None:
    clock, told = _Clock(), list[str]()
    watch = WorkerWatch(lambda text, over=False: told.append(text), clock)
    # a clock of the scheduler's own, one of three workers that is silent
    _look(watch, clock, lambda now: Workers(3, {"a": now - 1e6, "b": now, "c": 7.0}), STUCK_S)
    assert told == []
    _look(watch, clock, lambda now: Workers(1, {"a": now}), STUCK_S + SILENT_S + 2.0)
    assert len(told) == 1
    assert "no part has ended for" in told[0]


def test_workers_that_came_and_went_between_two_looks_are_gone() -> None:
    clock, told = _Clock(), list[str]()
    watch = WorkerWatch(lambda text, over=False: told.append(text), clock)
    while clock.now < 5.0:
        watch.look(Workers(), int(clock.now >= 1.0))
        clock.now += 1.0
    assert len(told) == 1
    assert "all workers are gone" in told[0]
    watch.over()
    assert told[-1] == "the cluster works again: nothing is left to do"


def test_the_end_of_a_cluster_that_worked_needs_no_word() -> None:
    clock, told = _Clock(), list[str]()
    watch = WorkerWatch(lambda text, over=False: told.append(text), clock)
    _look(watch, clock, lambda now: Workers(1, {"a": now}), 10.0)
    watch.over()
    assert told == []
