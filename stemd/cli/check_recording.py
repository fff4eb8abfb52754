"""`stemd check` of a recording: what it holds and what looks wrong with it, in plain words."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings, Recording
from stemd.errors import FormatError, StemdError
from stemd.wording import one_of

MOST_SCANS = 100
"""Of one file that are looked at."""


@dataclass(slots=True)
class ScanFindings:
    """What reading one scan of a recording has shown."""

    number: int
    detector: str
    pattern: tuple[int, int]
    bit_depth: int
    scan: Scan
    positions_done: int
    hits: int
    counts: float
    whole_counts: float
    """Of the positions that are done: that at which the recording ends is none of them."""
    notices: list[dict[str, Any]]

    @property
    def well(self) -> bool:
        """Nothing is missing and nothing looks wrong."""
        return self.positions_done == self.scan.positions and not any(
            notice["level"] != "info" for notice in self.notices
        )

    def as_json(self) -> dict[str, Any]:
        """Its keys for `--json`."""
        return {
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


@dataclass(slots=True)
class Findings:
    """What reading a whole recording has shown: all of its scans, or the first MOST_SCANS."""

    path: Path
    scans: list[ScanFindings]
    facts: list[str] = field(default_factory=list)
    """What the file tells to whoever has to choose the scan's size; nothing where it is known."""
    more: bool = False
    """The file holds more scans than were looked at."""

    @property
    def well(self) -> bool:
        """Nothing is missing and nothing looks wrong."""
        return all(scan.well for scan in self.scans) and not self.more

    def as_json(self) -> dict[str, Any]:
        """One object for `--json`: the first scan's keys, and all scans with theirs."""
        return {
            "file": str(self.path),
            **self.scans[0].as_json(),
            "ok": self.well,
            "facts": self.facts,
            "scans": [{"number": scan.number, **scan.as_json()} for scan in self.scans],
            "more_scans": self.more,
        }


def look_at(
    path: Path,
    scan: Scan | None = None,
    settings: AdapterSettings | None = None,
    dataset: str | None = None,
) -> Findings:
    """Read a recording to its end, all scans in it.

    Raises FormatError where it is not what its suffix says.
    """
    from stemd.adapters.files import open_recording, survey
    from stemd.adapters.scan_choice import numbered_scans

    recording = open_recording(path, scan, settings, dataset)
    found: list[ScanFindings] = []
    more = False
    try:
        for number, each in numbered_scans(recording, path):
            if number > MOST_SCANS:
                more = True
                break
            found.append(_look_at_scan(each, number))
        facts = survey(path) if scan is None and isinstance(path, Path) else []
        return Findings(path, found, facts, more)
    finally:
        recording.close()


def _look_at_scan(recording: Recording, number: int) -> ScanFindings:
    from stemd.acquisition import Optics
    from stemd.blocks import EventBlock
    from stemd.scan.masking import BrokenPixels
    from stemd.scan.processing import no_hits
    from stemd.scan.run import ScanRun
    from stemd.settings import Settings

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
    if run.is_empty:
        run.tell(no_hits())
    for said in run.odd():
        run.tell(said)
    maps = run.sums.maps
    return ScanFindings(
        number,
        detector.name,
        detector.shape,
        detector.bit_depth,
        acquisition.scan,
        int(maps.done.sum()),
        hits,
        float(maps.total.sum()) * detector.scale,
        float(maps.total[maps.done].sum()) * detector.scale,
        run.notices,
    )


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
    first = findings.scans[0]
    height, width = first.pattern
    lines = [f"{findings.path}: {first.detector}, patterns of {height} x {width}"]
    for scan in findings.scans:
        lines += _lines(scan, numbered=len(findings.scans) > 1)
        if scan is first:
            lines += [f"  the file tells: {fact}" for fact in findings.facts]
        for notice in scan.notices:
            lines.append(f"  {notice['level']}: {notice['text']}")
            if notice["remedy"]:
                lines.append(f"    {notice['remedy']}")
    if findings.more:
        lines.append(f"  warning: more than {MOST_SCANS} scans: the others were not looked at")
    if findings.well:
        lines.append("  nothing looks wrong")
    sys.stdout.write("\n".join(map(one_of, lines)) + "\n")
    return 0 if findings.well else 1


def _lines(findings: ScanFindings, *, numbered: bool) -> list[str]:
    """What a scan is and holds, one line each."""
    scan = findings.scan
    ny, nx = scan.shape
    found = [f"scan {findings.number}"] if numbered else []
    found += [
        f"  scan       {ny} x {nx}, flyback {scan.flyback_frames}, leading {scan.leading}"
        + (", serpentine" if scan.serpentine else ""),
        f"  positions  {findings.positions_done:,} of {scan.positions:,}",
    ]
    mean = findings.whole_counts / max(1, findings.positions_done)
    cut = findings.counts - findings.whole_counts
    what, count = ("hits  ", findings.hits) if findings.hits else ("counts", findings.counts)
    found.append(
        f"  {what}     {count:,.0f}, {mean:,.1f} a position"
        + (f", {cut:,.0f} of them at a position that was cut off" if cut else "")
    )
    return found
