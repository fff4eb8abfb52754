"""`stemd plugins`: what can be named in a config, and why something cannot be used here."""

from __future__ import annotations

import argparse
import json
import sys

from stemd.cli.table import table, window

EXAMPLE = "stemd plugins --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """List adapters, engines, sinks and backends, also foreign ones that cannot be imported."""
    rows = _rows()
    if args.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return 0
    titles = ("kind", "name", "available", "what it is")
    cells = []
    reasons = []
    for row in rows:
        there = "no" if row["unavailable"] else "yes"
        if row.get("versions"):
            there += f" ({row['versions']})"
        cells.append((str(row["kind"]), str(row["name"]), there, str(row["summary"])))
        if row["unavailable"]:
            reasons.append(f"{row['kind']} {row['name']} cannot be used: {row['unavailable']}\n")
    lines = table(titles, cells, elastic=("available", "what it is"), width=window())
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.writelines(["\n", *reasons] if reasons else [])
    return 0


def _rows() -> list[dict[str, str | None]]:
    """One a plugin; `distribution` is the package of a foreign one that cannot be used."""
    from stemd import plugins

    rows: list[dict[str, str | None]] = []
    for kind in plugins.KINDS:
        for plugin in plugins.catalogue(kind):
            about = {"name": plugin.name, "summary": plugin.summary}
            rows.append({"kind": kind[:-1], **about, "unavailable": plugin.why_not()})
            rows[-1] |= {"versions": plugin.versions()} if plugin.libraries else {}
        for bad in plugins.broken(kind):
            whose = f"from the package {bad.distribution}, entry point group {bad.group}"
            rows.append({"kind": kind[:-1], "name": bad.name, "summary": whose})
            rows[-1] |= {"unavailable": bad.why, "distribution": bad.distribution}
    return rows
