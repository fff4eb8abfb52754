"""What the event loop wants of an adapter: in threads, since an adapter may be somebody else's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from stemd.acquisition import Scan
from stemd.adapters.base import Adapter
from stemd.daemon.beside import beside
from stemd.errors import StemdError
from stemd.logs import get_logger

CALL_S = 5.0
"""None of these calls has work to do: one that takes longer hangs."""

T = TypeVar("T")

log = get_logger(__name__)


class Asking:
    """Calls one adapter from threads of their own: one that hangs keeps nobody waiting.

    `tell_scan` may be called by any thread and returns at once, `ask` is for the event loop.
    """

    def __init__(self, pipeline: str, adapter: Adapter) -> None:
        self.adapter = adapter
        self._pipeline = pipeline
        self._since: dict[str, float] = {}
        """Since when it has been doing what."""
        self._news = threading.Condition()
        self._scan: Scan | None = None
        self._told: Scan | None = None

    def tell_scan(self, scan: Scan) -> None:
        """Scan geometry from the next scan on; of several that wait only the newest is told."""
        with self._news:
            self._scan = scan
            if "set_scan" not in self._since:
                self._since["set_scan"] = time.monotonic()
                name = f"tell-{self._pipeline}"
                threading.Thread(target=self._tell, name=name, daemon=True).start()

    def _tell(self) -> None:
        while True:
            with self._news:
                scan = self._scan
                if scan is None or scan is self._told:
                    del self._since["set_scan"]
                    self._news.notify_all()
                    return
                self._since["set_scan"] = time.monotonic()
            try:
                self.adapter.set_scan(scan)
            except BaseException as error:  # whatever it is: nobody else would hear of it
                log.error("set_scan failed", pipeline=self._pipeline, exc_info=error)
            with self._news:
                self._told = scan

    def wait_told(self, seconds: float | None = None) -> bool:
        """Wait until the adapter has the newest geometry; False when that takes longer.

        Without `seconds` as long as any call may take.
        """
        with self._news:
            if seconds is None:
                began = self._since.get("set_scan", time.monotonic())
                seconds = max(0.0, began + CALL_S - time.monotonic())
            return self._news.wait_for(lambda: "set_scan" not in self._since, seconds)

    async def told(self) -> None:
        """Return when the adapter has the newest geometry, or hangs."""
        if "set_scan" in self._since and "set_scan" not in self.late:
            await beside(self.wait_told, name=f"told-{self._pipeline}")

    async def ask(self, what: str, call: Callable[[], T]) -> T:
        """What the adapter says to one call, however long that takes.

        Whoever stops waiting leaves it behind: until it has returned it counts as hanging.
        """

        def do() -> T:
            self._since[what] = time.monotonic()
            try:
                return call()
            finally:
                self._since.pop(what, None)

        return await beside(do, name=f"ask-{self._pipeline}")

    async def ask_in_time(self, what: str, call: Callable[[], T]) -> T:
        """What it says within some seconds. Raises StemdError where it says nothing."""
        if what not in self._since:
            try:
                return await asyncio.wait_for(self.ask(what, call), CALL_S)
            except TimeoutError:
                if what not in self._since:  # it has returned: the timeout is the device's own
                    raise
        raise StemdError(*self.hangs([what]))

    @property
    def late(self) -> list[str]:
        """What it has been doing for longer than any call may take."""
        now = time.monotonic()
        return sorted(what for what, since in list(self._since.items()) if now - since > CALL_S)

    def hangs(self, late: list[str]) -> tuple[str, str]:
        """How to say that it hangs, and the remedy."""
        return (
            f"the adapter of {self._pipeline} has not returned from {' and '.join(late)} "
            f"for {CALL_S:g} s",
            "its driver or device may hang: see its own documentation, then restart stemd",
        )
