"""Tables of text: as wide as they are in a pipe, cut to the window on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

GAP = "  "
LEAST = 6
"""A column is not cut below so many characters; it is left out instead."""
COLOURS = {"green": 32, "yellow": 33, "red": 31, "cyan": 36, "bold": 1}


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    elastic: Sequence[str] = (),
    width: int | None = None,
) -> list[str]:
    """Lines of a table; `right`: titles of columns of numbers.

    `width` is that of the window in characters, None for any. What does not fit is taken from the
    columns `elastic`, the last of them first: they are cut, or left out where nothing would be
    left of them. No line ends with a blank.
    """
    columns = {title: [title, *(row[n] for row in rows)] for n, title in enumerate(titles)}
    widths = {title: max(map(len, cells)) for title, cells in columns.items()}
    for title in reversed(elastic):
        over = sum(widths.values()) + len(GAP) * (len(widths) - 1) - (width or sys.maxsize)
        if over <= 0:
            break
        if widths[title] - over >= LEAST:
            widths[title] -= over
        else:
            del widths[title]
    lines = []
    for number in range(len(rows) + 1):
        cells = (
            _cell(columns[title][number], width, right=title in right)
            for title, width in widths.items()
        )
        lines.append(GAP.join(cells).rstrip())
    return lines


def _cell(text: str, width: int, *, right: bool) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if right else text.ljust(width)


def window() -> int | None:
    """The width of the terminal that stdout is, None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def coloured(line: str, colours: Mapping[str, str]) -> str:
    """The line with the first of these words in it in its colour, on a terminal that has any."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    for word, colour in colours.items():
        if word in line:
            return line.replace(word, f"\x1b[{COLOURS[colour]}m{word}\x1b[0m", 1)
    return line
