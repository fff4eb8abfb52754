"""Tasks that wait for a place on the cluster, and what is to happen with what they give."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stemd.errors import ClusterError, StemdError
from stemd.offline.cluster.connect import Pool
from stemd.offline.cluster.watch import Workers
from stemd.offline.cluster.work import Failure

TASKS_A_THREAD = 3
"""Tasks given out for each thread: one runs, the others wait so that it never does."""
LEAST_TASKS = 8
TICK_S = 0.5
"""How often somebody is told how far it is while nothing ends."""
RECOUNT_S = 2.0
"""How often the workers are counted: clusters grow and shrink."""
CHANCES = 2
"""Times that a task is given out which Dask gave up for the death of its workers (four): it
counts the death of a worker against all tasks that waited there, whichever was at work."""


@dataclass(order=True, slots=True)
class _Task:
    order: tuple[float, int]
    name: str = field(compare=False)
    work: Callable[..., Any] = field(compare=False)
    args: tuple[Any, ...] = field(compare=False)
    more: dict[str, Any] = field(compare=False)
    then: Callable[[Any], None] = field(compare=False)
    failed: Callable[[StemdError], None] = field(compare=False)
    owner: object = field(compare=False)
    chances: int = field(compare=False, default=CHANCES)
    future: Any = field(compare=False, default=None)


class TaskQueue:
    """Gives tasks to the cluster, the most urgent first, a bounded number at a time.

    What a task gives goes to `then`, an error to `failed`; both may add tasks. All of it happens
    in the thread that calls `run`.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.threads = 0
        self.ended = 0
        self.workers = Workers()
        self._waiting: list[_Task] = []
        self._running: dict[Any, _Task] = {}
        self._numbers = itertools.count()
        self._counted = -RECOUNT_S

    def add(
        self,
        name: str,
        work: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None],
        failed: Callable[[StemdError], None],
        urgency: float = 0.0,
        owner: object = None,
        **more: Any,
    ) -> None:
        """One more task; `name` groups tasks on the dashboard, `owner` may `drop` them."""
        order = (-urgency, next(self._numbers))
        task = _Task(order, name, work, args, more, then, failed, owner)
        heapq.heappush(self._waiting, task)

    def drop(self, owner: object) -> None:
        """Forget all tasks of an owner: nobody waits for what they would give."""
        self._waiting = [task for task in self._waiting if task.owner is not owner]
        heapq.heapify(self._waiting)
        keys = [key for key, task in self._running.items() if task.owner is owner]
        self.pool.drop([self._running.pop(key).future for key in keys])

    def run(self, tick: Callable[[], None]) -> None:
        """Until no task is left; `tick` after each batch. Raises ClusterError."""
        self.give_out()
        while self._running:
            tick()
            if not self.pool.wait(TICK_S):
                self.give_out()  # workers may have come
                continue
            for future, value in self.pool.collect():
                self.ended += 1
                task = self._running.pop(future.key, None)
                if task is None:
                    continue  # dropped while its end was on its way
                if isinstance(value, Failure):
                    task.failed(value.error())
                elif isinstance(value, BaseException):
                    self._missed(task, value)
                else:
                    task.then(value)
                self.give_out()
        tick()

    def _missed(self, task: _Task, error: BaseException) -> None:
        from distributed import KilledWorker

        task.chances -= 1
        if isinstance(error, KilledWorker) and task.chances > 0:
            heapq.heappush(self._waiting, task)
        else:
            task.failed(_explained(task.name, error))

    def count(self) -> int:
        """Threads of all workers, as `workers` were a moment ago. Raises ClusterError."""
        now = time.monotonic()
        if now >= self._counted + RECOUNT_S:
            self.workers = self.pool.workers()
            self._counted = time.monotonic()
            if self.workers.answered:
                self.threads = self.workers.threads
        return self.threads

    def give_out(self) -> None:
        """Send what there is room for, now: the caller still has something to do."""
        while self._waiting and self._has_room():
            task = heapq.heappop(self._waiting)
            urgency = -task.order[0]
            future = self.pool.submit(
                task.name, task.work, *task.args, priority=urgency, **task.more
            )
            self._running[future.key] = task
            task.future = future  # without it the cluster forgets the task

    def _has_room(self) -> bool:
        out = len(self._running)
        return out < LEAST_TASKS or out < TASKS_A_THREAD * self.count()


def _explained(task: str, error: BaseException) -> ClusterError:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return ClusterError(
            f"every worker that tried to {task} died",
            "look at the workers' logs: too little memory for a part (see --part-mib), a job's "
            "time limit, or a file that was cut off while it was read",
        )
    if isinstance(error, ModuleNotFoundError):
        return ClusterError(
            f"a worker cannot {task}: {error}",
            "install the same stemd, with the extra 'cluster', where the workers run",
        )
    return ClusterError(
        f"a worker could not {task}: {type(error).__name__}: {error}",
        "look at the workers' logs; what is finished is kept and the same command goes on",
    )
