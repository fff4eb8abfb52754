"""When what a session needs was not there, and for how long."""

from __future__ import annotations

from typing import Literal

from stemd.acquisition import iso_utc
from stemd.events import Json

Needed = Literal["camera", "broker", "disk", "pipeline", "daemon"]
MAX_OUTAGES = 1000
"""Listed; further ones only add to the seconds."""


class Outages:
    """The part of a session's document that lists outages. Pure: whoever calls knows the time.

    `gone` holds those that last, `outages` those that are over, `outage_seconds` the sums.
    """

    def __init__(self, document: Json) -> None:
        self._document = document
        gone = document.setdefault("gone", {})
        listed = document.setdefault("outages", [])
        # a kept document lists those that last, too
        over = [each for each in listed if each["to_ns"] is not None or each["what"] not in gone]
        document["outages"] = over
        document.setdefault("outages_dropped", 0)
        document.setdefault("outage_seconds", {})

    def begin(self, what: Needed, now_ns: int) -> bool:
        """It is gone; False when that was known."""
        if what in self._document["gone"]:
            return False
        self._document["gone"] = {**self._document["gone"], what: now_ns}
        return True

    def end(self, what: Needed, now_ns: int) -> bool:
        """It is back; False when it was not gone."""
        if what not in self._document["gone"]:
            return False
        gone = dict(self._document["gone"])
        self.add(what, gone.pop(what), now_ns)
        self._document["gone"] = gone
        return True

    def add(self, what: Needed, from_ns: int, to_ns: int, uncertainty_s: float = 0.0) -> None:
        """An outage that is over. It may have begun up to `uncertainty_s` later."""
        self._enter(what, from_ns, to_ns, to_ns, uncertainty_s)

    def close(self, now_ns: int) -> None:
        """The session is over: those that last have no end."""
        for what, from_ns in self._document["gone"].items():
            self._enter(what, from_ns, now_ns, None)
        self._document["gone"] = {}

    def _enter(
        self,
        what: str,
        from_ns: int,
        until_ns: int,
        to_ns: int | None,
        uncertainty_s: float = 0.0,
    ) -> None:
        seconds = round(max(0, until_ns - from_ns) / 1e9, 3)
        sums = self._document["outage_seconds"]
        self._document["outage_seconds"] = {**sums, what: round(sums.get(what, 0.0) + seconds, 3)}
        if len(self._document["outages"]) >= MAX_OUTAGES:
            self._document["outages_dropped"] += 1
            return
        self._document["outages"].append(_outage(what, from_ns, to_ns, seconds, uncertainty_s))

    def listed(self) -> list[Json]:
        """All of them, those that last at the end."""
        gone = self._document["gone"].items()
        lasting = [_outage(what, from_ns, None, None, 0.0) for what, from_ns in gone]
        return [*self._document["outages"], *lasting]


def _outage(
    what: str, from_ns: int, to_ns: int | None, seconds: float | None, uncertainty_s: float
) -> Json:
    return {
        "what": what,
        "from": iso_utc(from_ns),
        "from_ns": from_ns,
        "to": None if to_ns is None else iso_utc(to_ns),
        "to_ns": to_ns,
        "seconds": seconds,
        "uncertainty_s": uncertainty_s,
    }
