"""The running session: its scans are started one after the other, or waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from stemd.daemon.beside import beside
from stemd.daemon.sessions.book import SessionBook
from stemd.daemon.sessions.files import SessionFiles
from stemd.daemon.sessions.host import SessionHost
from stemd.errors import StemdError

START_AGAIN_S = 30.0
"""A start after which no scan has begun for so long was lost, with a camera that was restarted."""
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
FREE_SPACE_S = 5.0


class Course:
    """Carries out one session step by step. On the event loop, whose clock it goes by."""

    def __init__(
        self,
        book: SessionBook,
        host: SessionHost,
        files: SessionFiles,
        now_ns: Callable[[], int],
    ) -> None:
        self.book = book
        self.withdrawn = False
        """Whether the config has it no more."""
        self._host, self._files, self._now_ns = host, files, now_ns
        self._loop = asyncio.get_running_loop()
        self._last_activity = self._loop.time()
        self._next_start = 0.0
        self._failures = 0
        self._set_for = -1
        self._free: int | None = None
        self._free_at = float("-inf")

    def activity(self) -> None:
        """A scan has begun or ended."""
        self._last_activity = self._loop.time()

    def got(self, document: Mapping[str, Any], now_ns: int) -> None:
        """A scan of the session is over."""
        self.book.got(document, now_ns)
        self._next_start = self._loop.time() + self.book.plan.pause_s
        self._failures = 0

    async def step(self) -> tuple[str, str] | None:
        """Do what is due; (status, reason) when the session is over. Raises RefusedError."""
        document, plan = self.book.document, self.book.plan
        if plan.settings and not document.get("settings_made"):
            await self._host.prepare(plan.settings)
            self._host.change(plan.settings)
            document["settings_made"] = True
            self.book.changes += 1
        if document["current"] is not None:
            self.activity()
            return None
        over = await self._over()
        if over is not None or document["current"] is not None:
            return over if document["current"] is None else None
        if self._loop.time() < self._next_start:
            return None
        if self._set_for != len(document["scans"]):
            self._set_for = len(document["scans"])
            if change := plan.change_for(self.book.counted):
                await self._host.prepare(change)
                self._host.change(change)
        if plan.start and self._host.linked:
            await self._start()
        return None

    async def _start(self) -> None:
        try:
            await self._host.camera("start", {"scans": 1})
        except StemdError as error:
            self._failures += 1
            if self._failures == 1:
                self.book.note("error", str(error), self._now_ns())
            wait = RETRY_S[min(self._failures, len(RETRY_S)) - 1]
        else:
            self._failures, wait = 0, START_AGAIN_S
        # a scan that has ended meanwhile has set its own pause
        if self._set_for == len(self.book.document["scans"]):
            self._next_start = self._loop.time() + wait

    async def _over(self) -> tuple[str, str] | None:
        if self.withdrawn:
            return "ended", "it is in the config no more"
        if reason := self.book.document.get("stopping"):
            return "ended", reason
        silence = self.book.plan.end.silence_s
        if silence is not None and self._loop.time() - self._last_activity > silence:
            return "ended", f"no scan for {silence:g} s (silence_s = {silence:g})"
        if self._loop.time() >= self._free_at + FREE_SPACE_S:
            self._free = await beside(self._files.free_bytes)
            self._free_at = self._loop.time()
        return self.book.over(self._now_ns(), self._free)
