"""Fixtures of the page's tests: a synthetic microscope, and its page on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from page_harness import Microscope, Shown


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[Shown]:
    scope = Microscope()
    page = scope.page(tmp_path)
    url = await page.start()
    yield Shown(scope, page, url, tmp_path)
    await page.stop()
