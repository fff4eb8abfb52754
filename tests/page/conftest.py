"""Fixtures of the page's tests: a synthetic microscope, and its page on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, FLAGS, Served, open_tab, require_browser
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    served.do(served.scope.tell_settings)
    yield served
    served.close()


@pytest.fixture
def tab(chromium: Any, served: Served) -> Iterator[Any]:
    yield from open_tab(chromium, served)
