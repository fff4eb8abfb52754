"""A scan of the catalogue in words, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from stemd.cli.table import table
from stemd.documents import to_json

Json = Mapping[str, Any]
STATUS_COLOURS = {
    **{"not recorded": "red", "incomplete": "yellow", "aborted": "red"},
    **{"acquiring": "cyan", "complete": "green"},
}


def list_lines(scans: list[Json], width: int | None) -> list[str]:
    """A table of scans; `pipeline` and `sample` only where they tell scans apart."""
    titles = ["scan", "status", "shape", "MB", "images"]
    several = len({scan["pipeline"] for scan in scans}) > 1
    about = any(about_words(scan) for scan in scans)
    titles += ["pipeline"] * several + ["about"] * about
    rows = []
    for scan in scans:
        ny, nx = scan["shape"]
        row = [scan["id"], status(scan), f"{ny} x {nx}", f"{scan['bytes'] / 1e6:.1f}"]
        row += ["deleted" if _deleted(scan) == "scan" else str(len(scan["results"]))]
        row += [scan["pipeline"]] * several + [about_words(scan)] * about
        rows.append(row)
    elastic = ["about"] * about + ["pipeline"] * several
    return table(titles, rows, right=("MB", "images"), elastic=elastic[::-1], width=width)


def status(scan: Json) -> str:
    """Its status, with how much there is of a scan that is not whole."""
    done, total = scan["positions_done"], scan["positions_total"]
    if scan["status"] in ("complete", "acquiring") or not total or done == total:
        return str(scan["status"])
    return f"{scan['status']} {_percent(done / total)}"


def _deleted(scan: Json) -> str:
    """What is gone of it: "scan", "raw", "" for nothing."""
    return str((scan.get("deleted") or {}).get("what", ""))


def _percent(part: float) -> str:
    return f"{min(part, 0.999):.1%}" if part >= 0.995 else f"{part:.0%}"


def about_words(scan: Json) -> str:
    """Sample, comment, operator and tags in one line."""
    about = scan.get("about") or {}
    words = [about.get("sample"), about.get("comment"), about.get("operator")]
    words += [f"#{tag}" for tag in about.get("tags") or ()]
    return "; ".join(" ".join(str(each).split()) for each in words if each)


def show_lines(scan: Json, data_dir: Path) -> list[str]:
    """Everything that matters of one scan, a line each; `--json` has the rest."""
    found = list(_facts(scan, data_dir))
    wide = max(len(name) for name, _ in found)
    lines = []
    for name, text in found:
        first, *more = text.split("\n")
        lines.append(f"{name:<{wide}}  {first}")
        lines += [" " * (wide + 2) + line for line in more]
    return lines


def _facts(scan: Json, data_dir: Path) -> Iterator[tuple[str, str]]:
    yield "scan", scan["id"]
    yield "status", status(scan)
    about = scan.get("about") or {}
    for name in ("sample", "operator", "comment"):
        if about.get(name):
            yield name, str(about[name])
    if about.get("tags"):
        yield "tags", ", ".join(about["tags"])
    yield "pipeline", f"{scan['pipeline']} of {scan['instrument']}"
    yield "started", _moment(scan["started"]) + _took(scan)
    ny, nx = scan["shape"]
    missing = scan.get("missing") or 0
    holes = f", {missing:,} missing" if missing else ""
    yield "positions", f"{ny} x {nx}: {scan['positions_done']:,} done{holes}"
    yield "folder", str(data_dir / scan["folder"])
    without = "deleted" if _deleted(scan) == "scan" else "none"
    yield "images", ", ".join(scan["results"]) or without
    yield "size", f"{scan['bytes'] / 1e6:.1f} MB"
    optics = {key: value for key, value in (scan.get("optics") or {}).items() if _is_said(value)}
    if optics:
        yield "optics", "\n".join(f"{key} = {_value(value)}" for key, value in optics.items())
    for name in ("session", "source"):
        if scan.get(name):
            yield name, str(scan[name])
    for name in ("not_written", "notes"):
        if scan.get(name):
            yield name.replace("_", " "), "\n".join(str(each) for each in scan[name])
    if completion := scan.get("completion"):
        words = [completion.get(key) for key in ("status", "message", "remedy")]
        yield "completion", "\n".join(str(each) for each in words if each)
    if deleted := scan.get("deleted"):
        what = "the raw record" if deleted["what"] == "raw" else "the whole scan"
        yield "deleted", f"{what}, {_moment(deleted['time'])}: {deleted['reason']}"


def _moment(text: str) -> str:
    return f"{text[:19].replace('T', ' ')} UTC"


def _took(scan: Json) -> str:
    if not scan.get("finished"):
        return ""
    seconds = _seconds(scan["finished"]) - _seconds(scan["started"])
    return f", took {seconds:.1f} s"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _is_said(value: Any) -> bool:
    return value is not None and value is not False and value != 0.0


def _value(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)
