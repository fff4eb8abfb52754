"""What is wrong with a pipeline now: each trouble is told once and stays open until it is over."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from stemd.acquisition import iso_utc
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.logs import get_logger

QUIET_S = 5.0
"""What `notice` tells of one kind is told once in so long, the newest of those between after it."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error that has not been put right yet. `fault`: the pipeline cannot work because of it."""

    kind: str
    message: str
    remedy: str
    time: str
    fault: bool = False

    def as_json(self) -> Json:
        """The `problem` of the state document."""
        return {
            "kind": self.kind,
            "message": self.message,
            "remedy": self.remedy,
            "time": self.time,
        }


class Troubles:
    """The open troubles of a pipeline. On the event loop.

    A trouble is known by its kind and by what it is `of`: an engine, a thread; "" where there is
    only one. The same trouble told again replaces what was told before, so there are never more
    than there are kinds, engines and threads.
    """

    def __init__(self, pipeline: str, hub: Hub) -> None:
        self._open: dict[tuple[str, str], Trouble] = {}
        self._pipeline, self._hub = pipeline, hub
        self._quiet: dict[str, float] = {}
        """By kind until when nothing is told."""
        self._held: dict[str, tuple[str, str, str, int]] = {}
        """By kind what came last meanwhile: level, text, remedy, and how many came in all."""

    @property
    def last_error(self) -> Json | None:
        """The newest open trouble."""
        return self.errors[0] if self._open else None

    @property
    def errors(self) -> list[Json]:
        """All open troubles, the newest first."""
        return [trouble.as_json() for trouble in reversed(self._open.values())]

    @property
    def fault(self) -> bool:
        """Whether the pipeline is out of order because of an open trouble."""
        return any(trouble.fault for trouble in self._open.values())

    def message(self, kind: str, of: str = "") -> str | None:
        """What was told of this trouble, if it is open."""
        trouble = self._open.get((kind, of))
        return trouble.message if trouble is not None else None

    def open(self, kind: str) -> list[Trouble]:
        """The open troubles of a kind."""
        return [trouble for trouble in self._open.values() if trouble.kind == kind]

    def notice(self, level: str, text: str, remedy: str, kind: str) -> bool:
        """Tell it, unless its kind has just been told: then the newest waits; True if told.

        An error that is not open is always told.
        """
        now = time.monotonic()
        news = level == "error" and not self.open(kind)
        if now < self._quiet.get(kind, 0.0) and not news:
            count = self._held[kind][3] if kind in self._held else 0
            if not count:
                asyncio.get_running_loop().call_later(
                    self._quiet[kind] - now, self._tell_held, kind
                )
            self._held[kind] = level, text, remedy, count + 1
            return False
        self._quiet[kind] = now + QUIET_S
        self._held.pop(kind, None)
        self.tell(level, text, remedy, kind)
        return True

    def _tell_held(self, kind: str) -> None:
        """The quiet time is over: tell what came last in it."""
        held = self._held.pop(kind, None)
        if held is None:
            return
        level, text, remedy, count = held
        if level == "error" and not self.open(kind):
            return  # it is over already
        if count > 1:
            text = f"{text} (and {count - 1} more of this kind since it was last told)"
        self._quiet[kind] = time.monotonic() + QUIET_S
        self.tell(level, text, remedy, kind)

    def tell(
        self,
        level: str,
        text: str,
        remedy: str,
        kind: str,
        *,
        of: str = "",
        fault: bool = False,
    ) -> None:
        """Log it and publish it; if it is an error, it is open from now on."""
        now = time.time_ns()
        entry = {
            "level": level,
            "kind": kind,
            "message": text,
            "remedy": remedy,
            "time": iso_utc(now),
            "time_ns": now,
        }
        if level == "error":
            self._open.pop((kind, of), None)  # the newest stands last
            self._open[kind, of] = Trouble(kind, text, remedy, iso_utc(now), fault)
        if level != "info":
            self._hub.log(self._pipeline, entry)
        getattr(log, level)(text, pipeline=self._pipeline, **({"remedy": remedy} if remedy else {}))

    def error(
        self, error: StemdError, kind: str = "error", *, of: str = "", fault: bool = False
    ) -> None:
        """Something failed."""
        self.tell("error", error.message, error.remedy, kind, of=of, fault=fault)

    def over(self, *kinds: str, of: str | None = None) -> bool:
        """The causes of these kinds have gone, if `of` is given only of that; True if any was open.

        No kind given: everything is over.
        """
        gone = [
            key
            for key in self._open
            if (not kinds or key[0] in kinds) and (of is None or key[1] == of)
        ]
        for key in gone:
            del self._open[key]
        return bool(gone)
