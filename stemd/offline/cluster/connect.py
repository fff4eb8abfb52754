"""A Dask cluster as somewhere to run plain functions: submit, collect, say what went wrong."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import itertools
import json
import logging
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stemd.errors import ClusterError, UsageError
from stemd.offline.cluster.watch import Workers
from stemd.portable import processors

CONNECT_S = 10.0
ANSWER_S = 2.0
RETRIES = 2
"""Further attempts at a task whose worker lives but could not read, say, a busy file system."""
GRAPH_WARNING = "1 GiB"
"""Dask warns of large arguments; the merged maps of a scan are large, and go out once."""
OWN_WORKERS = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.preload": ["stemd.offline.cluster.own_worker"],
}
"""Of workers that are started here. Dask's profiler looks 100 times a second at what a task does,
and takes the interpreter from it each time: up to 2 % on free cores."""
_NOISY = ("distributed", "tornado", "asyncio")
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


class Pool:
    """The workers of a cluster. Tasks come back in the order in which they end."""

    def __init__(self, client: Any, address: str) -> None:
        distributed: Any = importlib.import_module("distributed")
        self._client = client
        self._address = address
        self._numbers = itertools.count()
        self._dropped: set[str] = set()
        self._session = uuid.uuid4().hex[:8]
        self._completed = distributed.as_completed(
            loop=client.loop, with_results=True, raise_errors=False
        )

    @property
    def dashboard(self) -> str:
        """Address of Dask's own page, or nothing."""
        return str(self._client.dashboard_link or "")

    def workers(self) -> Workers:
        """The workers that are there now; after ANSWER_S it says that the scheduler is silent.

        Raises ClusterError when the scheduler is gone.
        """
        asked = self._client.scheduler.identity
        try:
            found = self._client.sync(asked, n_workers=-1, callback_timeout=ANSWER_S)
        except TimeoutError:
            return Workers(answered=False)
        except Exception as error:
            raise self._lost() from error
        return Workers.of(found.get("workers", {}))

    def submit(
        self, name: str, work: Callable[..., Any], *args: Any, priority: float = 0.0, **more: Any
    ) -> Any:
        """Have `work` done by some worker, the sooner the higher the priority; its future.

        `name` is what the dashboard shows. A future among `args` stands for its value.
        """
        future = self._client.submit(
            work,
            *args,
            key=f"{name}-{self._session}-{next(self._numbers)}",
            priority=priority,
            retries=RETRIES,
            pure=False,
            **more,
        )
        self._completed.add(future)
        return future

    def hold(self, value: Any) -> Any:
        """A value that several tasks take: sent once; made again where a lost worker had it."""
        key = f"hold-{self._session}-{next(self._numbers)}"
        return self._client.submit(_same, value, key=key, pure=False)

    def collect(self) -> Iterator[tuple[Any, Any]]:
        """Tasks that have ended, with their values; waits for one.

        A value that is an exception says why a task could not be done. Raises ClusterError when
        the scheduler is gone.

        Only what came decides, not the future's present status: a value that is here is no longer
        needed where it was made, and the worker may have died since.
        """
        for future, value in self._completed.next_batch():
            dropped = future.key in self._dropped
            self._dropped.discard(future.key)
            if isinstance(value, _CANCELLED):
                if not dropped:
                    raise self._lost()
            elif _is_error(value):
                yield future, value[1]
            else:
                yield future, value

    def wait(self, seconds: float) -> bool:
        """Wait for `collect` to have something, so long at most; whether it has."""
        condition = self._completed.thread_condition
        with condition:
            condition.wait_for(self._completed.has_ready, seconds)
        return self.has_ended()

    def has_ended(self) -> bool:
        """Whether `collect` has something to give without waiting."""
        return bool(self._completed.has_ready())

    def drop(self, futures: Sequence[Any]) -> None:
        """Tasks that need not be done any more; one that a worker is at comes to nothing."""
        if futures:
            self._dropped |= {future.key for future in futures}
            with contextlib.suppress(Exception):  # a lost scheduler is told by `collect`
                self._client.cancel(list(futures))

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"the connection to the scheduler at {self._address} was lost",
            "start the scheduler again, then repeat the command: finished parts are kept",
        )


def _same(value: Any) -> Any:
    return value


def _is_error(value: Any) -> bool:
    """Whether this is how Dask hands over an exception: (type, exception, traceback)."""
    return isinstance(value, tuple) and len(value) == 3 and isinstance(value[1], BaseException)


@contextlib.contextmanager
def connect(address: str) -> Iterator[Pool]:
    """A running scheduler (`tcp://host:8786`, or its scheduler file), or `local[:N]` workers.

    Raises ClusterError when it cannot be reached, UsageError for an address that is none.
    """
    try:
        dask: Any = importlib.import_module("dask")
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise UsageError(
            "--cluster needs Dask, which is not installed", "pip install 'stemd[cluster]'"
        ) from error
    # its tracebacks, and those of the event loop that it runs, would hide what we say of a fault
    for name in (*_NOISY, *logging.root.manager.loggerDict):
        if name.partition(".")[0] in _NOISY:  # some have a level of their own
            logging.getLogger(name).setLevel(logging.CRITICAL)
    settings = {"distributed.admin.large-graph-warning-threshold": GRAPH_WARNING}
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if address == "local" or address.startswith("local:"):
            target: Any = stack.enter_context(_local(distributed, workers_of(address)))
            more = {}
        elif address.endswith(".json"):
            target, more = None, {"scheduler_file": _scheduler_file(address)}
        else:
            target, more = address, {}
        try:
            client = distributed.Client(target, timeout=CONNECT_S, set_as_default=False, **more)
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address} ({type(error).__name__}: {error})",
                "check the address (dask scheduler prints it, such as tcp://host:8786) and that "
                "no firewall is between",
            ) from error
        try:
            yield Pool(client, address)
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=2)


def workers_of(address: str) -> int:
    """Workers that `local[:N]` asks for; one for each free core by default."""
    _, _, count = address.partition(":")
    if not count:
        return processors()
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(
            f"--cluster {address}: {count!r} is not a number of workers", "for example local:4"
        )
    return int(count)


def _scheduler_file(name: str) -> str:
    try:
        json.loads(Path(name).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ClusterError(
            f"--cluster {name}: is not a scheduler file that can be read ({error})",
            "dask scheduler --scheduler-file writes it",
        ) from error
    return name


@contextlib.contextmanager
def _local(distributed: Any, workers: int) -> Iterator[Any]:
    dask: Any = importlib.import_module("dask")
    with dask.config.set(OWN_WORKERS), warnings.catch_warnings():
        # the dashboard's port may be taken: another one is found, and its address is told
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            silence_logs=logging.CRITICAL,
        )
    try:
        yield cluster
    finally:
        with contextlib.suppress(Exception):
            cluster.close(timeout=5)
