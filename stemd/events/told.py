"""The sinks of a daemon, told one after another: what one does wrong harms no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stemd.documents import Json, error_document
from stemd.errors import StemdError
from stemd.events.sink import Sink, call_sink
from stemd.logs import get_logger

log = get_logger(__name__)

Tell = Callable[..., None]
"""Calls one `on_...` of a sink: its name, and what to tell."""


@dataclass(slots=True)
class _Told:
    """A sink by its name, and what it has raised in which of its methods and not got over."""

    name: str
    sink: Sink
    errors: dict[str, StemdError] = field(default_factory=dict)
    failures: int = 0


class ToldSinks:
    """Every sink by its name. All methods are called on the event loop, and none raises.

    What a sink raises is logged once and stands in `report` until the same works again.
    """

    def __init__(self) -> None:
        self._all: list[_Told] = []

    def add(self, sink: Sink, name: str, retained: Callable[[Tell], None]) -> None:
        """A new sink; `retained` tells it at once what is known already."""
        self._all.append(_Told(name, sink))
        self.tell_one(sink, retained)

    def remove(self, sink: Sink) -> None:
        """Tell this sink nothing more."""
        self._all = [told for told in self._all if told.sink is not sink]

    def tell(self, method: str, *what: Any) -> None:
        """Call one `on_...` of all sinks."""
        for told in self._all:
            self._call(told, method, *what)

    def tell_one(self, sink: Sink, tell_all: Callable[[Tell], None]) -> None:
        """Tell one sink several things: `tell_all` gets what calls an `on_...` of it."""
        for told in self._of(sink):
            tell_all(partial(self._call, told))

    def _of(self, sink: Sink) -> list[_Told]:
        return [told for told in self._all if told.sink is sink]

    def _call(self, told: _Told, method: str, *what: Any) -> None:
        try:
            call_sink(told.sink, told.name, method, *what)
        except Exception as error:
            self._failed(told, method, error)
        else:
            if told.errors and not told.sink._elsewhere:
                told.errors.pop(method, None)

    def failed(self, sink: Sink, doing: str, error: Exception) -> None:
        """Something that a sink does has failed: it is told once, until `well`."""
        for told in self._of(sink):
            self._failed(told, doing, error)

    def well(self, sink: Sink, doing: str) -> None:
        """It works again."""
        for told in self._of(sink):
            told.errors.pop(doing, None)

    def _failed(self, told: _Told, doing: str, error: Exception) -> None:
        told.failures += 1
        known = told.errors.get(doing)
        if isinstance(error, StemdError):
            found = error
        else:
            text = f"{type(error).__name__}: {error}"
            found = StemdError(f"sink {told.name}: {doing} failed: {text}", "see the daemon's log")
        told.errors[doing] = found
        # an error of stemd's own kind says what to do: where it was raised helps nobody
        trace = None if found is error else error
        if known is None or known.message != found.message:
            log.error(found.message, sink=told.name, remedy=found.remedy, exc_info=trace)

    def report(self) -> Json:
        """How every sink is doing: by name its failures since the start, and its error now."""
        return {
            told.name: {
                "failures": told.failures,
                "error": next((error_document(each) for each in told.errors.values()), None),
            }
            for told in self._all
        }
