"""Fixtures of the page's tests: a synthetic microscope, and its page on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from page_harness import Microscope, Shown

from tests import ordinary_priority


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[Shown]:
    scope = Microscope()
    page = scope.page(tmp_path)
    url = await scope.serve(page)
    yield Shown(scope, page, url, tmp_path)
    await page.stop()


@pytest.fixture
def replays_get_time(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replays at an ordinary priority, so that none stands still on a busy machine."""
    for name, value in ordinary_priority.environment(tmp_path_factory.mktemp("site")).items():
        monkeypatch.setenv(name, value)
