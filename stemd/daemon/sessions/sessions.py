"""Unattended sessions: a series of scans, carried through whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import structlog

from stemd.config.live import LiveSettings
from stemd.config.session_plan import SessionPlan
from stemd.daemon.sessions.book import SessionBook, keep, stored
from stemd.errors import ConfigError, StemdError
from stemd.events import Json
from stemd.storage.store import Store
from stemd.tasks import Tasks

POLL_S = 0.5
START_AGAIN_S = 30.0
"""A start after which no scan has begun for so long was lost, with a camera that was restarted."""
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)

log = structlog.get_logger(__name__)


class SessionHost(Protocol):
    """What sessions need of their pipeline."""

    @property
    def linked(self) -> bool:
        """Whether the camera is connected: started before, it sends its frames to nobody."""
        ...

    @property
    def live(self) -> LiveSettings:
        """The settings in force."""
        ...

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change live settings as a whole. Raises RefusedError."""
        ...

    def camera(self, name: str, args: Mapping[str, Any]) -> Awaitable[Mapping[str, Any]]:
        """A camera command. Raises StemdError."""
        ...

    def state_changed(self) -> None:
        """Publish the state anew."""
        ...


class Sessions:
    """The sessions of one pipeline, one after the other; all methods on the event loop.

    `publish` gets the session's document whenever it has changed.
    """

    def __init__(
        self, name: str, host: SessionHost, store: Store, publish: Callable[[Json], None]
    ) -> None:
        self._name, self._host, self._store, self._publish = name, host, store, publish
        self._book: SessionBook | None = None
        self._tasks = Tasks()
        self._waiting: deque[SessionPlan] = deque()
        self._changed = asyncio.Event()
        self._last_activity = time.monotonic()
        self._stop_reason = ""

    @property
    def current(self) -> str | None:
        """The id of the running session; by any thread."""
        book = self._book
        return book.document["id"] if book is not None else None

    @property
    def tasks(self) -> Tasks:
        """The task of the running session."""
        return self._tasks

    def check(self, plan: SessionPlan) -> None:
        """Raises RefusedError when the pipeline does not know one of the plan's settings."""
        live = self._host.live.changed(plan.settings) if plan.settings else self._host.live
        for change in plan.each:
            live.changed(change)

    async def resume(self, plans: Iterable[SessionPlan]) -> None:
        """Go on with what a daemon before us had begun, then with plans that are new.

        A plan of the config is done once: the same name with the same plan is not begun again.
        """
        books = await asyncio.to_thread(stored, self._store, self._name)
        for book in books:
            if book.running and self._book is None:
                book.cut_off()
                self._run(book)
            elif book.running:
                book.end("ended", "another session was running")
                await self._keep(book)
        done = [book.plan for book in books]
        self._waiting.extend(plan for plan in plans if plan not in done)
        self._next()

    def begin(self, plan: SessionPlan) -> str:
        """Begin a session now; returns its id. Raises RefusedError, ConfigError."""
        self.check(plan)
        if self._book is not None:
            raise ConfigError(
                f"the session {self._book.plan.name!r} is running",
                'wait for its end, or send {"command": "session", "args": {"stop": true}}',
            )
        return self._run(SessionBook.begin(plan, self._name))

    def stop(self, reason: str) -> str:
        """End the running session after its running scan; returns its id. Raises ConfigError."""
        if self._book is None:
            raise ConfigError("no session is running", 'begin one with args {"name": ...}')
        self._stop_reason = reason
        self._changed.set()
        return str(self._book.document["id"])

    async def suspend(self) -> None:
        """The daemon ends: leave the session as running, so that the next start goes on."""
        await self._tasks.stop()

    def scan_began(self, session: str | None, scan_id: str) -> None:
        """A scan has begun that belongs to this session."""
        self._last_activity = time.monotonic()
        if self._book is not None and session == self.current:
            self._book.begun(scan_id)
            self._changed.set()

    def scan_finished(self, document: Mapping[str, Any]) -> None:
        """A scan is over; counted when it belongs to the running session."""
        self._last_activity = time.monotonic()
        if self._book is not None and document["session"] == self.current:
            self._book.got(document)
            self._changed.set()

    # The running session

    def _next(self) -> None:
        while self._book is None and self._waiting:
            plan = self._waiting.popleft()
            try:
                self.begin(plan)
            except StemdError as error:
                log.error("a session cannot begin", session=plan.name, error=str(error))

    def _run(self, book: SessionBook) -> str:
        self._book, self._stop_reason = book, ""
        self._last_activity = time.monotonic()
        self._tasks.keep(partial(self._carry_out, book), f"session-{self._name}", endless=False)
        return str(book.document["id"])

    async def _carry_out(self, book: SessionBook) -> None:
        plan = book.plan
        try:
            await self._keep(book)
            log.info("session", name=plan.name, scans=plan.scans, until=str(plan.until or ""))
            if plan.settings:
                self._host.change(plan.settings)
            over = await self._over(book)
            while over is None:
                over = await self._one_scan(book)
        except StemdError as error:
            over = ("ended", f"settings are refused: {error.message}")
        except Exception as error:
            book.note("error", f"internal error: {type(error).__name__}: {error}")
            raise  # it goes on where it was: one mistake must not end a night
        book.end(*over)
        await self._keep(book)
        log.info("session is over", name=plan.name, status=over[0], reason=over[1])
        self._book = None
        self._next()
        self._host.state_changed()

    async def _one_scan(self, book: SessionBook) -> tuple[str, str] | None:
        """Start a scan or wait for one, wait for its end; why the session is over, or None."""
        change = book.plan.change_for(book.counted)
        if change:
            self._host.change(change)
        before = len(book.document["scans"])
        started, failures, kept = 0.0, 0, book.document["current"]
        while len(book.document["scans"]) == before:
            over = await self._over(book)
            running = book.document["current"] is not None
            if book.document["current"] != kept:
                kept = book.document["current"]
                await self._keep(book)
            if over is not None and not running:
                return over
            due = book.plan.start and self._host.linked and time.monotonic() >= started
            if due and not running:
                error = await self._start()
                failures = failures + 1 if error else 0
                wait = RETRY_S[min(failures, len(RETRY_S)) - 1] if error else START_AGAIN_S
                started = time.monotonic() + wait
                if error and failures == 1:
                    book.note("error", str(error))
                    await self._keep(book)
                continue
            await self._wait(POLL_S)
        await self._keep(book)
        until = time.monotonic() + book.plan.pause_s
        while (over := await self._over(book)) is None and time.monotonic() < until:
            await self._wait(until - time.monotonic())
        return over

    async def _start(self) -> StemdError | None:
        try:
            await self._host.camera("start", {"scans": 1})
        except StemdError as error:
            return error
        return None

    async def _over(self, book: SessionBook) -> tuple[str, str] | None:
        if self._stop_reason:
            return "ended", self._stop_reason
        silence = book.plan.end.silence_s
        if book.document["current"] is not None:
            self._last_activity = time.monotonic()
        if silence is not None and time.monotonic() - self._last_activity > silence:
            return "ended", f"no scan for {silence:g} s (silence_s = {silence:g})"
        free = await asyncio.to_thread(self._store.free_bytes)
        return book.over(time.time_ns(), free)

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), min(seconds, POLL_S))

    async def _keep(self, book: SessionBook) -> None:
        self._publish(book.shown())
        try:
            await asyncio.to_thread(keep, self._store, book)
        except StemdError as error:
            log.error("the session's file cannot be written", error=str(error))
