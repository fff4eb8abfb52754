"""One of a thing: "1 frames are" becomes "1 frame is", whoever has written the number before it."""

from __future__ import annotations

import re

_THINGS = (
    "acquisition", "bit", "chip", "column", "detector", "document", "electron", "engine", "error",
    "event", "file", "frame", "hit", "image", "line", "link", "mark", "number", "part", "pattern",
    "pipeline", "pixel", "point", "position", "problem", "pulse", "row", "scan", "spot", "time",
    "value", "warning", "word",
)  # fmt: skip
_VERBS = {"are": "is", "have": "has", "were": "was", "do": "does", "lie": "lies", "look": "looks",
          "stand": "stands", "wait": "waits", "show": "shows", "say": "says", "fit": "fits",
          "begin": "begins", "count": "counts", "need": "needs", "leave": "leaves"}  # fmt: skip
_ONE = re.compile(
    # not a part of a number, of a size (3 x 1), of a range (0 to 1) or of a path
    r"(?<![\w.,/:-])(?<! x )(?<! to )"
    r"1 ((?:(?:detector|frame|line|scanned|such) )?)"
    r"(" + "|".join(f"{thing}s" for thing in _THINGS) + r")"
    r"( (?:" + "|".join(_VERBS) + r"))?"
    r"(?![\w/-]|\.\w)"
)  # fmt: skip


def one_of(text: str) -> str:
    """The text with its nouns and verbs in the singular where the number before them is 1."""
    return _ONE.sub(_singular, text) if "1 " in text else text


def _singular(found: re.Match[str]) -> str:
    before, things, verb = found[1], found[2], (found[3] or "").strip()
    if found.string.endswith("of ", 0, found.start()):  # the images of 1 scan are
        said = found[3] or ""
    else:
        said = f" {_VERBS[verb]}" if verb else ""
    return f"1 {before}{things[:-1]}{said}"
