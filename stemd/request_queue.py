"""Whose turn it is: requests from broker and page on their way to the pipelines.

One line for each pipeline. Commands are carried out one after the other, in the order in which
they came. Two kinds do not stand in it: `abort` and `stop` go at once, and a start that still
waits behind them is not begun any more; settings never wait for a command, and those that wait
together are put in force together, the newest value of each key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stemd.config.live import sections_of
from stemd.documents import refused, to_json
from stemd.logs import get_logger

Json = dict[str, Any]
Kind = Literal["settings", "command", "config"]
Request = Mapping[str, Any]

Handler = Callable[[str, str, Request], Awaitable[Json]]
"""(pipeline, "settings" | "command" | "config", request) -> reply document; never raises."""
Check = Callable[[], Awaitable[Json | None]]
"""Asked when it is a request's turn: the `error` of its reply if it must not be carried out."""

MAX_COMMANDS = 64
"""Commands of a pipeline that may wait; further ones are refused."""
MAX_SETTINGS = 1000
"""Settings changes of a pipeline that may wait: they do so for one pace."""
SETTINGS_PACE_S = 0.02
"""Least time between two changes: what comes meanwhile is one change."""

log = get_logger(__name__)


def is_urgent(name: Any, args: Any) -> bool:
    """Whether a command ends something: it goes before others and waits for none of them."""
    ends_session = name == "session" and isinstance(args, Mapping) and "stop" in args
    return name in ("abort", "stop") or ends_session


@dataclass(frozen=True, slots=True)
class _Change:
    """A settings change that waits, and where its reply goes."""

    request: Request
    check: Check | None
    reply: asyncio.Future[Json]


class RequestLine:
    """The requests of one pipeline. Every method on the event loop; none raises."""

    def __init__(self, pipeline: str, handler: Handler) -> None:
        self._pipeline, self._handler = pipeline, handler
        self._turn = asyncio.Lock()
        self._commands = 0
        self._ended = 0
        self._urgent: dict[str, asyncio.Task[Json]] = {}
        self._changes: list[_Change] = []
        self._changing: asyncio.Task[None] | None = None
        self._next_change = 0.0

    async def command(self, request: Request, check: Check | None) -> Json:
        """The reply to a command, when it was its turn."""
        name, args = request.get("command"), request.get("args")
        if is_urgent(name, args):
            return await self._at_once(f"{name} {to_json(args or {})}", request, check)
        if self._commands >= MAX_COMMANDS:
            return _refused(request, "too many requests are waiting", f"at most {MAX_COMMANDS}")
        ended, earlier = self._ended, [change.reply for change in self._changes]
        self._commands += 1
        try:
            async with self._turn:
                if earlier:
                    await asyncio.wait(earlier)  # what was set before holds for this command
                if name == "start" and ended != self._ended:
                    return _refused(
                        request, "it was ended by abort or stop before it began", "start again"
                    )
                return await self._carry_out("command", request, check)
        finally:
            self._commands -= 1

    async def settings(self, request: Request, check: Check | None) -> Json:
        """The reply to a settings change, within a pace or two."""
        if len(self._changes) >= MAX_SETTINGS:
            return _refused(request, "too many changes are waiting", f"at most {MAX_SETTINGS}")
        reply: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._changes.append(_Change(request, check, reply))
        if self._changing is None or self._changing.done():
            self._changing = asyncio.create_task(self._change(), name=f"set-{self._pipeline}")
        return await reply

    async def config(self, request: Request, check: Check | None) -> Json:
        """The reply to what is asked of the config file, one after the other."""
        async with self._turn:
            return await self._carry_out("config", request, check)

    async def _at_once(self, key: str, request: Request, check: Check | None) -> Json:
        """Carry out now; whoever asks for the same meanwhile gets the same answer."""
        if request.get("command") != "session":
            self._ended += 1
        running = self._urgent.get(key)
        if running is None:
            running = asyncio.create_task(self._carry_out("command", request, check))
            self._urgent[key] = running
            running.add_done_callback(lambda _: self._urgent.pop(key, None))
        return {**await asyncio.shield(running), "id": request.get("id")}

    async def _carry_out(self, kind: Kind, request: Request, check: Check | None) -> Json:
        try:
            error = await check() if check is not None else None
            if error is not None:
                return {"id": request.get("id"), "ok": False, "error": error}
            return await self._handler(self._pipeline, kind, request)
        except Exception:
            log.exception("a request failed", pipeline=self._pipeline, kind=kind)
            return _refused(request, "internal error", "see the daemon's log")

    async def _change(self) -> None:
        """Put in force what waits, until nothing does."""
        while self._changes:
            await asyncio.sleep(self._next_change - time.monotonic())
            self._next_change = time.monotonic() + SETTINGS_PACE_S
            waiting, self._changes = self._changes, []
            try:
                await self._together(waiting)
            finally:
                for change in waiting:
                    _answer(change, _refused(change.request, "internal error", "try again"))

    async def _together(self, waiting: Sequence[_Change]) -> None:
        wanted = []
        for change in waiting:
            error = await change.check() if change.check is not None else None
            if error is None:
                wanted.append(change)
            else:
                _answer(change, {"id": change.request.get("id"), "ok": False, "error": error})
        merged = _merged([change.request for change in wanted]) if len(wanted) > 1 else None
        if merged is not None:
            reply = await self._carry_out("settings", merged, None)
            if reply.get("ok"):
                for change in wanted:
                    _answer(change, {**reply, "id": change.request.get("id")})
                return
        for change in wanted:  # one of them is wrong: only that one is refused
            _answer(change, await self._carry_out("settings", change.request, None))
            await asyncio.sleep(0)


class RequestQueue:
    """The lines of all pipelines. `handler` carries requests out; None while there is none."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self._lines: dict[str, RequestLine] = {}

    async def ask(
        self, pipeline: str, kind: str, request: Request, check: Check | None = None
    ) -> Json:
        """The reply document of a request to a pipeline that there is; never raises."""
        line = self._lines.get(pipeline)
        if line is None:
            line = self._lines[pipeline] = RequestLine(pipeline, self._handle)
        if kind == "settings":
            return await line.settings(request, check)
        if kind == "config":
            return await line.config(request, check)
        return await line.command(request, check)

    def forget(self, pipeline: str) -> None:
        """The pipeline is gone."""
        self._lines.pop(pipeline, None)

    async def _handle(self, pipeline: str, kind: str, request: Request) -> Json:
        if self.handler is None:
            return not_ready(request, pipeline)
        return await self.handler(pipeline, kind, request)


def not_ready(request: Request, pipeline: str) -> Json:
    """The reply of a pipeline that is being started."""
    remedy = "try again when its state is published"
    return refused(request.get("id"), "pipeline", f"{pipeline} is not ready yet", remedy)


def _answer(change: _Change, reply: Json) -> None:
    if not change.reply.done():  # whoever asked may have gone
        change.reply.set_result(reply)


def _refused(request: Request, message: str, remedy: str) -> Json:
    return refused(request.get("id"), "", message, remedy)


def _merged(requests: Sequence[Request]) -> Json | None:
    """One change instead of several, the newest of each key; None where one is no change."""
    merged: Json = {}
    for request in requests:
        for section, values in sections_of(request).items():
            if not isinstance(values, dict):
                return None
            merged[section] = {**merged.get(section, {}), **values}
    return merged
