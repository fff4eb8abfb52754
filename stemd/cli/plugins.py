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
    """List adapters, engines, sinks and inference backends."""
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
        table.add_row(row["kind"], row["name"], row["summary"], f"no: {why}" if why else "yes")
    Console(highlight=False).print(table)
    return 0


def _rows() -> list[dict[str, str | None]]:
    from stemd import plugins
    from stemd.inference import choice

    kinds: tuple[plugins.Kind, ...] = ("adapters", "engines")
    rows: list[dict[str, str | None]] = [
        {
            "kind": kind[:-1],
            "name": plugin.name,
            "summary": plugin.summary,
            "unavailable": plugin.unavailable(),
        }
        for kind in kinds
        for plugin in plugins.catalogue(kind)
    ]
    sinks = {
        "mqtt": "states, documents and images to a broker (MQTT 5 and 3.1.1)",
        "disk": "result images as TIFF, scan.json, the catalogue",
        "record": "the camera's own bytes, as they came",
        "page": "the live page, /healthz and /metrics",
    }
    for name, summary in sinks.items():
        rows.append({"kind": "sink", "name": name, "summary": summary, "unavailable": None})
    for backend in map(choice.backend, choice.BEST_FIRST):
        about = {"name": backend.name, "summary": backend.summary}
        rows.append({"kind": "inference", **about, "unavailable": backend.unavailable()})
    return rows
