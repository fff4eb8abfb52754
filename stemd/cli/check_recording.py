"""`stemd check` of a recording: what it holds and what looks wrong with it, in plain words."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings
from stemd.errors import FormatError, StemdError


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
    facts: list[str] = field(default_factory=list)
    """What the file tells to whoever has to choose the scan's size; nothing where it is known."""

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
            "facts": self.facts,
        }


def look_at(
    path: Path,
    scan: Scan | None = None,
    settings: AdapterSettings | None = None,
    dataset: str | None = None,
) -> Findings:
    """Read a recording to its end. Raises FormatError where it is not what its suffix says."""
    from stemd.acquisition import Optics
    from stemd.adapters.files import open_recording, survey
    from stemd.blocks import EventBlock
    from stemd.scan.masking import BrokenPixels
    from stemd.scan.run import ScanRun
    from stemd.settings import Settings

    recording = open_recording(path, scan, settings, dataset)
    try:
        acquisition = recording.acquisition
        run = ScanRun(acquisition, Settings(), [])
        broken = BrokenPixels(acquisition, Optics())
        hits = 0
        for block in recording.blocks(0, recording.frames):
            for said in broken.look(block):
                run.tell(said)
            run.reduce(block)
            hits += block.count if isinstance(block, EventBlock) else 0
            block.release()
        detector = acquisition.detector
        for said in broken.hints():
            run.tell(said)
        run.count(recording.notices)
        return Findings(
            path,
            detector.name,
            detector.shape,
            detector.bit_depth,
            acquisition.scan,
            int(run.maps.done.sum()),
            hits,
            float(run.maps.total.sum()) * detector.scale,
            run.notices,
            survey(path) if scan is None and isinstance(path, Path) else [],
        )
    finally:
        recording.close()


def facts_of(path: Path) -> list[str]:
    """What a recording tells whose scan is not known; nothing where it tells nothing."""
    from stemd.adapters.files import survey

    try:
        return survey(path)
    except (StemdError, OSError, ValueError):
        return []


def with_facts(error: StemdError, facts: list[str]) -> StemdError:
    """The error of a recording, with what its file tells."""
    if not facts:
        return error
    told = "".join(f"\n  the file tells: {fact}" for fact in facts)
    return FormatError(error.message + told, error.remedy)


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
    lines += [f"  the file tells: {fact}" for fact in findings.facts]
    for notice in findings.notices:
        lines.append(f"  {notice['level']}: {notice['text']}")
        if notice["remedy"]:
            lines.append(f"    {notice['remedy']}")
    if findings.well:
        lines.append("  nothing looks wrong")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if findings.well else 1
