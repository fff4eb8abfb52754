"""This run beside an earlier one: ratios, and whether they are more than noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemd.cli.bench.harness import Row
from stemd.documents import Json, from_json
from stemd.errors import FormatError, UsageError

LEAST = 0.02
"""What two runs of the same program differ by, whatever the stretches of one run say."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure now and before. `ratio` is above 1 where it is better now."""

    name: str
    before: float
    now: float
    unit: str
    ratio: float
    verdict: str

    def line(self) -> str:
        """For a table."""
        return (
            f"{self.name:<46} {self.before:>12,.5g} {self.now:>12,.5g} {self.unit:<12} "
            f"{self.ratio:6.3f}  {self.verdict}"
        )


def read_rows(path: Path) -> dict[str, Json]:
    """The figures of a file that `stemd bench --json` wrote, by name. Raises UsageError."""
    remedy = "name a file that `stemd bench --json > FILE` wrote"
    try:
        rows = from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--compare {path} cannot be read: {error.strerror}", remedy) from error
    except FormatError as error:
        raise UsageError(f"--compare {path}: {error.message}", remedy) from error
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise UsageError(f"--compare {path} is no list of figures", remedy)
    return {row["name"]: row for row in rows}


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("unit"), str)
        and all(
            isinstance(row.get(key), int | float) and row[key] > 0
            for key in ("value", "lowest", "highest")
            if key == "value" or row.get(key) is not None
        )
    )


def compared(row: Row, before: Mapping[str, Json]) -> Comparison | None:
    """The figure beside the one of that name and unit; None where there is none.

    It is faster or slower where the ranges of both over their stretches have nothing in common,
    and are LEAST apart.
    """
    old = before.get(row.name)
    if old is None or old["unit"] != row.unit:
        return None
    smaller_is_better = row.unit in ("s", "ms")
    old_low, old_high = old.get("lowest") or old["value"], old.get("highest") or old["value"]
    low, high = row.lowest or row.value, row.highest or row.value
    ratio = row.value / old["value"]
    above, below = low > old_high * (1 + LEAST), high * (1 + LEAST) < old_low
    if smaller_is_better:
        ratio, above, below = 1 / ratio, below, above
    verdict = "faster" if above else "slower" if below else "within the noise"
    return Comparison(row.name, old["value"], row.value, row.unit, ratio, verdict)
