"""The book of one session: what was asked, what was got, what went wrong and when, on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from stemd.acquisition import iso_utc, new_scan_id
from stemd.config.session_plan import SessionPlan
from stemd.documents import read_object, to_json
from stemd.errors import StemdError
from stemd.events import Json
from stemd.storage.files import disk_error, write_atomic
from stemd.storage.store import Store

SESSIONS = "sessions"
SESSION_FILE = "session.json"
SHOWN = 20
"""Scans and events in the message and the catalogue, the newest; the file has all."""
MAX_EVENTS = 1000
"""A fault that comes back all night is told so often; further ones are only counted."""
_COUNTED = ("complete", "incomplete")

log = structlog.get_logger(__name__)


class SessionBook:
    """Everything known of a session, as the JSON document that is published and kept.

    `status` is `running`, then `complete` (all that was asked) or `ended` (a condition, the
    operator, a new plan). A running session whose file is found by a new daemon goes on.
    """

    def __init__(self, document: Json) -> None:
        self.document = document
        self.plan = SessionPlan.model_validate(document["plan"])

    @classmethod
    def begin(cls, plan: SessionPlan, pipeline: str) -> SessionBook:
        """A new session."""
        now = time.time_ns()
        document: Json = {
            "id": new_scan_id(now),
            "name": plan.name,
            "pipeline": pipeline,
            "status": "running",
            "reason": "",
            "started": iso_utc(now),
            "started_ns": now,
            "finished": None,
            "finished_ns": None,
            "plan": plan.model_dump(mode="json"),
            "scans": [],
            "current": None,
            "events": [],
            "events_dropped": 0,
        }
        return cls(document)

    @property
    def running(self) -> bool:
        """Whether it is to go on."""
        return bool(self.document["status"] == "running")

    @property
    def counted(self) -> int:
        """Scans that count: those that no fault cut off, and that are on the disk."""
        return sum(scan["status"] in _COUNTED for scan in self.document["scans"])

    def note(self, level: str, message: str) -> None:
        """Something happened."""
        now = time.time_ns()
        events = self.document["events"]
        if len(events) >= MAX_EVENTS:
            self.document["events_dropped"] += 1
            return
        events.append({"time": iso_utc(now), "time_ns": now, "level": level, "message": message})

    def begun(self, scan_id: str) -> None:
        """A scan of the session has begun."""
        self.document["current"] = scan_id

    def got(self, scan: Mapping[str, Any]) -> None:
        """A scan of the session is over; `scan` is its document."""
        entry = {key: scan[key] for key in ("id", "status", "positions_done", "missing")}
        entry["counts_per_position"] = scan["counters"].get("counts_per_position")
        entry["finished"] = scan["finished"]
        self.document["scans"].append(entry)
        self.document["current"] = None
        if scan["status"] != "complete":
            self.note(
                "warning", f"scan {scan['id']} is {scan['status']}: {scan['missing']} missing"
            )

    def cut_off(self) -> None:
        """A new daemon goes on with it: a scan that was running was cut off."""
        current = self.document["current"]
        self.note("warning", "the daemon was started again")
        if current is not None:
            entry = {"id": current, "status": "aborted", "positions_done": None, "missing": None}
            self.document["scans"].append(
                {**entry, "counts_per_position": None, "finished": iso_utc(time.time_ns())}
            )
            self.document["current"] = None

    def over(self, now_ns: int, free_bytes: int | None) -> tuple[str, str] | None:
        """(status, reason) when the session is to end now, None while it goes on."""
        plan, scans = self.plan, self.document["scans"]
        if plan.scans is not None and self.counted >= plan.scans:
            return "complete", f"{self.counted} scans"
        if plan.until_ns is not None and now_ns >= plan.until_ns:
            return "complete", f"it is {self.document['plan']['until']}"
        limit = plan.end.min_free_gb
        if limit is not None and free_bytes is not None and free_bytes < limit * 1e9:
            return "ended", f"only {free_bytes / 1e9:.2f} GB are free (min_free_gb = {limit:g})"
        bad = plan.end.failed_scans
        if bad is not None and len(scans) >= bad:
            last = {scan["status"] for scan in scans[-bad:]}
            if "complete" not in last:
                return "ended", f"the last {bad} scans are not complete (failed_scans = {bad})"
        return self._dose_lost()

    def _dose_lost(self) -> tuple[str, str] | None:
        limit = self.plan.end.lost_dose
        doses = [
            scan["counts_per_position"]
            for scan in self.document["scans"]
            if scan["status"] == "complete" and scan["counts_per_position"] is not None
        ]
        if limit is None or len(doses) < 2 or doses[-1] >= limit * doses[0]:
            return None
        share = doses[-1] / doses[0] if doses[0] else 0.0
        return "ended", f"dose lost: {share:.0%} of the first scan's (lost_dose = {limit:g})"

    def end(self, status: str, reason: str) -> None:
        """It is over."""
        now = time.time_ns()
        self.document |= {
            "status": status,
            "reason": reason,
            "finished": iso_utc(now),
            "finished_ns": now,
        }

    def summary(self) -> Json:
        """The document with counts."""
        scans = self.document["scans"]
        statuses = ("complete", "incomplete", "aborted", "not recorded")
        counts = {s: sum(scan["status"] == s for scan in scans) for s in statuses}
        return {"event": "session", **self.document, "counts": counts}

    def shown(self) -> Json:
        """The summary with the newest scans and events only."""
        summary = self.summary()
        return {**summary, **{key: summary[key][-SHOWN:] for key in ("scans", "events")}}


def keep(store: Store, book: SessionBook) -> None:
    """Write session.json and the catalogue's entry. Blocks; raises SinkError."""
    store.check()
    document = book.summary()
    folder = store.data_dir / SESSIONS / document["id"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, "make the session's folder", folder) from error
    write_atomic(folder / SESSION_FILE, [(to_json(document, indent=1) + "\n").encode()])
    shown = book.shown()
    store.rows.put(shown["id"], lambda catalogue: catalogue.put_session(shown))


def stored(store: Store, pipeline: str) -> list[SessionBook]:
    """The sessions of a pipeline, the newest first; unreadable files are logged and left."""
    books = []
    for path in sorted((store.data_dir / SESSIONS).glob(f"*/{SESSION_FILE}"), reverse=True):
        try:
            document = read_object(path)
            if document["pipeline"] == pipeline:
                books.append(SessionBook(document))
        except (OSError, ValueError, KeyError, TypeError, StemdError) as error:
            log.warning("a session's file cannot be read", path=str(path), error=str(error))
    return books
