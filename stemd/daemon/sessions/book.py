"""The book of one session: what was asked, what was got, what was missing and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemd.acquisition import iso_utc, new_scan_id
from stemd.config.session_plan import SessionPlan
from stemd.daemon.decisions import KnownSession
from stemd.daemon.sessions.outages import Needed, Outages
from stemd.events import Json
from stemd.wording import one_of

SHOWN = 20
"""Scans, events and outages in the message and the catalogue, the newest; the file has all."""
LISTS = ("scans", "events", "outages")
MAX_EVENTS = 1000
"""A fault that comes back all night is told so often; further ones are only counted."""
SIGN_OF_LIFE_S = 30.0
"""The file says so often that the daemon lives, so that a kill is known to the half minute."""
STATUSES = ("complete", "incomplete", "aborted", "not recorded")
_COUNTED = ("complete", "incomplete")


class SessionBook:
    """Everything known of a session, as the JSON document that is published and kept.

    `status` is `running`, then `complete` (all that was asked) or `ended` (a condition, the
    operator, the config). A running session whose file is found by a new daemon goes on. Pure:
    whoever calls knows the time. `changes` counts what happened, for who keeps it on disk.
    """

    def __init__(self, document: Json) -> None:
        self.document = document
        self.plan = SessionPlan.model_validate(document["plan"])
        self.changes = 0
        document.setdefault("unfinished", [document["current"]] if document["current"] else [])
        self._outages = Outages(document)

    @classmethod
    def begin(
        cls, plan: SessionPlan, pipeline: str, instrument: str, now_ns: int, *, from_config: bool
    ) -> SessionBook:
        """A new session."""
        document: Json = {
            "id": new_scan_id(now_ns),
            "name": plan.name,
            "pipeline": pipeline,
            "instrument": instrument,
            "from_config": from_config,
            "status": "running",
            "reason": "",
            "stopping": "",
            "withdrawn": False,
            "started": iso_utc(now_ns),
            "started_ns": now_ns,
            "finished": None,
            "finished_ns": None,
            "seen_ns": now_ns,
            "suspended_ns": None,
            "boot_id": "",
            "plan": plan.model_dump(mode="json"),
            "settings_made": False,
            "scans": [],
            "current": None,
            "unfinished": [],
            "events": [],
            "events_dropped": 0,
        }
        return cls(document)

    @property
    def id(self) -> str:
        """Of the session."""
        return str(self.document["id"])

    @property
    def running(self) -> bool:
        """Whether it is to go on."""
        return bool(self.document["status"] == "running")

    @property
    def known(self) -> KnownSession:
        """What the decision about it depends on."""
        document = self.document
        return KnownSession(
            self.id,
            str(document["pipeline"]),
            self.plan,
            self.running,
            bool(document.get("from_config")),
            bool(document.get("withdrawn")),
        )

    @property
    def counted(self) -> int:
        """Scans that count: those that no fault cut off, and that are on the disk."""
        return sum(scan["status"] in _COUNTED for scan in self.document["scans"])

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Ids of scans that have begun and of which the end is not known."""
        return tuple(self.document["unfinished"])

    @property
    def newest_scan(self) -> str:
        """The id of the newest scan that the book knows of; the session's own before there is."""
        over = [str(scan["id"]) for scan in self.document["scans"]]
        return max([self.id, *self.unfinished, *over])

    def note(self, level: str, message: str, now_ns: int) -> None:
        """Something happened."""
        self.changes += 1
        events = self.document["events"]
        if len(events) >= MAX_EVENTS:
            self.document["events_dropped"] += 1
            return
        entry = {"time": iso_utc(now_ns), "time_ns": now_ns, "level": level, "message": message}
        events.append(entry)

    def amend(self, plan: SessionPlan, now_ns: int) -> None:
        """The config has another plan of its name: the session goes on under that one."""
        if plan.wish == self.plan.wish:
            return
        if plan.settings != self.plan.settings:
            self.document["settings_made"] = False
        self.plan = plan
        self.document["plan"] = plan.model_dump(mode="json")
        self.note("info", "the config has another plan for it", now_ns)

    def stop(self, reason: str) -> None:
        """It is to end after its running scan, also if a new daemon goes on with it."""
        self.document["stopping"] = reason
        self.changes += 1

    def begun(self, scan_id: str) -> None:
        """A scan of the session has begun."""
        if not self._has(scan_id):
            self.document["unfinished"] = [*self.unfinished, scan_id]
        self._open_scans()

    def got(self, scan: Mapping[str, Any], now_ns: int) -> None:
        """A scan of the session is over; `scan` is its document. Twice is as once."""
        if not self._has(str(scan["id"])):
            entry = {key: scan.get(key) for key in ("id", "status", "positions_done", "missing")}
            counters = scan.get("counters") or {}
            entry["counts_per_position"] = counters.get("counts_per_position")
            entry["finished"] = scan.get("finished") or iso_utc(now_ns)
            self.document["scans"].append(entry)
            if scan["status"] != "complete":
                missing = "" if scan.get("missing") is None else f": {scan['missing']} missing"
                self.note("warning", f"scan {scan['id']} is {scan['status']}{missing}", now_ns)
        self.document["unfinished"] = [each for each in self.unfinished if each != scan["id"]]
        self._open_scans()

    def cut_off(self, scan_id: str, now_ns: int) -> None:
        """Nothing is known of the end of a scan that was running when a daemon ended."""
        self.got({"id": scan_id, "status": "aborted"}, now_ns)

    def _has(self, scan_id: str) -> bool:
        return any(scan["id"] == scan_id for scan in self.document["scans"])

    def _open_scans(self) -> None:
        self.document["current"] = self.unfinished[-1] if self.unfinished else None
        self.changes += 1

    def gone(self, what: Needed, now_ns: int) -> None:
        """What the session needs is not there any more."""
        self.changes += self._outages.begin(what, now_ns)

    def back(self, what: Needed, now_ns: int) -> None:
        """It is there again."""
        self.changes += self._outages.end(what, now_ns)

    def alive(self, now_ns: int, boot_id: str) -> None:
        """A sign of life, for the file."""
        self.document |= {"seen_ns": now_ns, "suspended_ns": None, "boot_id": boot_id}

    def suspended(self, now_ns: int, boot_id: str) -> None:
        """The daemon or the pipeline ends as it should; somebody will go on."""
        self.changes += 1
        self.document |= {"seen_ns": now_ns, "suspended_ns": now_ns, "boot_id": boot_id}

    def goes_on(self, now_ns: int, boot_id: str) -> None:
        """A new daemon, or a pipeline with another config, goes on with it."""
        document = self.document
        again: Needed = "pipeline" if document.get("boot_id") == boot_id else "daemon"
        suspended = document.get("suspended_ns")
        since = suspended or document.get("seen_ns") or document["started_ns"]
        self._outages.add(again, since, now_ns, 0.0 if suspended else SIGN_OF_LIFE_S)
        self.note("warning", f"the {again} was started again", now_ns)
        self.alive(now_ns, boot_id)

    def over(self, now_ns: int, free_bytes: int | None) -> tuple[str, str] | None:
        """(status, reason) when the session is to end now, None while it goes on."""
        plan, scans = self.plan, self.document["scans"]
        if plan.scans is not None and self.counted >= plan.scans:
            return "complete", one_of(f"{self.counted} scans")
        if plan.until_ns is not None and now_ns >= plan.until_ns:
            return "complete", f"it is {self.document['plan']['until']}"
        limit = plan.end.min_free_gb
        if limit is not None and free_bytes is not None and free_bytes < limit * 1e9:
            return "ended", f"only {free_bytes / 1e9:.2f} GB are free (min_free_gb = {limit:g})"
        bad = plan.end.failed_scans
        if bad is not None and len(scans) >= bad:
            last = {scan["status"] for scan in scans[-bad:]}
            if "complete" not in last:
                text = f"the last {bad} scans are not complete (failed_scans = {bad})"
                return (
                    "ended",
                    text if bad > 1 else "the last scan is not complete (failed_scans = 1)",
                )
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

    def end(self, status: str, reason: str, now_ns: int, *, withdrawn: bool = False) -> None:
        """It is over."""
        self._outages.close(now_ns)
        self.changes += 1
        self.document |= {
            "status": status,
            "reason": reason,
            "withdrawn": withdrawn,
            "finished": iso_utc(now_ns),
            "finished_ns": now_ns,
        }

    def summary(self) -> Json:
        """The document with counts, as it is now."""
        scans = list(self.document["scans"])
        counts = {s: sum(scan["status"] == s for scan in scans) for s in STATUSES}
        lists = {"scans": scans, "events": list(self.document["events"])}
        outages = self._outages.listed()
        return {"event": "session", **self.document, **lists, "outages": outages, "counts": counts}

    def shown(self) -> Json:
        """The summary with the newest scans, events and outages only."""
        summary = self.summary()
        return {**summary, **{key: summary[key][-SHOWN:] for key in LISTS}}
