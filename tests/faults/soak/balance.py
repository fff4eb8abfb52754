"""The soak's balance: what left the cameras against what the catalogue and the disk say."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import tifffile

from stemd.errors import StemdError
from stemd.storage.catalogue.catalogue import Catalogue
from stemd.storage.completions import is_outstanding
from tests.faults.soak.cameras import POSITIONS, Merlin, Sent, SlowCamera, Timepix3, marked_number

KEPT_S = 20.0
"""A scan's folder is judged when its scan has been over for so long, then it makes room."""


class Balance:
    """Judges every scan once its files are written, and clears them away."""

    def __init__(self, data: Path, merlin: SlowCamera, timepix: SlowCamera) -> None:
        assert isinstance(merlin, Merlin)
        assert isinstance(timepix, Timepix3)
        self._data, self._merlin, self._timepix = data, merlin, timepix
        self._judged: set[str] = set()
        self._found: dict[tuple[str, int], list[str]] = {}
        self._status: Counter[str] = Counter()
        self.changed: list[str] = []
        self.unknown: list[str] = []

    def look(self, *, last: bool = False) -> None:
        """Judge what is over; `last`: also what has only just ended."""
        before = time.time_ns() - (0 if last else int(KEPT_S * 1e9))
        try:
            catalogue = Catalogue.read_only(self._data)
            rows = catalogue.list()
            catalogue.close()
        except StemdError:
            return  # not there yet, or held: looked at again
        for row in rows:
            over = row["status"] != "acquiring" and (row["finished_ns"] or 0) < before
            over = over and (last or not is_outstanding(row))
            if row["id"] not in self._judged and over:
                self._judged.add(row["id"])
                self._judge(row)

    def _judge(self, row: dict[str, Any]) -> None:
        folder = self._data / row["folder"]
        raw = next(iter(folder.glob("raw.*[!r]")), None)
        record = raw.read_bytes() if raw is not None else b""
        merlin = row["pipeline"] == "merlin"
        number = marked_number(record) if merlin else self._number_of_hits(record)
        sent = self._sent(row, number)
        self._status[f"{row['pipeline']} {row['status']}"] += 1
        if sent is None:
            self.unknown.append(f"{row['id']} {row['status']}")
            return
        said = row["status"]
        if said != "not recorded":
            wrong = self._frames(row, sent, record) if merlin else self._hits(row, sent, folder)
            if wrong:
                self.changed.append(f"{row['id']} {row['pipeline']} {sent.number} {said}: {wrong}")
        elif not row["not_written"]:
            self.changed.append(f"{row['id']} {said}, and does not say what was not written")
        self._found.setdefault((sent.camera, sent.number), []).append(said)
        shutil.rmtree(folder, ignore_errors=True)

    def _number_of_hits(self, record: bytes) -> int | None:
        """The newest scan whose first pulse stands in a record: what came before is there too."""
        found = [n for word, n in list(self._timepix.signatures.items()) if word in record]
        return max(found, default=None)

    def _sent(self, row: dict[str, Any], number: int | None) -> Sent | None:
        """The scan of a row: by its number, or, without a record, by its time."""
        camera = self._merlin if row["pipeline"] == "merlin" else self._timepix
        if number is not None and number < len(camera.sent):
            return camera.sent[number]
        before = [s for s in camera.sent if s.began_ns < row["started_ns"] + 100_000_000]
        return before[-1] if before else None

    def _frames(self, row: dict[str, Any], sent: Sent, record: bytes) -> str:
        frames = self._merlin.frames(sent.number)
        whole = b"".join(frames)
        if row["status"] == "complete":
            return "" if record == whole and sent.whole else "the record is not what was sent"
        if not whole.startswith(record):
            return "the record is not the beginning of what was sent"
        return "" if len(record) == row["positions_done"] * len(frames[0]) else "frames are missing"

    def _hits(self, row: dict[str, Any], sent: Sent, folder: Path) -> str:
        try:
            hits = int(tifffile.imread(folder / "sum.tif").sum())
        except (OSError, ValueError) as error:
            told = any(
                "sum.tif" in text or text == "image sum" for text in row["not_written"] or ()
            )
            return "" if told else f"sum.tif cannot be read, not told in {row}: {error}"
        there = self._timepix.hits[sent.number]
        if row["status"] == "complete":
            return "" if hits == there else f"{hits} hits of {there}"
        return "" if hits <= there and row["positions_done"] <= POSITIONS else "too many hits"

    def report(self) -> dict[str, Any]:
        """All that left a camera, by what became of it."""
        fate: Counter[str] = Counter()
        missing = []
        for camera in (self._merlin, self._timepix):
            for sent in camera.sent:
                said = self._found.get((sent.camera, sent.number), [])
                kind = "whole" if sent.whole and not sent.lost else "torn by its fault"
                if said:
                    fate[f"{camera.name}, {kind}: {' and '.join(said)}"] += 1
                elif kind == "whole":
                    missing.append(f"{camera.name} {sent.number}")
                else:
                    fate[f"{camera.name}, {kind}: nothing arrived"] += 1
        return {
            "scans_sent": len(self._merlin.sent) + len(self._timepix.sent),
            "rows": dict(sorted(self._status.items())),
            "fate": dict(sorted(fate.items())),
            "missing": missing,
            "changed": self.changed,
            "rows_of_no_scan": self.unknown,
        }
