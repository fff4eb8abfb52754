"""The thread of a scan's engines shows that it works, however many of them there are."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Optics
from stemd.engines.base import Engine
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from tests.engines.scenes import acquisition_of, blocks_of, engine

NAMES = ("ricom", "com", "sum", "icom", "pacbed")


def test_every_engine_s_finished_image_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy computer all of them together take longer than a thread that hangs is given."""
    patterns = np.ones((20, 8, 8), np.uint16)
    acquisition = acquisition_of(patterns, (4, 5))
    choices = [engine(name) for name in NAMES]
    settings = Settings(Optics(), {choice.name: choice.settings for choice in choices})
    run = ScanRun(acquisition, settings, choices)
    for block in blocks_of(acquisition, patterns, (7,)):
        run.reduce(block)
    run.end("complete")
    ages: list[float] = []
    for each in run.engines.prompt:

        def late(*, final: bool, real: Engine = each) -> list[object]:
            ages.append(run.images.heartbeat)
            run.images.heartbeat -= 20.0  # so long it takes
            return list(type(real).snapshot(real, final=final))

        monkeypatch.setattr(each, "snapshot", late)
    began = run.images.heartbeat
    run.serve(lambda snapshot: None, lambda: 100.0)
    assert len(ages) == len(NAMES)
    assert min(ages) >= began, "none has the others' time on its account"
