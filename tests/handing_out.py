"""How `pytest -n 3` hands out the files of tests, and what is said when something goes wrong.

All workers but the last take the files in which tests wait (see `waits`), and of these the first
alone goes on with the others. The last begins at the other end, with the tests that compute, until
they meet: more than two that compute on two processors would slow each other down, and some of
them look at the clock.

A worker that dies (killed for memory, a crash in compiled code) costs one try of the test that it
was in: the test is named at once, and the rest is handed to a new worker. The scheduler of
pytest-xdist alone hands out files that are done already as well, and then waits for ever for an
answer to no question (seen with 3.8).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

WAITING_FOLDERS = ("faults", "system")
LONG_FOLDERS = ("cluster", "daemon")
"""Files of up to minutes, with which the last worker begins: where they meet, files are short."""
_MARKED = re.compile(r"^pytestmark = .*\b(waits|browser)\b", re.MULTILINE)


@functools.cache
def waits(file: Path) -> bool:
    """Whether the tests of a file mostly wait: their folder or a mark of all of them says so."""
    return file.parent.name in WAITING_FOLDERS or _MARKED.search(file.read_text()) is not None


def waiting_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The tests in an order in which files come first whose tests wait, and last the long ones."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return not waits(item.path), item.path.parent.name in LONG_FOLDERS

    return sorted(items, key=place)


class Files(LoadFileScheduling):
    """Files of tests, each run by one worker in its order; a dead worker's go to the others."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what the worker has not done; returns the test in which it died, if any."""
        left = {
            name: {test: False for test, done in file.items() if not done}
            for name, file in self.assigned_work.pop(node).items()
        }
        tests = [test for file in left.values() for test in file]
        if not tests:
            return None
        for file in left.values():
            file.pop(tests[0], None)  # whether it is tried again, others decide
        self.workqueue.update({name: file for name, file in left.items() if file})
        for other in self.nodes:
            self._reschedule(other)
        return tests[0]

    def mark_test_pending(self, item: str) -> None:  # type: ignore[override]
        """Hand a test out once more, which pytest-rerunfailures asks for."""
        self.workqueue.setdefault(self._split_scope(item), {})[item] = False

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Hand out the next file, which may be the rest of one that the worker has already."""
        name = next(reversed(self.workqueue) if self._last(node) else iter(self.workqueue))
        self.workqueue.move_to_end(name, last=False)
        before = self.assigned_work[node].get(name, {})
        super()._assign_work_unit(node)
        self.assigned_work[node][name] = {**before, **self.assigned_work[node][name]}

    def _reschedule(self, node: WorkerController) -> None:
        """Hand out another file if the worker needs one, or let a worker for waiting tests end."""
        if self._for_waiting_alone(node) and not node.shutting_down:
            root = self.config.rootpath
            if not any(waits(root / name) for name in self.workqueue):
                node.shutdown()
        super()._reschedule(node)

    def _last(self, node: WorkerController) -> bool:
        return self._number(node) == self.numnodes - 1

    def _for_waiting_alone(self, node: WorkerController) -> bool:
        return 0 < self._number(node) < self.numnodes - 1

    @staticmethod
    def _number(node: WorkerController) -> int:
        return int(node.gateway.id.removeprefix("gw"))

    def schedule(self) -> None:
        """Hand out files: a worker begins a test when it knows the next or that there is none."""
        super().schedule()
        if self.collection is None:
            return
        for node in self.nodes:
            while self.workqueue and self._wants_more(node):
                self._assign_work_unit(node)
        if not self.workqueue:
            for node in self.nodes:
                node.shutdown()

    def _wants_more(self, node: WorkerController) -> bool:
        return not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2


class Told:
    """Says each failure when it happens: a run that is cut off has said what it knew."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Files:
        return Files(config, log)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome in ("failed", "rerun"):
            dead = report.when not in ("setup", "call", "teardown")
            how = "A WORKER DIED in" if dead else "FAILED"
            again = ", which is tried again" if report.outcome == "rerun" else ""
            crash = getattr(report.longrepr, "reprcrash", None)
            why = f": {crash.message.splitlines()[0]}" if again and crash and crash.message else ""
            self._say(f"{how} {report.nodeid}{again}{why}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController, error: object) -> None:
        """Signal 9 is most often the system's answer to a lack of memory, 11 a crash."""
        if error:
            process = getattr(getattr(node.gateway, "_io", None), "popen", None)
            status = process.wait(10.0) if process is not None else "unknown"
            free = psutil.virtual_memory().available // 2**20
            self._say(f"worker {node.gateway.id}: exit status {status}, {free} MiB free now")

    def _say(self, line: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(line)


def register(config: pytest.Config) -> None:
    """In the process that hands out the tests, which is the only one without workers, too."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Told(config), "stemd-handing-out")
