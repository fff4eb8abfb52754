"""A daemon that publishes its health twice a second: tests wait for two documents, and not 10 s.

What a document says, and that a failure keeps none from coming, does not depend on its period.
"""

from __future__ import annotations

from pathlib import Path

SITE = "from stemd.daemon import health\n\nhealth.HEALTH_PERIOD_S = 0.5\n"


def environment(folder: Path) -> dict[str, str]:
    """Write what Python runs at its start into the folder; the variables that make it do so."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}
