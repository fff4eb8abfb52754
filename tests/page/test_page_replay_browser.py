"""Replay as a viewer sees it: a past scan grows again on the screen, and can be tuned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from browser import (
    BLANK,
    CHROMIUM,
    FLAGS,
    Served,
    eventually,
    limits,
    require_browser,
    same_gray,
    seen,
)
from live_daemon import Laboratory

pytestmark = pytest.mark.browser

SIDE = 64
TOP = slice(0, 52)
GROWING = """(side) => { const c = document.getElementById("main");
  const scale = Math.min(c.width / side, c.height / side);
  const x = Math.floor(c.width / 2), top = c.height / 2 - side * scale / 2;
  const d = c.getContext("2d").getImageData(x, 0, 1, c.height).data; let rows = 0;
  for (let y = 0; y < side; y += 1) {
    const i = 4 * Math.floor(top + (y + 0.5) * scale);
    if (d[i] === 0x10 && d[i + 1] === 0x15 && d[i + 2] === 0x1d) break;
    rows += 1;
  }
  return rows; }"""
"""Scan lines that are on the screen, counted down the middle."""


KEEP_LINK = """const Real = WebSocket;
window.WebSocket = class extends Real {
  constructor(...rest) { super(...rest); window.stemdLink = this; }
};"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A daemon that has recorded one scan and waits for the next."""
    require_browser()
    camera = ("--rate", "4000", "--dose", "20000", "--wait-for-start", "--stay")
    folder = tmp_path_factory.mktemp("laboratory")
    laboratory = Laboratory(folder, (SIDE, SIDE), camera, raw=True)
    yield laboratory
    laboratory.close()


@contextmanager
def opened(chromium: Any, url: str) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    problems: list[str] = []
    try:
        tab = context.new_page()
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.add_init_script(KEEP_LINK)
        tab.goto(url)
        tab.wait_for_selector("#settings input")
        yield tab
    finally:
        context.close()  # or its replay keeps those of the tests after it waiting
    assert problems == []


def open_past(tab: Any) -> None:
    tab.click("#past-button")
    tab.locator(".cover").first.click()
    eventually(lambda: tab.locator("#past-bar").is_visible())


def rows(tab: Any) -> int:
    return int(tab.evaluate(GROWING, SIDE))


def same(tab: Any, image: np.ndarray[Any, Any]) -> bool:
    return same_gray(tab, image, *limits(image), TOP)


def test_a_recorded_scan_grows_again_and_obeys_while_the_beam_rests(
    chromium: Any, laboratory: Laboratory
) -> None:
    with opened(chromium, laboratory.url) as tab:
        tab.click("[data-command=start]")
        eventually(lambda: [s for s in laboratory.daemon.scans() if s["status"] == "complete"])
        eventually(lambda: tab.text_content("#state-words") == "Ready for a scan")
        (folder,) = laboratory.daemon.folders()
        kept = tifffile.imread(folder / "ricom.tif")
        open_past(tab)
        eventually(lambda: same(tab, kept))
        assert tab.text_content("#scan-card") == "This past scan"
        field = "#settings input[aria-label='Kernel size, exact value']"
        assert tab.is_disabled(field)
        assert tab.input_value(field) == "21"
        # it grows
        tab.select_option("#replay-seconds", "20")
        tab.click("#replay-button")
        eventually(lambda: 4 < rows(tab) < SIDE - 8)
        assert tab.text_content("#replay-words") == "From the record"
        # it stands still
        tab.keyboard.press("r")
        eventually(lambda: tab.text_content("#replay-button") == "Go on")
        tab.wait_for_timeout(300)  # an image may have been on its way
        stood = rows(tab)
        tab.wait_for_timeout(1000)  # three more lines, if it went on
        assert rows(tab) == stood < SIDE
        # it goes on, faster, to the image that was kept
        tab.select_option("#replay-seconds", "10")
        tab.keyboard.press("r")
        eventually(lambda: tab.text_content("#replay-button") == "Replay again")
        eventually(lambda: same(tab, kept))
        # a kernel and a ring are tried on what is recorded
        tab.fill(field, "9")
        tab.press(field, "Enter")
        eventually(lambda: "revision 2" in tab.text_content("#revision"))
        eventually(lambda: not same(tab, kept))
        drag_ring(tab, 12, 4)
        before = tifffile.imread(folder / "bf.tif")
        tab.locator(".thumb", has_text="BF").first.click()
        eventually(lambda: tab.text_content("#image-title") == "BF")
        eventually(lambda: 0.07 < readout(tab) / before[32, 32] < 0.2)
        # nothing of it has reached the pipeline, the camera or the disk
        tab.click("#past-close")
        eventually(lambda: tab.input_value(field) == "21")
        tab.locator(".thumb", has_text="riCOM").first.click()
        eventually(lambda: same(tab, kept))
        assert tab.text_content("#state-words") == "Ready for a scan"
        assert laboratory.daemon.folders() == [folder]


