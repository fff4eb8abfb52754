"""Tasks on workers that die: what they had made counts, what they had not is done by others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemd.errors import StemdError
from stemd.offline.cluster.connect import connect
from stemd.offline.cluster.queue import TaskQueue

from ..conftest import wait_until
from .conftest import Processes


def _doubled(number: int) -> int:
    return 2 * number


def _waits(until: Path, number: int) -> int:
    while not until.exists():
        time.sleep(0.01)
    return number


def _dies(_: int) -> None:
    os._exit(1)


def test_a_value_that_has_come_stays_when_its_worker_dies(
    processes: Callable[[int], Processes],
) -> None:
    dask = processes(1)
    with connect(dask.address) as pool:
        future = pool.submit("double", _doubled, 21)
        wait_until(lambda: bool(pool.has_ended()), "the value is here", 60.0)
        dask.kill(dask.workers[0])
        wait_until(lambda: future.status != "finished", "its loss is known", 60.0)
        assert list(pool.collect()) == [(future, 42)]


@pytest.fixture
def unforgiving(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler gives a task up with the first worker that dies, not with the fourth."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")


@pytest.mark.usefixtures("unforgiving")
def test_tasks_that_were_out_when_workers_died_are_given_out_again(
    tmp_path: Path, processes: Callable[[int], Processes]
) -> None:
    dask = processes(1)
    done: list[int] = []
    errors: list[StemdError] = []
    with connect(dask.address) as pool:
        queue = TaskQueue(pool)
        for number in range(4):
            queue.add(
                "wait", _waits, tmp_path / "go", number, then=done.append, failed=errors.append
            )
        queue.give_out()
        time.sleep(1.0)  # all are on the worker: one at work, the others behind it
        dask.kill(dask.workers[0])
        dask.add_worker()
        (tmp_path / "go").touch()
        queue.run(lambda: None)
    assert not errors
    assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.usefixtures("unforgiving")
def test_a_task_that_kills_its_workers_is_given_up_with_a_message(
    processes: Callable[[int], Processes],
) -> None:
    dask = processes(3)
    errors: list[Any] = []
    with connect(dask.address) as pool:
        wait_until(lambda: pool.workers().threads == 3, "the workers are there", 60.0)
        queue = TaskQueue(pool)
        queue.add("read", _dies, 0, then=errors.append, failed=errors.append)
        queue.run(lambda: None)
        assert len(errors) == 1
        assert "every worker that tried to read died" in str(errors[0])
        wait_until(lambda: pool.workers().threads == 1, "one worker is left", 60.0)
