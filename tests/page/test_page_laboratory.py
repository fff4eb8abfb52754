"""The page before a real pipeline: what a hand changes in a browser, the running scan obeys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, FLAGS, eventually, require_browser
from live_daemon import Laboratory

pytestmark = pytest.mark.browser

SIDE = 128
"""A scan lasts 41 s: on a busy machine, too, a hand turns all its knobs before it is over."""
LISTEN = """
window.sent = []; window.replies = {}; window.frames = []; window.newest = {};
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (text) {
  const message = JSON.parse(text);
  if (message.type === "request") window.sent.push({ at: performance.now(), ...message });
  return send.call(this, text);
};
const Real = WebSocket;
window.WebSocket = class extends Real {
  constructor(...rest) {
    super(...rest);
    this.addEventListener("message", ({ data }) => {
      if (typeof data === "string") {
        const { type, document } = JSON.parse(data);
        if (type === "reply") window.replies[document.id] = document.revision;
        return;
      }
      for (let at = 0; at < data.byteLength; ) {
        const head = new DataView(data, at);
        const [bytes, pixelBytes] = [head.getUint32(8, true), head.getUint32(12, true)];
        const meta = JSON.parse(new TextDecoder().decode(new Uint8Array(data, at + 16, bytes)));
        const count = meta.shape[0] * meta.shape[1];
        const { code } = meta;
        const Kind = code ? Uint16Array : Float32Array;
        const sent = new Kind(data, at + 16 + bytes, count);
        const value = (c) => (code ? code.offset + code.scale * c : c);
        const pixels = Float32Array.from(sent, value);
        window.frames.push({ at: performance.now(), ...meta });
        window.newest[meta.name] = { meta, pixels };
        at += 16 + bytes + pixelBytes;
      }
    });
  }
};
"""
"""Notes in the browser what the page asks for and which images reach it, by one clock."""


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
    require_browser()
    camera = ("--rate", "400", "--rotation", "30", "--dose", "20000", "--wait-for-start", "--stay")
    laboratory = Laboratory(tmp_path_factory.mktemp("laboratory"), (SIDE, SIDE), camera)
    yield laboratory
    laboratory.close()


@pytest.fixture
def tab(chromium: Any, laboratory: Laboratory) -> Iterator[Any]:
    """The page before a scan that has just begun."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.add_init_script(LISTEN)
    tab.goto(laboratory.url)
    tab.wait_for_selector("#settings input")
    tab.click("[data-command=start]")
    eventually(lambda: rows_done(tab, "ricom") >= 24)
    yield tab
    tab.click("[data-command=stop]")
    eventually(lambda: tab.text_content("#state-words") == "Ready for a scan")
    context.close()
    assert problems == []


def newest(tab: Any, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """The image that came last under a name, with its meta."""
    read = "(name) => [newest[name].meta, [...newest[name].pixels]]"
    meta, pixels = tab.evaluate(read, name)
    return meta, np.array(pixels).reshape(meta["shape"])


def rows_done(tab: Any, name: str) -> int:
    """Whole lines of the running scan in the newest image of a name."""
    read = "(name) => newest[name] && !newest[name].meta.final ? newest[name].meta : null"
    meta = tab.evaluate(read, name)
    return meta["positions_done"] // SIDE if meta else 0


def tell_delay(tab: Any, name: str) -> None:
    """Wait for the first image made with what was asked for last; `pytest -s` shows how long."""
    last = "sent.findLast((m) => m.kind === 'settings')"
    eventually(lambda: tab.evaluate(f"() => replies[{last}.request.id] !== undefined"))
    at, revision = tab.evaluate(f"() => [{last}.at, replies[{last}.request.id]]")
    newer = "([name, r]) => frames.find((f) => f.name === name && f.settings_revision >= r)?.at"
    eventually(lambda: tab.evaluate(newer, [name, revision]) is not None)
    delay_ms = tab.evaluate(newer, [name, revision]) - at
    sys.stdout.write(f"\n{name} obeyed after {delay_ms:.0f} ms\n")


def test_a_dragged_ring_changes_what_the_running_scan_measures(tab: Any) -> None:
    tab.locator(".thumb", has_text="Mean pattern").first.click()
    eventually(lambda: tab.evaluate("() => newest.pacbed !== undefined"))
    eventually(lambda: tab.text_content("#image-title") == "Mean pattern")
    scan = newest(tab, "bf")[0]["scan"]
    (cy, cx) = newest(tab, "ricom")[0]["extra"]["center"]
    box = tab.locator("#main").bounding_box()
    scale = min(box["width"], box["height"]) / 64
    x = box["x"] + box["width"] / 2 + (cx + 0.5 - 32) * scale
    y = box["y"] + box["height"] / 2 + (cy + 0.5 - 32) * scale
    # the outer edge of BF stands at 15 mrad; a pixel is 1.25 mrad
    tab.mouse.move(x + 12 * scale, y)
    tab.mouse.down()
    tab.mouse.move(x + 8 * scale, y, steps=4)
    before = rows_done(tab, "bf")
    tab.mouse.move(x + 4 * scale, y, steps=4)
    tab.mouse.up()
    tell_delay(tab, "bf")
    changed = rows_done(tab, "bf") + 1
    eventually(lambda: rows_done(tab, "bf") >= changed + 6)
    meta, image = newest(tab, "bf")
    assert meta["scan"] == scan
    # a disc of 5 mrad takes a ninth of what one of 15 mrad takes of a flat disc of 20 mrad
    ratio = image[changed + 1 : changed + 6].mean() / image[: before - 8].mean()
    assert 0.07 < ratio < 0.2


def test_rotating_turns_the_image_of_the_running_scan(tab: Any) -> None:
    shown = "() => { const c = document.getElementById('main'); return c.toDataURL(); }"
    eventually(lambda: tab.text_content("#image-title") == "riCOM" and rows_done(tab, "ricom") > 44)
    meta, before = newest(tab, "ricom")
    assert meta["extra"]["rotation_deg"] == 0.0
    picture = tab.evaluate(shown)
    field = "#settings input[aria-label='Rotation, exact value']"
    tab.fill(field, "180")
    tab.press(field, "Enter")
    eventually(lambda: newest(tab, "ricom")[0]["extra"]["rotation_deg"] == 180.0)
    tell_delay(tab, "ricom")
    turned_meta, turned = newest(tab, "ricom")
    assert turned_meta["scan"] == meta["scan"]
    # half a turn turns bright into dark: what was there already was built anew
    old = slice(11, meta["positions_done"] // SIDE - 22)
    assert np.corrcoef(before[old].ravel(), turned[old].ravel())[0, 1] < -0.95
    eventually(lambda: tab.evaluate(shown) != picture)
    tab.fill(field, "0")
    tab.press(field, "Enter")
    eventually(lambda: newest(tab, "ricom")[0]["extra"]["rotation_deg"] == 0.0)


def test_the_rotation_is_estimated_with_one_click_and_applied_with_another(tab: Any) -> None:
    eventually(lambda: rows_done(tab, "ricom") > 40)
    revision = tab.text_content("#revision")
    button, field = tab.locator(".estimate button"), "input[aria-label='Rotation, exact value']"
    button.click()
    eventually(lambda: button.text_content() == "Apply")
    angle = float(tab.input_value(field))
    assert abs(angle - 30.0) < 5.0  # the camera's
    assert tab.text_content("#revision") == revision
    button.click()
    eventually(lambda: newest(tab, "ricom")[0]["extra"]["rotation_deg"] == angle)
    eventually(lambda: button.text_content() == "Estimate")
    assert float(tab.input_value(field)) == angle
