"""`stemd plugins`: what can be named in a config, and why something cannot be used here."""

from __future__ import annotations

import argparse
import json
import sys

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
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("kind", "name", "what it is", "available"):
        table.add_column(column)
    for row in rows:
        why = row["unavailable"]
        there = f"no: {why}" if why else "yes"
        if row.get("versions"):
            there += f" ({row['versions']})"
        cells = row["kind"], row["name"], row["summary"], there
        table.add_row(*(str(cell).replace("[", r"\[") for cell in cells))
    Console(highlight=False).print(table)
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
