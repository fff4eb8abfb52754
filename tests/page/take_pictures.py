"""Take the pictures of docs/page.md anew, from the demo.

Run `python tests/page/take_pictures.py [FOLDER]` (default docs/images), and look at every one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import CHROMIUM, FLAGS, Served
from test_page_browser import SPECTRUM
from test_page_config import TEXT, TOKEN, Edited

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
SETTINGS_PX = 860
SCANS = 3
"""Past scans that there are to be in the list."""


@contextmanager
def demo(data_dir: Path, *options: str) -> Iterator[str]:
    """`stemd demo`, its page's address."""
    command = [sys.executable, "-m", "stemd", "demo", "--page-port", "0", "--mqtt-port", "0"]
    command += ["--scan", "192x192", "--rate", "3000", "--data-dir", str(data_dir)]
    command += options
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found[0]
                return
        raise RuntimeError("the demo has not told its page's address")
    finally:
        process.terminate()
        process.wait(30)


def between(tab: Any, low: int, high: int) -> None:
    """Wait until so many hundredths of a scan are done."""
    tab.wait_for_function(
        """([low, high]) => { const part = parseInt(document.querySelector("#state-number")
        .textContent); return part >= low && part <= high; }""",
        arg=[low, high],
        timeout=120_000,
    )


def choose(tab: Any, title: str) -> None:
    tab.locator(".thumb", has_text=re.compile(f"^{title}$")).first.click()
    tab.wait_for_timeout(400)


def growing(tab: Any) -> None:
    between(tab, 55, 62)


def lenses(tab: Any) -> None:
    tab.keyboard.press("f")
    tab.keyboard.press("p")
    tab.wait_for_function(SPECTRUM, timeout=60_000)
    between(tab, 72, 95)


def grid(tab: Any) -> None:
    tab.keyboard.press("g")
    between(tab, 50, 60)


def field(tab: Any) -> None:
    choose(tab, "Field")
    between(tab, 60, 75)
    tab.mouse.move(640, 300)


def pattern(tab: Any) -> None:
    choose(tab, "Mean pattern")
    between(tab, 30, 60)


def past(tab: Any) -> None:
    tab.keyboard.press("a")
    tab.wait_for_function(
        "n => document.querySelectorAll('#past li').length >= n", arg=SCANS, timeout=180_000
    )
    tab.wait_for_timeout(1000)


def replay(tab: Any) -> None:
    past(tab)
    tab.locator(".cover").last.click()
    tab.wait_for_timeout(800)
    tab.keyboard.press("f")
    tab.select_option("#replay-seconds", "20")
    tab.click("#replay-button")
    tab.wait_for_function(
        "() => +document.querySelector('#replay-bar').ariaValueNow >= 55", timeout=120_000
    )


def settings(tab: Any, folder: Path) -> None:
    """The upper part of the settings, of which there are many."""
    tab.wait_for_selector("#settings input")
    tab.click("text=Estimate")
    tab.wait_for_timeout(3000)
    tab.evaluate("scrollTo(0, 0)")
    box = tab.locator("#settings-card").bounding_box()
    tab.screenshot(path=folder / "page-settings.png", clip={**box, "height": SETTINGS_PX})


VIEWS: dict[str, Callable[[Any], None]] = {
    "live": growing,
    "lenses": lenses,
    "grid": grid,
    "field": field,
    "pattern": pattern,
    "past": past,
    "replay": replay,
}


def take(folder: Path) -> None:
    """All pictures."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as data_dir,
        demo(Path(data_dir)) as url,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, view in VIEWS.items():
            tab = browser.new_page(viewport=DESK)
            tab.goto(url)
            tab.wait_for_selector("#settings input")
            view(tab)
            tab.screenshot(path=folder / f"page-{name}.png")
            tab.close()
        tab = browser.new_page(viewport={"width": 1440, "height": 2400})
        tab.goto(url)
        settings(tab, folder)
        tab.close()
        tab = browser.new_page(viewport=PHONE, has_touch=True, is_mobile=True)
        tab.goto(url)
        growing(tab)
        tab.screenshot(path=folder / "page-phone.png")
        browser.close()


def take_measured(folder: Path) -> None:
    """The card of the measured optics, of a microscope that is out of focus."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as data_dir,
        demo(Path(data_dir), "--defocus-nm", "15") as url,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport=DESK)
        tab.goto(url)
        tab.wait_for_selector("#measured button:visible", timeout=120_000)
        tab.locator("#measured").screenshot(path=folder / "page-measured.png")
        browser.close()


def take_config(folder: Path) -> None:
    """The config file being edited, with an error and its remedy."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as data_dir, sync_playwright() as play:
        token = Path(data_dir) / "token"
        token.write_text(TOKEN)
        served = Served(Path(data_dir), token_file=token)
        Edited(served.scope, Path(data_dir))
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1100, "height": 760})
        tab.goto(served.url)
        tab.click("#key-button")
        tab.fill("#token", TOKEN)
        tab.press("#token", "Enter")
        tab.click("#config-button")
        tab.wait_for_function("() => document.getElementById('config-text').value")
        tab.fill("#config-text", TEXT.strip().replace("= 21", "= 20"))
        tab.evaluate("document.getElementById('config-path').textContent = '/etc/stemd/stemd.toml'")
        tab.click("#config-check")
        tab.wait_for_selector("#config-problems li")
        tab.locator("#config").screenshot(path=folder / "page-config.png")
        browser.close()
        served.close()


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    images = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs" / "images"
    take_config(images)
    take(images)
    take_measured(images)
