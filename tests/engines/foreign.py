"""Engines of somebody else: a package with entry points, as pip would install it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemd import entry_points

HEAD = """
from typing import ClassVar
import numpy as np
from stemd.engines.base import PositionMaps
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings
"""

HALF = '''
class HalfSettings(EngineSettings):
    """None of its own."""


class HalfEngine:
    """Half of the counts of each pattern."""

    def __init__(self, settings):
        self.name = settings.name or "half"

    def start(self, acquisition, settings, maps):
        self._maps = maps

    def update(self, settings):
        pass

    def consume(self, item):
        pass

    def snapshot(self, *, final):
        image = (self._maps.total / 2).reshape(self._maps.shape).astype(np.float32)
        return [Result(self.name, image, "counts", "scan", None)]


HALF = Plugin("half", "half of the counts", HalfSettings, HalfEngine)
'''

RATIO = '''
class RatioSettings(EngineSettings):
    """`radius_px` of the disc whose share of the counts is shown."""

    summed_with: ClassVar[tuple[str, ...]] = ("radius_px",)
    radius_px: float = 8.0

    def outputs(self, engine):
        return (f"{engine}_inside", f"{engine}_outside")

    def masks(self, optics):
        return {"ratio_disc": (0.0, self.radius_px)}


class RatioEngine(HalfEngine):
    def __init__(self, settings):
        self.name = settings.name or "ratio"

    def snapshot(self, *, final):
        inside = self._maps.detectors["ratio_disc"] / np.maximum(self._maps.total, 1)
        inside = inside.reshape(self._maps.shape).astype(np.float32)
        return [
            Result(f"{self.name}_inside", inside, "1", "scan", None),
            Result(f"{self.name}_outside", 1 - inside, "1", "scan", None),
        ]


RATIO = Plugin("ratio", "share of a disc", RatioSettings, RatioEngine)
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package with two engines where Python finds it; their names."""
    (folder / "foreign_engines.py").write_text(HEAD + HALF + RATIO)
    about = folder / "foreign_engines-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-engines\nVersion: 1.0\n")
    entries = "half = foreign_engines:HALF\nratio = foreign_engines:RATIO\n"
    (about / "entry_points.txt").write_text(f"[stemd.engines]\n{entries}")
    monkeypatch.syspath_prepend(str(folder))
    entry_points.entries.cache_clear()
    return ["half", "ratio"]
