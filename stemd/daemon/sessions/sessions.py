"""Unattended sessions: a series of scans, carried through whatever happens in between."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stemd.config.session_plan import SessionPlan
from stemd.daemon.decisions import of_sessions
from stemd.daemon.sessions.book import SessionBook
from stemd.daemon.sessions.course import Course
from stemd.daemon.sessions.files import SessionFiles
from stemd.daemon.sessions.host import SessionHost
from stemd.daemon.sessions.kept import KeptBooks
from stemd.daemon.sessions.outages import Needed
from stemd.daemon.sessions.taken_up import TakenUp
from stemd.errors import ConfigError, StemdError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.tasks import Tasks

POLL_S = 0.5
REFUSED_AGAIN_S = 30.0
"""A plan of the config that cannot begin is tried again after so long."""
CLOSE_S = 3.0
BOOT_ID = secrets.token_hex(8)
"""Of this process: a session that another one carried out was interrupted by its end."""

log = get_logger(__name__)


class Sessions:
    """The sessions of one pipeline, one after the other; all methods on the event loop.

    One task does everything, in rounds: it does what the config asks for (`decisions`), then
    carries out the running session (`Course`), then publishes and writes
    what has changed (`KeptBooks`). `publish` gets the
    session's document whenever it has changed.
    """

    def __init__(
        self,
        name: str,
        host: SessionHost,
        files: SessionFiles,
        publish: Callable[[Json], None],
        *,
        now_ns: Callable[[], int] = time.time_ns,
        boot_id: str = BOOT_ID,
    ) -> None:
        self._name, self._host, self._files = name, host, files
        self._now_ns, self._boot_id = now_ns, boot_id
        self._plans: tuple[SessionPlan, ...] = ()
        self._waiting: tuple[SessionPlan, ...] = ()
        self._kept = KeptBooks(name, files, publish, boot_id)
        self._course: Course | None = None
        self._taken_up: TakenUp | None = None
        self._asked, self._settled = 0, -1
        self._refused: dict[str, float] = {}
        self._there: dict[Needed, bool] = {}
        self._ours: deque[str] = deque(maxlen=256)
        """The newest scans that this object has been told of."""
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    @property
    def current(self) -> str | None:
        """The id of the running session; by any thread."""
        course = self._course
        return course.book.id if course is not None else None

    @property
    def tasks(self) -> Tasks:
        """The task of the sessions."""
        return self._tasks

    def start(self, plans: Sequence[SessionPlan]) -> None:
        """Go on with what a daemon before had begun, and begin with what the config asks for."""
        self.apply(plans)
        self._tasks.keep(self._work, f"sessions-{self._name}")

    def apply(self, plans: Sequence[SessionPlan]) -> None:
        """These are the config's plans now; returns at once."""
        self._plans = tuple(plans)
        self._asked += 1
        self._changed.set()

    def begin(self, plan: SessionPlan) -> str:
        """Begin a session now; returns its id. Raises RefusedError, ConfigError, StemdError."""
        books = self._kept.books
        if books is None:
            raise StemdError(
                f"{self._name} is not ready yet: earlier sessions are still being read",
                "try again in a moment; a disk or network drive may be slow",
            )
        if self._course is not None:
            raise ConfigError(
                f"the session {self._course.book.plan.name!r} is running",
                'wait for its end, or send {"command": "session", "args": {"stop": true}}',
            )
        return self._begin(books, plan, from_config=False)

    def stop(self, reason: str) -> str:
        """End the running session after its running scan; returns its id. Raises ConfigError."""
        if self._course is None:
            raise ConfigError("no session is running", 'begin one with args {"name": ...}')
        self._course.book.stop(reason)
        self._changed.set()
        return self._course.book.id

    async def suspend(self) -> None:
        """The pipeline ends: no scan is started any more. What still ends is counted."""
        await self._tasks.stop()

    async def close(self) -> None:
        """Leave the running session as running, so that somebody goes on with it."""
        book = self._course.book if self._course is not None else None
        if book is not None:
            book.suspended(self._now_ns(), self._boot_id)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._kept.write(book, self._now_ns())
        except TimeoutError:
            log.error("the session's file is not written: the disk does not answer")

    # What happens

    def scan_began(self, session: str | None, scan_id: str) -> None:
        """A scan has begun that belongs to this session."""
        self._ours.append(scan_id)
        if self._course is not None:
            self._course.activity()
            if session == self.current:
                self._course.book.begun(scan_id)
                self._changed.set()

    def scan_finished(self, document: Mapping[str, Any]) -> None:
        """A scan is over; counted when it belongs to the running session."""
        self._ours.append(str(document["id"]))
        if self._course is not None:
            self._course.activity()
            if document["session"] == self.current:
                self._course.got(document, self._now_ns())
                self._changed.set()

    def there(self, what: Needed, *, there: bool) -> None:
        """Something that sessions need came or went."""
        if self._there.get(what) == there:
            return
        self._there[what] = there
        if self._course is not None:
            self._note_absent(self._course.book)
            self._changed.set()

    def _note_absent(self, book: SessionBook) -> None:
        for what, there in self._there.items():
            (book.back if there else book.gone)(what, self._now_ns())

    # The rounds of the task

    async def _work(self) -> None:
        books = await self._kept.read()
        while True:
            await self._round(books)

    async def _round(self, books: list[SessionBook]) -> None:
        self._changed.clear()
        self._settle(books)
        course = self._course
        if course is not None:
            self._kept.tell()
            try:
                over = await self._step(course)
            except StemdError as error:
                over = ("ended", f"settings are refused: {error.message}")
            except Exception as error:
                text = f"internal error: {type(error).__name__}: {error}"
                course.book.note("error", text, self._now_ns())
                raise  # it goes on where it was: one mistake must not end a night
            if over is not None:
                self._end(course, *over)
                self._changed.set()
        running = self._course.book if self._course is not None else None
        await self._kept.write(running, self._now_ns())
        await self._pause()

    async def _step(self, course: Course) -> tuple[str, str] | None:
        if self._taken_up is not None:
            if not await self._taken_up.done(self._now_ns()):
                return None
            self._taken_up = None
        return await course.step()

    async def _pause(self) -> None:
        """Until something happens, or time alone may have changed something."""
        polls = self._course is not None or self._refused or self._kept.unwritten()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(POLL_S, self._changed.set) if polls else None
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _settle(self, books: list[SessionBook]) -> None:
        """Do what the config asks for, where that or what is known has changed."""
        now_ns = self._now_ns()
        if self._settled != self._asked:
            asked = self._asked
            steps = of_sessions(self._plans, [book.known for book in books])
            by_id = {book.id: book for book in books}
            for each in steps.end:
                by_id[each].end("ended", "another session was running", now_ns)
            if steps.go_on is not None and steps.plan is not None:
                book = by_id[steps.go_on]
                if self._course is None:
                    self._go_on(book, now_ns)
                book.amend(steps.plan, now_ns)
            if self._course is not None:
                self._course.withdrawn = steps.withdraw
            self._waiting = steps.begin
            for name in self._refused.keys() - {plan.name for plan in steps.begin}:
                self._no_more_refused(name)
            self._settled = asked
        if self._course is None:
            self._begin_next(books)

    def _begin_next(self, books: list[SessionBook]) -> None:
        now = asyncio.get_running_loop().time()
        for plan in self._waiting:
            if now < self._refused.get(plan.name, 0.0):
                continue
            try:
                self._begin(books, plan, from_config=True)
            except StemdError as error:
                self._refused[plan.name] = now + REFUSED_AGAIN_S
                self._host.session_refused(plan.name, error)
                continue
            self._no_more_refused(plan.name)
            return

    def _no_more_refused(self, name: str) -> None:
        if self._refused.pop(name, None) is not None:
            self._host.session_refused(name, None)

    def _begin(self, books: list[SessionBook], plan: SessionPlan, *, from_config: bool) -> str:
        """Begin a session. Raises RefusedError where the pipeline does not know a setting."""
        live = self._host.live.changed(plan.settings) if plan.settings else self._host.live
        for change in plan.each:
            live.changed(change)
        now_ns = self._now_ns()
        instrument = self._files.instrument
        book = SessionBook.begin(plan, self._name, instrument, now_ns, from_config=from_config)
        books.insert(0, book)
        self._asked += 1
        self._carry_out(book, now_ns)
        log.info("session", name=plan.name, scans=plan.scans, until=str(plan.until or ""))
        self._changed.set()
        return book.id

    def _go_on(self, book: SessionBook, now_ns: int) -> None:
        self._taken_up = TakenUp(book, self._files, self._ours)
        book.goes_on(now_ns, self._boot_id)
        book.back("disk", now_ns)  # it was read from there
        self._carry_out(book, now_ns)
        log.info("session goes on", name=book.plan.name, counted=book.counted)

    def _carry_out(self, book: SessionBook, now_ns: int) -> None:
        book.alive(now_ns, self._boot_id)
        self._course = Course(book, self._host, self._files, self._now_ns)
        self._note_absent(book)
        self._host.state_changed()

    def _end(self, course: Course, status: str, reason: str) -> None:
        course.book.end(status, reason, self._now_ns(), withdrawn=course.withdrawn)
        log.info("session is over", name=course.book.plan.name, status=status, reason=reason)
        self._course = self._taken_up = None
        self._asked += 1
        self._host.state_changed()
