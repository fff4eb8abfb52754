"""A real browser and a page in its own thread, for tests that look at pixels."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from page_harness import Microscope

from stemd.page.server import Page

T = TypeVar("T")
CHROMIUM = shutil.which("chromium") or ""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BLANK = (0x10, 0x15, 0x1D)
"""What the page draws where nothing has been scanned."""


def require_browser() -> None:
    """Skip with a reason where there is no browser."""
    if not CHROMIUM:
        pytest.skip("chromium is not on PATH (.ci/run installs it)")
    pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")


class Served:
    """A microscope and its page on an event loop in a thread; `do` runs code there."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.scope = Microscope()
        self.page: Page | None = None
        self.url = self.start(**settings)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def do(self, action: Callable[[], T]) -> T:
        async def run() -> T:
            return action()

        return self.wait(run())

    def start(self, **settings: Any) -> str:
        self.page = self.scope.page(self.data_dir, **settings)
        return self.wait(self.scope.serve(self.page))

    def stop(self) -> None:
        if self.page is not None:
            self.wait(self.page.stop())
        self.page = None

    def close(self) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def grow(self, done: int) -> None:
        self.do(lambda: self.scope.grow(done))


READ = """(side) => {
  const canvas = document.getElementById("main");
  const scale = Math.min(canvas.width / side, canvas.height / side);
  const left = canvas.width / 2 - side * scale / 2, top = canvas.height / 2 - side * scale / 2;
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = [];
  for (let y = 0; y < side; y += 1) for (let x = 0; x < side; x += 1) {
    const px = Math.floor(left + (x + 0.5) * scale), py = Math.floor(top + (y + 0.5) * scale);
    const i = 4 * (py * canvas.width + px);
    found.push(all[i], all[i + 1], all[i + 2]);
  }
  return found;
}"""


def seen(tab: Any, side: int = 64) -> np.ndarray:
    """The colours at the middle of every image pixel as they stand on the screen: (y, x, rgb)."""
    return np.array(tab.evaluate(READ, side), np.int64).reshape(side, side, 3)


def gray(image: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """The gray levels 0..255 of values between lo and hi: 256 equal steps."""
    return np.clip(np.floor((image - lo) / (hi - lo) * 256), 0, 255)


def same_gray(tab: Any, image: np.ndarray, lo: float, hi: float, rows: slice) -> bool:
    """Whether the screen shows these rows of an image in gray between these limits."""
    shown = seen(tab, image.shape[0])[rows]
    wanted = gray(image.astype(np.float64), lo, hi)[rows]
    # a value on the edge between two levels may fall to either side in float32
    near = np.abs(shown - wanted[..., None]).max(axis=-1) <= 1
    return bool(near.mean() > 0.999)


def limits(image: np.ndarray, low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """The values at the ends of the colour map by default: percentiles."""
    lo, hi = np.percentile(image, [low, high])
    return float(lo), float(hi)


def eventually(check: Callable[[], Any], seconds: float = 45.0) -> None:
    """Wait until a check holds; fail when it never does."""
    import time

    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            pytest.fail("the page never came to show it")
        time.sleep(0.05)


def open_tab(chromium: Any, served: Served, **options: Any) -> Iterator[Any]:
    """A fresh profile with the page; any script error or foreign request fails the test."""
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on(
        "console",
        lambda line: problems.append(line.text) if "Content Security" in line.text else None,
    )
    hosts: set[str] = set()
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    tab.goto(served.url)
    yield tab
    context.close()
    assert problems == []
    assert hosts == {served.url.split("/")[2]}


def thumb(tab: Any, name: str) -> None:
    tab.locator(".thumb", has_text=name).first.click()
