"""How `pytest -n 2` hands out the groups of tests, and what is said when something goes wrong.

A worker that dies (killed for memory, a crash in compiled code) costs the one test it was in: that
test has failed, by name and at once, and the rest is handed to a new worker. The scheduler of
pytest-xdist alone hands out groups that are done already as well, and then waits for ever for an
answer to no question (seen with 3.8).
"""

from __future__ import annotations

from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController


class Groups(LoadGroupScheduling):
    """Groups of tests, each run by one worker in its order; a dead worker's go to the others."""

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what the worker has not done; returns the test in which it died, if any."""
        left = {
            name: {test: False for test, done in group.items() if not done}
            for name, group in self.assigned_work.pop(node).items()
        }
        tests = [test for group in left.values() for test in group]
        if not tests:
            return None
        for group in left.values():
            group.pop(tests[0], None)  # it has failed, and would kill the next worker, too
        self.workqueue.update({name: group for name, group in left.items() if group})
        for other in self.nodes:
            self._reschedule(other)
        return tests[0]

    def schedule(self) -> None:
        """Hand out groups; a worker that gets the last one is told that nothing comes after it."""
        super().schedule()
        if self.collection is not None and not self.workqueue:
            for node in self.nodes:
                node.shutdown()


class Told:
    """Says each failure when it happens: a run that is cut off has said what it knew."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Groups:
        return Groups(config, log)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            dead = report.when not in ("setup", "call", "teardown")
            self._say(f"{'A WORKER DIED in' if dead else 'FAILED'} {report.nodeid}")

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
        config.pluginmanager.register(Told(config), "stemd-two-workers")