def drag_ring(tab: Any, from_px: float, to_px: float) -> None:
    """The outer edge of BF, 15 mrad or 12 pixels from the centre, to another radius."""
    tab.locator(".thumb", has_text="Mean pattern").first.click()
    eventually(lambda: tab.text_content("#image-title") == "Mean pattern")
    tab.wait_for_timeout(300)
    box = tab.locator("#main").bounding_box()
    scale = min(box["width"], box["height"]) / 64
    # the virtual camera's disc stands in the middle
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x + from_px * scale, y)
    tab.mouse.down()
    for step in range(1, 5):
        tab.mouse.move(x + (from_px + (to_px - from_px) * step / 4) * scale, y)
    tab.mouse.up()


def readout(tab: Any) -> float:
    """The value of the pixel in the middle of the image."""
    box = tab.locator("#main").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x + 2, y + 2)
    text = tab.text_content("#readout")
    return float(text.split()[0]) if "y 32, x 32" in text else float("nan")


def test_without_a_record_the_finished_images_grow_line_by_line(
    chromium: Any, tmp_path: Path
) -> None:
    served = Served(tmp_path)
    served.do(served.scope.tell_settings)
    try:
        image = served.scope.images["ricom"][0].copy()
        served.scope.keep(served.data_dir)
        with opened(chromium, served.url) as tab:
            watch_images_grow(tab, image)
    finally:
        served.close()


def test_a_viewer_without_the_token_replays_the_images_and_starts_nothing(
    chromium: Any, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("correct-horse-battery")
    served = Served(tmp_path / "data", token_file=tmp_path / "token")
    served.do(served.scope.tell_settings)
    try:
        image = served.scope.images["ricom"][0].copy()
        served.scope.keep(served.data_dir)
        with opened(chromium, served.url) as tab:
            sent: list[str] = []
            tab.on("websocket", lambda ws: ws.on("framesent", lambda text: sent.append(str(text))))
            tab.reload()
            tab.wait_for_selector("#settings input")
            watch_images_grow(tab, image)
            assert not any('"replay"' in str(text) for text in sent)
    finally:
        served.close()


def watch_images_grow(tab: Any, image: np.ndarray[Any, Any]) -> None:
    open_past(tab)
    eventually(lambda: same(tab, image))
    tab.select_option("#replay-seconds", "10")
    tab.click("#replay-button")
    eventually(lambda: 8 < rows(tab) < 40)
    tab.keyboard.press("r")
    eventually(lambda: tab.text_content("#replay-button") == "Go on")
    done = rows(tab)
    assert (seen(tab)[done + 1 : 52] == BLANK).all()
    tab.keyboard.press("r")
    eventually(lambda: tab.text_content("#replay-button") == "Replay again")
    assert tab.text_content("#replay-words").endswith("From the finished images")
    eventually(lambda: same(tab, image))
    tab.keyboard.press("Escape")
    eventually(lambda: tab.locator("#past-bar").is_hidden())


def test_a_replay_goes_on_while_a_scan_runs_and_the_scan_misses_nothing(
    chromium: Any, laboratory: Laboratory
) -> None:
    with opened(chromium, laboratory.url) as tab:
        before = len(laboratory.daemon.folders())
        if before == 0:
            tab.click("[data-command=start]")
            eventually(lambda: [s for s in laboratory.daemon.scans() if s["status"] == "complete"])
            before = 1
        open_past(tab)
        eventually(lambda: tab.locator("#empty").is_hidden())
        tab.click("#replay-button")
        eventually(lambda: "record" in tab.text_content("#replay-words") and rows(tab) > 2)
        # another viewer starts a scan
        with opened(chromium, laboratory.url) as other:
            other.click("[data-command=start]")
            eventually(lambda: len(laboratory.daemon.folders()) == before + 1)
        eventually(lambda: laboratory.daemon.scans()[-1]["status"] == "complete")
        assert laboratory.daemon.scans()[-1]["missing"] == 0
        eventually(lambda: tab.text_content("#replay-button") == "Replay again", 90.0)
        assert tab.locator("#past-bar").is_visible()


def test_a_replay_that_was_cut_off_leaves_the_kept_images_and_can_be_begun_again(
    chromium: Any, laboratory: Laboratory
) -> None:
    with opened(chromium, laboratory.url) as tab:
        if not laboratory.daemon.folders():
            tab.click("[data-command=start]")
            eventually(lambda: [s for s in laboratory.daemon.scans() if s["status"] == "complete"])
        kept = tifffile.imread(laboratory.daemon.folders()[-1] / "ricom.tif")
        open_past(tab)
        eventually(lambda: same(tab, kept))
        tab.select_option("#replay-seconds", "60")
        tab.click("#replay-button")
        eventually(lambda: 1 < rows(tab) < 40)
        tab.evaluate("() => stemdLink.close()")
        eventually(lambda: "connection was lost" in tab.text_content("#replay-words"))
        eventually(lambda: same(tab, kept))
        eventually(lambda: tab.text_content("#state-words") != "Connection lost, trying again")
        tab.click("#replay-button")
        eventually(lambda: 1 < rows(tab) < 40)
