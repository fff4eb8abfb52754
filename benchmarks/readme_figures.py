"""The table of speeds in README.md, made of one file of `stemd bench --json`.

    stemd bench --json > bench.json                  # on a quiet machine, some minutes
    python -m benchmarks.readme_figures bench.json   # rewrites the table, and names the machine

Every row is from this one run. Nothing is written where rows are missing from the file: they are
named, and the program ends with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: benchmarks/readme_figures.py writes them -->", "<!-- end of figures -->"
README = Path(__file__).parents[1] / "README.md"

ROWS = {
    "moments/u16-native/256": "sum, moments, 16 bits native",
    "moments/u16-big-endian/256": "the same, big-endian, as it comes from the camera",
    "moments/u16-big-endian/256+1-detectors": "with one annular detector",
    "moments/u16-big-endian/256+4-detectors": "with four",
    "moments/u8/256": "8 bits",
    "unpack/r64-12/256": "12-bit raw, unpacked",
    "ricom/61": "riCOM alone",
    "direct/live/defocus": "`direct`, live, 96 x 96 of 8 bits, out of focus",
    "process/mib-u16/256/ricom61+annulus": "2 GiB `.mib` in page cache",
    "process/mib-u16/256/ricom61+annulus/2-threads": "the same, two threads",
    "live/merlin-u16/256/ricom61+annulus": "live over TCP",
    "live/dectris-u16/96/ricom61+annulus": "DECTRIS live, 96 x 96, 16 bits, `bslz4`",
    "airpi/engine": "AIRPI, all of it",
    "events/tpx3/100-hits/ricom61+annulus": "Timepix3, 100 hits a position, from a file",
    "events/tpx3/20-hits/ricom61+annulus": "Timepix3, 20 hits a position, from a file",
    "live/timepix3-40M-hits/ricom61+annulus": "Timepix3 live at a link's 40,000,000 hits/s",
}
"""What stands in the table, by the name of the row of `stemd bench`."""
LEAST_SHARE = 0.1
"""What is farther from a limit is bounded by something else."""

Rows = Mapping[str, Mapping[str, Any]]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a file of `stemd bench --json`, by name. Raises OSError, ValueError."""
    text = path.read_text(encoding="utf-8")
    try:
        rows = json.loads(text)
        return {row["name"]: row for row in rows}
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no file of stemd bench --json: {error}") from error


def table(rows: Rows) -> str:
    """The table with what it was measured on, as Markdown. Raises ValueError for missing rows."""
    missing = [name for name in (*ROWS, "memory/read") if name not in rows]
    if missing:
        raise ValueError(f"the file has no rows {', '.join(missing)}")
    machines = {str(row["machine"]) for name, row in rows.items() if name in ROWS}
    if len(machines) != 1:
        raise ValueError(f"the file has rows of several machines: {'; '.join(sorted(machines))}")
    memory = rows["memory/read"]
    head = (
        f"Measured on {machines.pop()}; one core reads memory at {_number(memory['value'])} "
        f"{memory['unit']}. `stemd bench` measures yours; compare the ratios. Patterns are "
        "256 x 256, riCOM 61 x 61 with one annular detector, one thread, where nothing else is "
        "said."
    )
    lines = [
        "| path | rate | CPU a frame | of its limit | the limit |",
        "|---|---:|---:|---:|---|",
        *(_line(title, rows[name]) for name, title in ROWS.items()),
    ]
    return "\n".join([head, "", *lines])


def _line(title: str, row: Mapping[str, Any]) -> str:
    cpu, fraction, limit = row["cpu_us_per_frame"], row["fraction"], str(row["limit_name"])
    if fraction is not None and fraction < LEAST_SHARE:
        fraction, limit = None, ""
    cells = [
        title,
        f"{_number(row['value'])} {row['unit']}",
        "" if cpu is None else f"{cpu:.2g} µs" if cpu < 10 else f"{cpu:.1f} µs",
        "" if fraction is None else f"{fraction:.0%}".replace("%", " %"),
        limit,
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _number(value: float) -> str:
    """Three digits that count, with commas."""
    if value < 1000:
        return f"{value:.3g}"
    digits = 10 ** (len(str(int(value))) - 3)
    return f"{round(value / digits) * digits:,}"


def rewritten(text: str, made: str) -> str:
    """A README with this between the two marks. Raises ValueError where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"it has no {BEGIN} with {END} behind it")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the README is rewritten; 1: it is as it was, and why is told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="of stemd bench --json")
    parser.add_argument("readme", type=Path, nargs="?", default=README)
    chosen = parser.parse_args(arguments)
    try:
        text = rewritten(chosen.readme.read_text(encoding="utf-8"), table(rows_of(chosen.file)))
        chosen.readme.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"readme_figures: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
