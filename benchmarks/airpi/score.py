"""The score table of phase images: a network beside riCOM, iCOM and SSB, on unseen specimens.

    python -m benchmarks.airpi.score --method airpi=my_module:my_function

Correlation with the true phase at 500, 1e4, 1e5 e/A^2 and without noise. A method is a function
from `scan4d.Scan4D` to `scan4d.Picture`. Scans are simulated when first asked for (some minutes a
scan) and kept in `--folder`; `--cache` keeps the results of the methods that are built in. Each
number can be had with the best low-pass that the truth itself chooses, in the columns "+".
Needs scipy, and torch, abtem and ase for the simulation; pillow for `--pictures`.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.airpi.measures import (
    BANDS,
    atom_ranks,
    best_low_pass,
    common_score,
    deviation,
    ring_correlations,
    score,
)
from benchmarks.airpi.methods import METHODS, ORACLES
from benchmarks.airpi.montage import montage
from benchmarks.airpi.scan4d import Method, Picture, Scan4D
from benchmarks.airpi.simulate import DEFAULT_FOLDER, Plan, plans, scan

DOSES = (5e2, 1e4, 1e5, math.inf)
MAIN = ("mos2", "srtio3", "mgo", "graphene", "gold-wedge", "sodalite")
STEPS = ("mos2", "mos2-step-0.2", "mos2-step-0.4", "mos2-step-0.8", "mos2-step-1.6")
OTHERS = ("srtio3-12A", "srtio3", "srtio3-27A", "mos2-80kV")
ATOMS, NOTHING = "single-atoms", "vacuum"

Row = dict[str, Any]
Rows = dict[str, Row]


def measured(picture: Picture, data: Scan4D) -> Row:
    """Every number of one image."""
    row: Row = {"deviation": deviation(picture, data)}
    if data.name == NOTHING:
        return row
    row["ncc"] = score(picture, data)
    row["common"] = common_score(picture, data)
    row["rings"] = ring_correlations(picture, data)
    if data.name == ATOMS:
        row["ranks"] = atom_ranks(picture, data)
    row["ncc_low_pass"] = score(best_low_pass(picture, data), data)
    return row


def scores(
    plan: Plan, folder: Path, methods: Mapping[str, Method], cache: Rows,
    doses: tuple[float, ...] = DOSES, pictures: Path | None = None,
) -> Rows:  # fmt: skip
    """Rows of one scan by 'scan|dose|method'; `cache` holds those of the methods built in."""
    clean: Scan4D | None = None
    rows: Rows = {}
    for dose in doses:
        data: Scan4D | None = None
        made: dict[str, Picture] = {}
        for name, method in {**METHODS, **ORACLES, **methods}.items():
            key = f"{plan.name}|{dose:g}|{name}"
            known = name not in methods
            if known and key in cache and pictures is None:
                rows[key] = cache[key]
                continue
            clean = clean if clean is not None else scan(plan, folder)
            data = data if data is not None else clean.at_dose(dose)
            made[name] = method(data)
            rows[key] = measured(made[name], data)
            if known:
                cache[key] = rows[key]
        if pictures is not None and data is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            montage(made, data, pictures / f"{plan.name}-{dose:g}.png")
    return rows


def table(rows: Rows, names: tuple[str, ...], quantity: str, title: str) -> str:
    """Markdown, a line for each scan and dose, a column for each method."""
    methods = list(dict.fromkeys(key.split("|")[2] for key in rows))
    lines = [f"**{title}**", "", f"| | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for name in names:
        doses = dict.fromkeys(k.split("|")[1] for k in rows if k.split("|")[0] == name)
        for dose in doses:
            cells = []
            for method in methods:
                row = rows.get(f"{name}|{dose}|{method}", {})
                value = row.get(quantity)
                if quantity == "rings" and value is not None:
                    cells.append(" ".join(f"{part:.2f}" for part in value))
                    continue
                cells.append("" if value is None else f"{value:.3f}")
                if quantity == "ncc" and "ncc_low_pass" in row:
                    cells[-1] += f" (+ {row['ncc_low_pass']:.3f})"
            lines.append(f"| {name}, {dose} e/A^2 | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def invented(rows: Rows) -> str:
    """What an empty specimen shows, in parts of what MoS2 shows at the same dose."""
    lines = []
    for key, row in rows.items():
        name, dose, method = key.split("|")
        other = rows.get(f"mos2|{dose}|{method}")
        # what the truth chooses has nothing to choose by where the truth is empty
        if name == NOTHING and other is not None and method not in ORACLES:
            share = row["deviation"] / max(other["deviation"], 1e-30)
            lines.append(f"| {dose} e/A^2, {method} | {share:.3f} |")
    if not lines:
        return ""
    head = ["**Vacuum: deviation over that of MoS2 at the same dose**", "", "| | share |",
            "|---|---|"]  # fmt: skip
    return "\n".join(head + lines)


def report(rows: Rows) -> str:
    """All tables."""
    bands = ", ".join(f"{low:g} to {high:g}" for low, high in BANDS)
    parts = (
        table(rows, MAIN, "ncc", "Correlation with the true phase (+ best low-pass)"),
        table(rows, STEPS, "common", "Scan step, on a common grid of 0.1 angstrom"),
        table(rows, OTHERS, "ncc", "Thickness and optics"),
        table(rows, (*MAIN, STEPS[-1]), "rings", f"Fourier correlation at {bands} semi-angles"),
        table(rows, (ATOMS,), "ranks", "Single atoms: rank correlation of brightness"),
        invented(rows),
    )
    return "\n\n".join(part for part in parts if part)


def imported(text: str) -> tuple[str, Method]:
    """(name, function) of 'name=module:function'. Raises ValueError for another form."""
    name, found, place = text.partition("=")
    module, colon, attribute = place.partition(":")
    if not (found and colon and name and "|" not in name):
        raise ValueError(f"--method {text!r}: write it as name=module:function")
    method: Method = getattr(importlib.import_module(module), attribute)
    return name, method


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="simulated scans")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=MODULE:FUNCTION")
    parser.add_argument("--only", default="*", help="scans, with * and ?, commas between")
    parser.add_argument("--doses", type=float, nargs="+", default=list(DOSES))
    parser.add_argument("--cache", type=Path, help="JSON file that keeps the built-in methods'")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--pictures", type=Path, help="folder for PNGs of all methods")
    options = parser.parse_args()
    methods = dict(imported(text) for text in options.method)
    cache: Rows = {}
    if options.cache is not None and options.cache.exists():
        cache = json.loads(options.cache.read_text())
    rows: Rows = {}
    for plan in plans():
        if any(fnmatch.fnmatch(plan.name, pattern) for pattern in options.only.split(",")):
            doses = tuple(options.doses)
            rows |= scores(plan, options.folder, methods, cache, doses, options.pictures)
            if options.cache is not None:
                options.cache.write_text(json.dumps(cache))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))
    print(report(rows))


if __name__ == "__main__":
    main()
