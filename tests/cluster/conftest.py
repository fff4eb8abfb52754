"""A scheduler and workers as processes of their own: killing one is a real fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import wait_until


class Processes:
    """`dask scheduler` and `dask worker`; workers without a nanny stay dead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(self.file),
        )
        self.workers: list[subprocess.Popen[bytes]] = []
        wait_until(self._answers, "the scheduler has written its address", 60.0)

    def _answers(self) -> bool:
        try:
            return bool(self.address)
        except (OSError, ValueError):
            return False

    @property
    def address(self) -> str:
        """Where the scheduler is."""
        return str(json.loads(self.file.read_text())["address"])

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONWARNINGS": "default"}
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=self.folder,
        )

    def add_worker(self) -> subprocess.Popen[bytes]:
        """One more worker of one thread."""
        worker = self._start(
            *(
                "worker",
                self.address,
                "--host",
                "127.0.0.1",
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
            ),
            *("--memory-limit", "1GiB"),
        )
        self.workers.append(worker)
        return worker

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """As the kernel does when memory is short."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Kill all that are left."""
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                self.kill(process)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[[int], Processes]]:
    """Makes a scheduler with so many workers."""
    made: list[Processes] = []

    def make(workers: int) -> Processes:
        folder = tmp_path / f"dask{len(made)}"
        folder.mkdir()
        found = Processes(folder)
        made.append(found)
        for _ in range(workers):
            found.add_worker()
        return found

    yield make
    for each in made:
        each.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Two workers for all tests of a file that kill none."""
    made = Processes(tmp_path_factory.mktemp("dask"))
    for _ in range(2):
        made.add_worker()
    yield made
    made.stop()
