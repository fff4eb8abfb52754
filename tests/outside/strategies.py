"""What may come from outside: any JSON, any text, documents with a few values that are wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

NASTY = (
    *("\ud800", "a\udcfc.tif", "", "\0", "../../etc/passwd", "__proto__", "é€\U0001f600"),
    *(10**40, -(2**63) - 1, 2**63, 0, -1, 1e308, True, None),
)
"""Values that have broken programs."""

text = st.text(st.characters(), max_size=30)  # lone surrogates among them
values = st.recursive(
    st.sampled_from(NASTY)
    | text
    | st.integers()
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
"""Any JSON value, lone surrogates and huge numbers among them."""


def spoilt(document: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The document with any value in place of some of its own, at any depth, or without some."""

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        changed = json.loads(json.dumps(document))
        for _ in range(draw(st.integers(1, 3))):
            place: Any = changed
            key = draw(st.sampled_from(sorted(place)))
            while isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                keys = sorted(place) if isinstance(place, dict) else range(len(place))
                key = draw(st.sampled_from(list(keys)))
            if draw(st.integers(0, 4)):
                place[key] = draw(values)
            else:
                del place[key]
            if not changed:
                break
        return dict(changed)

    return build()


def nested(depth: int) -> bytes:
    """A JSON array in an array in an array ..."""
    return b"[" * depth + b"]" * depth


wire = st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode())
"""Bytes, and the JSON of any value (with `\\ud800` as an escape)."""
