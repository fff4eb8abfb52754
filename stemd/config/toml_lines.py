"""Where in a TOML file a key stands: tomli gives values without lines, people need lines."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

# of lines without spaces around them; neither tries a character twice, however long the line
_TABLE = re.compile(r"^(\[\[?)([^\]#]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")


def key_lines(text: str) -> dict[Path, int]:
    """Line number (from 1) of every table and key of a TOML text, by path.

    Array tables get their index: ("pipeline", 0, "engine", 1, "type"). A value that spans lines
    is found at its first line. Text that is not TOML gives fewer keys, never an error.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    prefix: Path = ()
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        table = _TABLE.match(line)
        if table:
            prefix = ()
            names = [name.strip().strip("\"'") for name in table[2].split(".")]
            for name in names[:-1]:
                prefix = (*prefix, name)
                if prefix in counts:
                    prefix = (*prefix, counts[prefix] - 1)
            prefix = (*prefix, names[-1])
            if table[1] == "[[":
                index = counts.get(prefix, 0)
                counts[prefix] = index + 1
                prefix = (*prefix, index)
            lines.setdefault(prefix, number)
            continue
        key = _KEY.match(line)
        if key:
            path = prefix
            for name in key[1].split("."):
                path = (*path, name.strip().strip("\"'"))
                lines.setdefault(path, number)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a key, or of the nearest table around it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None
