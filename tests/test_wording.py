"""Messages say "1 frame is", and leave sizes, ranges, paths and larger numbers alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemd.blocks import Notice
from stemd.errors import StemdError
from stemd.wording import one_of


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 frames did not come", "1 frame did not come"),
        ("1 frames are beyond the scan", "1 frame is beyond the scan"),
        ("x holds 1 scans", "x holds 1 scan"),
        ("1 frame numbers do not fit", "1 frame number does not fit"),
        ("1 such frames were left out", "1 such frame was left out"),
        ("Ends after 1 scans.", "Ends after 1 scan."),
        ("only the first of 1 frames", "only the first of 1 frame"),
        ("the images of 1 scans are made", "the images of 1 scan are made"),
        ("21 frames are", "21 frames are"),
        ("1,001 frames, 0.1 pixels", "1,001 frames, 0.1 pixels"),
        ("a scan of 3 x 1 pixels", "a scan of 3 x 1 pixels"),
        ("rows 0 to 1 lines", "rows 0 to 1 lines"),
        ("1 of 6 lines", "1 of 6 lines"),
        ("/data/1 scans/a.mib", "/data/1 scans/a.mib"),
    ],
)
def test_one_of_a_thing_is_in_the_singular(text: str, said: str) -> None:
    assert one_of(text) == said
    assert Notice("kind", text).text == said
    error = StemdError(text, text)
    assert (error.message, error.remedy, str(error)) == (said, said, f"{said}\n  remedy: {said}")


def test_no_engine_names_itself_in_an_error() -> None:
    """Who tells it says which engine: "engine direct: engine direct: the disc ..." was told."""
    engines = Path(__file__).parents[1] / "stemd" / "engines"
    named = [path.name for path in engines.rglob("*.py") if '"engine {' in path.read_text()]
    assert named == []
