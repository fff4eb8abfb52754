"""The arguments that tell the size and the timing of a recorded scan."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stemd.errors import UsageError

if TYPE_CHECKING:
    from stemd.acquisition import Scan

_SHAPELESS = ("flyback", "leading", "serpentine", "repeats", "step_size_angstrom", "dwell_time_us")
"""What remains of a scan that gets another size."""


def add_scan(parser: argparse.ArgumentParser) -> None:
    """Add `--scan`, `--flyback` and the others."""
    scan = parser.add_argument_group("scan")
    scan.add_argument(
        "--scan",
        metavar="YxX",
        help="lines x columns; default: from the config, its scan.json, the file",
    )
    scan.add_argument("--flyback", type=int, metavar="N", help="frames after each line")
    scan.add_argument("--leading", type=int, metavar="N", help="frames before the first position")
    scan.add_argument(
        "--repeats", type=int, metavar="N",
        help="the file has N frames of the same place, one behind the other: they are aligned and "
        "added up",
    )  # fmt: skip
    scan.add_argument("--serpentine", action="store_true", help="odd lines run backwards")
    scan.add_argument(
        "--step-size-angstrom", type=float, metavar="A", help="distance of two positions"
    )
    scan.add_argument("--dwell-time-us", type=float, metavar="US", help="time at one position")


def scan_of(
    args: argparse.Namespace, known: Mapping[str, Any], of_file: Callable[[], Scan]
) -> Scan | None:
    """The scan of the command line over the keys that are `known`; None where nothing is told.

    A size of the command line leaves the rest as it is known: steps, dwell time, flyback. What is
    told without a size goes with that which the file has by itself, `of_file`. Raises UsageError
    where it has none.
    """
    from stemd.config.scan_size import parse_scan, scan_from

    more = {
        "flyback": args.flyback,
        "leading": args.leading,
        "serpentine": args.serpentine or None,
        "repeats": args.repeats,
        "step_size_angstrom": args.step_size_angstrom,
        "dwell_time_us": args.dwell_time_us,
    }
    given = {key: value for key, value in more.items() if value is not None}
    if args.scan is not None:
        kept = {key: known[key] for key in _SHAPELESS if known.get(key) is not None}
        return parse_scan(args.scan, **(kept | given))
    if known:
        return scan_from(dict(known) | given)
    if given:
        found = of_file()
        if found.shape[0] == 1:  # as where nothing tells it
            raise UsageError(
                f"{', '.join(given)} given without the scan's size, which the file does not tell",
                "add --scan LINESxCOLUMNS",
            )
        return scan_from(found.model_dump(exclude_none=True) | given)
    return None
