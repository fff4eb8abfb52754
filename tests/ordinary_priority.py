"""Python processes in which replays and completions run at an ordinary priority.

They have the lowest one, which on a busy machine means none at all: no test could say how long
they take. That they ask for it is a test of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

SITE = "from stemd.offline import idle\n\nidle.yield_to_others = lambda: None\n"


def environment(folder: Path) -> dict[str, str]:
    """Write what Python runs at its start into the folder; the variables that make it do so."""
    (folder / "sitecustomize.py").write_text(SITE)
    places = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": ":".join(filter(None, places))}
