"""`stemd check` of a recording: what it holds and what looks wrong with it, in plain words."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings


@dataclass(slots=True)
class Findings:
    """What reading a whole recording has shown."""

    path: Path
    detector: str
    pattern: tuple[int, int]
    bit_depth: int
    scan: Scan
    positions_done: int
    hits: int
    counts: float
    notices: list[dict[str, Any]] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Nothing is missing and nothing looks wrong."""
        return self.positions_done == self.scan.positions and not any(
            notice["level"] != "info" for notice in self.notices
        )

    def as_json(self) -> dict[str, Any]:
        """One object for `--json`."""
        return {
            "file": str(self.path),
            "ok": self.well,
            "detector": self.detector,
            "pattern": list(self.pattern),
            "bit_depth": self.bit_depth,
            "scan": self.scan.model_dump(mode="json"),
            "positions_done": self.positions_done,
            "positions_total": self.scan.positions,
            "hits": self.hits,
            "counts": self.counts,
            "notices": self.notices,
        }


def look_at(
    path: Path, scan: Scan | None = None, settings: AdapterSettings | None = None
) -> Findings:
    """Read a recording to its end. Raises FormatError where it is not what its suffix says."""
    from stemd.adapters.files import open_recording
    from stemd.blocks import EventBlock, Notice
    from stemd.scan.run import ScanRun
    from stemd.settings import Settings

    recording = open_recording(path, scan, settings)
    try:
        acquisition = recording.acquisition
        run = ScanRun(acquisition, Settings(), [])
        hits = 0
        for block in recording.blocks(0, recording.frames):
            run.reduce(block)
            hits += block.count if isinstance(block, EventBlock) else 0
            block.release()
        detector = acquisition.detector
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for notice in recording.notices:
            if isinstance(notice, Notice):
                key = (notice.kind, notice.text)
                if key in found:
                    found[key]["count"] += notice.count
                    continue
                found[key] = {
                    "kind": notice.kind,
                    "level": notice.level,
                    "text": notice.text,
                    "remedy": notice.remedy,
                    "count": notice.count,
                }
        return Findings(
            path,
            detector.name,
            detector.shape,
            detector.bit_depth,
            acquisition.scan,
            int(run.maps.done.sum()),
            hits,
            float(run.maps.total.sum()),
            list(found.values()),
        )
    finally:
        recording.close()


def report(findings: Findings, *, as_json: bool) -> int:
    """Print the findings; the exit code: 0 when all is well, else 1."""
    if as_json:
        sys.stdout.write(json.dumps(findings.as_json(), indent=1) + "\n")
        return 0 if findings.well else 1
    scan = findings.scan
    ny, nx = scan.shape
    height, width = findings.pattern
    lines = [
        f"{findings.path}: {findings.detector}, patterns of {height} x {width}",
        f"  scan       {ny} x {nx}, flyback {scan.flyback_frames}, leading {scan.leading}"
        + (", serpentine" if scan.serpentine else ""),
        f"  positions  {findings.positions_done:,} of {scan.positions:,}",
    ]
    if findings.hits:
        mean = findings.hits / max(1, findings.positions_done)
        lines.append(f"  hits       {findings.hits:,}, {mean:,.1f} a position")
    else:
        mean = findings.counts / max(1, findings.positions_done)
        lines.append(f"  counts     {findings.counts:,.0f}, {mean:,.1f} a position")
    for notice in findings.notices:
        lines.append(f"  {notice['level']}: {notice['text']}")
        if notice["remedy"]:
            lines.append(f"    {notice['remedy']}")
    if findings.well:
        lines.append("  nothing looks wrong")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if findings.well else 1
