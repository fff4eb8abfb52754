"""docs/reference/dectris.md lists what the adapter can say."""

from __future__ import annotations

import re
from pathlib import Path

from stemd.adapters.frames import tracker

ROOT = Path(__file__).parents[2]
_KIND = re.compile(r'(?:Notice|_note|\.add)\(\s*"([a-z_]+)"')


def test_every_kind_of_notice_is_in_the_reference() -> None:
    sources = [*(ROOT / "stemd/adapters/dectris").rglob("*.py"), Path(tracker.__file__)]
    kinds = {kind for path in sources for kind in _KIND.findall(path.read_text())}
    assert {"no_start", "stolen_frames", "bad_stream", "missing_frames"} <= kinds
    table = (ROOT / "docs/reference/dectris.md").read_text().partition("## Errors")[0]
    rows = set(re.findall(r"`([a-z_]+)`", table))
    assert kinds - rows == set()
