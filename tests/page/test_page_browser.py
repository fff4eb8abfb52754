"""The page in a real browser: what is on the screen, what a hand does, what comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import (
    BLANK,
    Served,
    eventually,
    limits,
    open_tab,
    same_gray,
    seen,
    thumb,
)

from stemd.results import Result

pytestmark = pytest.mark.browser

TOKEN = "correct-horse-battery"
TOP = slice(0, 52)
"""Rows of the image that the scale bar does not touch."""


def test_an_image_grows_on_the_screen_pixel_by_pixel(served: Served, tab: Any) -> None:
    image = served.scope.images["ricom"][0]
    for done in (1000, 2048):
        served.grow(done)
        flat = image.reshape(-1)
        eventually(
            lambda flat=flat, done=done: same_gray(
                tab, image, *limits(flat[:done]), slice(0, done // 64)
            )
        )
        assert tab.text_content("#scan-done") == f"{done:,} of 4,096".replace(",", "\u202f")
        # below the beam's line lies background, not the colour of the value 0
        assert (seen(tab)[done // 64 + 2 : 52] == BLANK).all()
    served.grow(4096)
    eventually(lambda: same_gray(tab, image, *limits(image), TOP))
    assert tab.text_content("#state-words") == "Finishing the images"


def test_a_page_opened_between_scans_shows_the_last_one(chromium: Any, served: Served) -> None:
    served.grow(4096)
    served.do(lambda: served.scope.tell_state("waiting"))
    image = served.scope.images["ricom"][0]
    for tab in open_tab(chromium, served):
        eventually(lambda tab=tab: same_gray(tab, image, *limits(image), TOP))
        assert tab.text_content("#state-words") == "Waiting for the camera"


def test_another_colour_map_colours_the_same_values(served: Served, tab: Any) -> None:
    served.grow(4096)
    image = served.scope.images["ricom"][0]
    eventually(lambda: same_gray(tab, image, *limits(image), TOP))
    tab.locator(".swatch", has_text="viridis").click()
    lo, hi = limits(image)
    dark, bright = image[TOP] <= lo, image[TOP] >= hi
    # viridis runs from dark violet to yellow (published end points)
    eventually(lambda: np.abs(seen(tab)[TOP][bright] - (0xFD, 0xE7, 0x25)).max() <= 3)
    assert np.abs(seen(tab)[TOP][dark] - (0x44, 0x01, 0x54)).max() <= 3


def test_contrast_follows_the_percentiles_that_are_typed(served: Served, tab: Any) -> None:
    served.grow(4096)
    image = served.scope.images["ricom"][0]
    eventually(lambda: same_gray(tab, image, *limits(image), TOP))
    tab.fill("[data-part=low]", "10")
    tab.press("[data-part=low]", "Enter")
    tab.fill("[data-part=high]", "80")
    tab.press("[data-part=high]", "Enter")
    eventually(lambda: same_gray(tab, image, *limits(image, 10, 80), TOP))


def test_contrast_by_hand_stays_while_the_image_grows(served: Served, tab: Any) -> None:
    served.grow(2048)
    image = served.scope.images["ricom"][0]
    eventually(lambda: tab.locator("#empty").is_hidden())
    tab.select_option("[data-part=mode]", "manual")
    tab.fill("[data-part=low]", "-0.1")
    tab.press("[data-part=low]", "Enter")
    tab.fill("[data-part=high]", "0.4")
    tab.press("[data-part=high]", "Enter")
    served.grow(4096)
    eventually(lambda: same_gray(tab, image, -0.1, 0.4, TOP))


def test_the_full_range_shows_the_extremes(served: Served, tab: Any) -> None:
    served.grow(4096)
    image = served.scope.images["ricom"][0]
    eventually(lambda: tab.locator("#empty").is_hidden())
    tab.select_option("[data-part=mode]", "full")
    eventually(lambda: same_gray(tab, image, float(image.min()), float(image.max()), TOP))


def test_the_pixel_under_the_pointer_is_read_out_with_units(served: Served, tab: Any) -> None:
    served.grow(4096)
    eventually(lambda: tab.locator("#empty").is_hidden())
    thumb(tab, "ADF")
    image = served.scope.images["adf"][0]
    eventually(lambda: same_gray(tab, image, *limits(image), TOP))
    box = tab.locator("#main").bounding_box()
    scale = min(box["width"], box["height"]) / 64
    y, x = 20, 40
    tab.mouse.move(
        box["x"] + box["width"] / 2 + (x + 0.5 - 32) * scale,
        box["y"] + box["height"] / 2 + (y + 0.5 - 32) * scale,
    )
    eventually(lambda: "y 20, x 40" in tab.text_content("#readout"))
    text = tab.text_content("#readout")
    assert text.startswith(f"{image[y, x]:.0f} counts")
    assert "0.4 nm, 0.8 nm" in text


def test_zoom_by_the_wheel_keeps_what_is_under_the_pointer(served: Served, tab: Any) -> None:
    served.grow(4096)
    eventually(lambda: tab.locator("#empty").is_hidden())
    box = tab.locator("#main").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 - 45)
    eventually(lambda: "y " in tab.text_content("#readout"))
    before = tab.text_content("#readout")
    whole = edges(tab)
    tab.mouse.wheel(0, -300)
    eventually(lambda: edges(tab) < 0.7 * whole)
    assert tab.text_content("#readout") == before


def edges(tab: Any) -> int:
    """How often the colour changes along the middle row of the screen's image."""
    changes: int = tab.evaluate(
        """() => { const c = document.getElementById("main"); const y = c.height >> 1;
        const d = c.getContext("2d").getImageData(0, y, c.width, 1).data; let n = 0;
        for (let i = 4; i < d.length; i += 4) n += d[i] !== d[i - 4]; return n; }"""
    )
    return changes


def test_a_finished_scan_is_announced_to_a_screen_reader(served: Served, tab: Any) -> None:
    served.grow(64)
    eventually(lambda: tab.text_content("#spoken") == "Scanning")
    served.do(lambda: served.scope.tell_state("waiting"))
    eventually(lambda: tab.text_content("#spoken") == "Waiting for the camera")


def test_a_fault_stands_on_the_page_with_its_remedy(served: Served, tab: Any) -> None:
    error = {"message": "the camera at 10.0.0.5:6342 refused", "remedy": "switch the camera on"}
    served.do(lambda: served.scope.tell_state("fault", last_error=error, errors=[error]))
    eventually(lambda: tab.locator("#fault").is_visible())
    assert tab.text_content("#fault-message") == error["message"]
    assert tab.text_content("#fault-remedy") == error["remedy"]


def test_the_page_comes_back_by_itself_after_the_daemon_was_gone(served: Served, tab: Any) -> None:
    served.grow(1024)
    eventually(lambda: tab.text_content("#state-words") == "Scanning")
    port = served.url.rstrip("/").rpartition(":")[2]
    served.stop()
    eventually(lambda: tab.text_content("#state-words") == "Connection lost, trying again")
    assert "continues without this page" in tab.text_content("#fault")
    assert tab.locator("#fault").is_visible()
    served.start(listen=f"127.0.0.1:{port}")
    eventually(lambda: tab.text_content("#state-words") == "Scanning")
    served.grow(4096)
    image = served.scope.images["ricom"][0]
    eventually(lambda: same_gray(tab, image, *limits(image), TOP))


def test_a_new_kernel_size_is_sent_and_its_image_shown(served: Served, tab: Any) -> None:
    served.grow(4096)
    before = served.scope.images["ricom"][0]
    eventually(lambda: same_gray(tab, before, *limits(before), TOP))
    tab.fill("#settings input[aria-label='Kernel size, exact value']", "21")
    tab.press("#settings input[aria-label='Kernel size, exact value']", "Enter")
    eventually(lambda: tab.text_content("#revision") == "revision 4")
    pipeline, kind, request = served.scope.requests[-1]
    assert (pipeline, kind, request["ricom"]) == ("merlin", "settings", {"kernel_size": 21})
    after = served.scope.images["ricom"][0]
    assert np.abs(after - before).max() > 0.05
    eventually(lambda: same_gray(tab, after, *limits(after), TOP))


def test_a_refused_setting_says_why_and_goes_back(served: Served, tab: Any) -> None:
    served.grow(64)
    field = "#settings input[aria-label='Kernel size, exact value']"
    tab.wait_for_selector(field)
    tab.fill(field, "20")
    tab.press(field, "Enter")
    problem = tab.locator("#set-ricom-kernel_size-problem")
    eventually(lambda: "must be odd" in problem.text_content())
    assert tab.input_value(field) == "61"


def test_a_detector_ring_is_dragged_and_the_images_change(served: Served, tab: Any) -> None:
    served.grow(4096)
    thumb(tab, "Mean pattern")
    eventually(lambda: tab.text_content("#image-title") == "Mean pattern")
    eventually(lambda: (seen(tab, 128)[56, 58] > 200).any())
    box = tab.locator("#main").bounding_box()
    scale = min(box["width"], box["height"]) / 128
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    # the outer edge of ADF stands at 27 mrad; a pixel is 0.5 mrad
    tab.mouse.move(middle[0] + 54 * scale, middle[1])
    tab.mouse.down()
    tab.mouse.move(middle[0] + 50 * scale, middle[1], steps=4)
    tab.mouse.move(middle[0] + 44 * scale, middle[1], steps=4)
    tab.mouse.up()

    def outer() -> float:
        detectors = served.scope.settings["virtual_detector"]["detectors"]
        assert detectors["bf"] == [0.0, 10.0]
        assert detectors["adf"][0] == 13.0
        return detectors["adf"][1]

    eventually(lambda: abs(outer() - 22.0) < 0.5)
    changed = tab.locator("#settings input[aria-label='Adf, to']")
    eventually(lambda: float(changed.input_value()) == outer())


def test_without_the_token_the_controls_are_locked_and_with_it_they_work(
    chromium: Any, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    served = Served(tmp_path, token_file=tmp_path / "token")
    served.do(served.scope.tell_settings)
    served.grow(64)
    try:
        for tab in open_tab(chromium, served):
            field = "#settings input[aria-label='Kernel size, exact value']"
            tab.wait_for_selector(field)
            assert tab.is_disabled(field)
            assert "operator's token" in tab.text_content("#locked")
            tab.click("#key-button")
            tab.fill("#token", "wrong")
            tab.press("#token", "Enter")
            eventually(lambda tab=tab: "not the operator" in tab.text_content("#key-problem"))
            tab.fill("#token", TOKEN)
            tab.press("#token", "Enter")
            eventually(lambda tab=tab, field=field: tab.is_enabled(field))
            tab.fill(field, "33")
            tab.press(field, "Enter")
            eventually(lambda: served.scope.settings["ricom"]["kernel_size"] == 33)
    finally:
        served.close()


def test_a_past_scan_is_opened_and_left_again(served: Served, tab: Any) -> None:
    past = served.scope.images["ricom"][0].copy()
    served.scope.keep(served.data_dir)
    served.scope.seed = 9
    served.scope.images = served.scope.make_images()
    served.do(served.scope.new_scan)
    served.grow(4096)
    live = served.scope.images["ricom"][0]
    eventually(lambda: same_gray(tab, live, *limits(live), TOP))
    tab.click("#past-button")
    eventually(lambda: "Gold · Zoë · #night" in tab.text_content("#past li"))
    tab.fill("#past-find", "gold silicon")
    eventually(lambda: tab.locator("#past li").count() == 0)
    assert "No past scan matches" in tab.text_content("#past .note")
    tab.fill("#past-find", "NIGHT gold")
    eventually(lambda: tab.locator("#past li").count() == 1)
    tab.click(".cover")
    eventually(lambda: same_gray(tab, past, *limits(past), TOP))
    assert not same_gray(tab, live, *limits(live), TOP)
    tab.click("#past-close")
    eventually(lambda: same_gray(tab, live, *limits(live), TOP))


SPECTRUM = """() => { const c = document.getElementById("fft");
  const { data } = c.getContext("2d").getImageData(c.width / 2, 0, 1, c.height);
  return data.some((v, i) => i % 4 < 3 && v); }"""


def test_all_of_the_page_is_reached_and_used_by_keyboard(served: Served, tab: Any) -> None:
    served.grow(4096)
    eventually(lambda: tab.text_content("#image-title") == "riCOM")
    tab.keyboard.press("]")
    eventually(lambda: tab.text_content("#image-title") == "ADF")
    tab.keyboard.press("g")
    eventually(lambda: tab.locator(".cell").first.is_visible())
    tab.locator(".cell").nth(2).press("Enter")
    eventually(lambda: tab.text_content("#image-title") == "BF")
    tab.focus("#main")
    tab.keyboard.press("Shift+ArrowRight")
    eventually(lambda: "x 33" in tab.text_content("#spoken"))
    tab.keyboard.press("f")
    eventually(lambda: tab.locator("#fft").is_visible())
    eventually(lambda: tab.evaluate(SPECTRUM), 60.0)
    tab.keyboard.press("p")
    eventually(lambda: tab.locator("#profile").is_visible())
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()


def test_every_control_has_a_name_for_a_screen_reader(served: Served, tab: Any) -> None:
    served.grow(4096)
    tab.wait_for_selector("#settings input")
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, input:not([hidden]), select, [role=img]")]
        .filter((n) => !(n.getAttribute("aria-label") || n.textContent.trim()
          || [...(n.labels ?? [])].some((l) => l.textContent.trim())))
        .map((n) => n.outerHTML)"""
    )
    assert nameless == []


CONTRAST = """() => {
  const light = (colour) => colour.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parts = (text) => (text.startsWith("rgb") ? text.match(/[\\d.]+/g).map(Number) : []);
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.getBoundingClientRect().width) continue;
    let [behind, ground] = [node, []];
    for (; behind && ground.length < 3; behind = behind.parentElement) {
      const colour = parts(getComputedStyle(behind).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) ground = colour;
    }
    const ink = parts(getComputedStyle(node).color).slice(0, 3);
    if (ink.length < 3) continue; // mixed from its own ground, and lighter
    const [dark, bright] = [light(ink), light(ground.length ? ground.slice(0, 3) : [11, 15, 21])]
      .sort((a, b) => a - b);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) found.push(node.textContent.trim().slice(0, 40));
  }
  return found;
}"""


def test_every_text_stands_out_from_its_ground(served: Served, tab: Any) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least, also in the help and in the settings."""
    served.grow(4096)
    tab.wait_for_selector("#settings input")
    assert tab.evaluate(CONTRAST) == []
    tab.keyboard.press("?")
    assert tab.evaluate(CONTRAST) == []


def test_the_page_fits_a_phone(chromium: Any, served: Served) -> None:
    served.grow(4096)
    image = served.scope.images["ricom"][0]
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    for tab in open_tab(chromium, served, **phone):
        eventually(lambda tab=tab: tab.text_content("#image-title") == "riCOM")
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert tab.locator("#main").bounding_box()["width"] > 260
        eventually(lambda tab=tab: same_gray(tab, image, *limits(image), TOP))


@pytest.mark.parametrize("width", [320, 390])
def test_the_state_is_read_whole_on_a_small_phone(
    chromium: Any, served: Served, width: int
) -> None:
    served.grow(64)
    served.do(lambda: served.scope.tell_state("finishing"))
    for tab in open_tab(chromium, served, viewport={"width": width, "height": 700}):
        eventually(lambda tab=tab: tab.text_content("#state-words") == "Finishing the images")
        cut = "() => { const w = document.querySelector('#state-words');"
        assert not tab.evaluate(f"{cut} return w.scrollWidth > w.clientWidth; }}")
        assert tab.locator(".pill").bounding_box()["height"] < 40


def test_a_full_disk_is_told_while_the_scan_runs_and_an_old_camera_error_is_not(
    served: Served, tab: Any
) -> None:
    served.grow(64)
    disk = {"kind": "disk", "message": "only 50 MiB are free", "remedy": "free space"}
    served.do(lambda: served.scope.tell_state("acquiring", last_error=disk, errors=[disk]))
    eventually(lambda: tab.locator("#fault").is_visible())
    assert tab.text_content("#fault-message") == disk["message"]
    camera = {"kind": "error", "message": "the camera refused", "remedy": "switch it on"}
    both = [camera, disk]
    served.do(lambda: served.scope.tell_state("waiting", last_error=camera, errors=both))
    eventually(lambda: tab.text_content("#fault-message") == camera["message"])
    assert tab.text_content("#fault-remedy") == "switch it on. Also: only 50 MiB are free."
    served.do(lambda: served.scope.tell_state("acquiring", last_error=camera, errors=both))
    eventually(lambda: tab.text_content("#fault-message") == disk["message"])
    served.do(lambda: served.scope.tell_state("acquiring", last_error=camera, errors=[camera]))
    eventually(lambda: tab.locator("#fault").is_hidden())


def test_what_the_camera_says_of_itself_has_a_card(served: Served, tab: Any) -> None:
    served.grow(64)
    eventually(lambda: tab.text_content("#state-words") == "Scanning")
    assert tab.locator("#camera-card").is_hidden()
    readings = [
        {"name": "state", "value": "ready", "unit": "", "critical": False},
        {"name": "board_000/th0_temp", "value": 41.25, "unit": "C", "critical": True},
    ]
    served.do(lambda: served.scope.tell_state("waiting", camera_status=readings))
    eventually(lambda: tab.locator("#camera-card").is_visible())
    assert tab.locator("#camera dt").all_text_contents() == ["State", "Board 000 th0 temp"]
    assert tab.locator("#camera dd").all_text_contents() == ["ready", "41.25 °C"]
    assert tab.locator("#camera dd.warn").all_text_contents() == ["41.25 °C"]
    served.do(lambda: served.scope.tell_state("waiting", camera_status=[]))
    eventually(lambda: tab.locator("#camera-card").is_hidden())


def test_start_and_stop_are_there_only_where_the_camera_obeys(served: Served, tab: Any) -> None:
    served.grow(64)
    eventually(lambda: tab.text_content("#state-words") == "Scanning")
    assert tab.locator("[data-command=start]").is_hidden()
    assert tab.locator("[data-command=save]").is_visible()
    commands = ["abort", "start", "stop"]
    served.do(lambda: served.scope.tell_state("waiting", camera_commands=commands))
    eventually(lambda: tab.locator("[data-command=start]").is_visible())


def test_a_network_that_lags_behind_leaves_blank_what_it_has_not_reached(
    served: Served, tab: Any
) -> None:
    truth = served.scope.images["ricom"][0]
    restored = truth.copy()
    restored[20:] = 0
    snapshot = served.scope.snapshot(2048)
    late = Result("adf_restored", restored, "counts", "scan", 0.2, {"lines": 20})
    both = replace(snapshot, results=[*snapshot.results, late])
    served.do(lambda: served.scope.hub.snapshot("merlin", both))
    served.do(lambda: served.scope.tell_state("acquiring"))
    thumb(tab, "ADF restored")
    eventually(lambda: same_gray(tab, truth, *limits(truth[:20]), slice(0, 20)))
    assert (seen(tab)[21:30] == BLANK).all()


def test_an_image_that_comes_later_says_so_instead_of_being_black(served: Served, tab: Any) -> None:
    def show(value: float) -> None:
        snapshot = served.scope.snapshot(2048)
        phase = Result("direct_phase", np.full((64, 64), value, np.float32), "rad", "scan", 0.2)
        both = replace(snapshot, results=[*snapshot.results, phase])
        served.do(lambda: served.scope.hub.snapshot("merlin", both))

    show(0.0)
    served.do(lambda: served.scope.tell_state("acquiring"))
    thumb(tab, "Direct phase")
    eventually(lambda: tab.locator("#empty").is_visible())
    assert "No result yet" in tab.text_content("#empty-words")
    assert "after the scan" in tab.text_content("#empty-more")
    show(0.25)
    eventually(lambda: tab.locator("#empty").is_hidden())


def test_an_image_of_two_rings_says_so_above_it(served: Served, tab: Any) -> None:
    snapshot = served.scope.snapshot(2048)
    extra = {"mixed": [{"positions": 1024, "inner_px": 3.0, "outer_px": 9.0, "center": None}]}
    results = [replace(result, extra={**result.extra, **extra}) for result in snapshot.results]
    served.do(lambda: served.scope.hub.snapshot("merlin", replace(snapshot, results=results)))
    eventually(lambda: "changed in mid-scan" in tab.text_content("#image-note"))
    assert tab.locator("#image-note").is_visible()


def test_the_log_is_in_the_order_of_time_not_of_coming(served: Served, tab: Any) -> None:
    for second, text in ((5, "first"), (9, "third"), (7, "second"), (9, "fourth")):
        entry = {"level": "warning", "message": text, "time": f"2026-01-01T00:00:0{second}.000000Z"}
        served.do(lambda entry=entry: served.scope.hub.log("merlin", entry))
    expected = ["fourth", "third", "second", "first"]
    eventually(lambda: tab.locator("#log li span").all_text_contents()[-4:] == expected)


def test_what_the_page_says_has_the_daemon_s_time_whatever_this_computer_s_clock_says(
    served: Served, tab: Any
) -> None:
    """The daemon's clock is decades behind that of the browser, or the other way round."""
    for second, text in ((5, "before"), (40, "after")):
        entry = {"level": "warning", "message": text, "time": f"2006-01-01T00:00:{second:02}.000Z"}
        served.do(lambda entry=entry: served.scope.hub.log("merlin", entry))
    document = {"time": "2006-01-01T00:00:20.000Z", "viewers": 7177, "pipelines": {}}
    served.do(lambda: served.scope.hub.healthy(document))
    eventually(lambda: "177" in tab.text_content("#health"))
    tab.evaluate(
        """async () => {
            const { logLine } = await import(new URL("status.js", document.querySelector(
                "script[type=module]").src));
            logLine(document.getElementById("log"), "", { text: "the page" }, "error");
        }"""
    )
    lines = tab.locator("#log li span").all_text_contents()
    assert lines[-3:] == ["after", "the page", "before"]


def test_the_help_says_what_every_image_is(served: Served, tab: Any) -> None:
    served.grow(4096)
    eventually(lambda: tab.text_content("#image-about").startswith("Projected potential"))
    tab.keyboard.press("?")
    words = tab.locator("#words dt").all_text_contents()
    assert {"riCOM", "ADF", "Mean pattern", "Field"} <= set(words)
    assert "13 to 27 mrad" in tab.text_content("#words")


def test_health_is_told_in_plain_words_with_all_numbers_below(served: Served, tab: Any) -> None:
    health = {
        "pipelines": {"merlin": {"camera_connected": False, "pool_free": 3, "pool_blocks": 124}},
        "disk": {"free_bytes": 2**30, "total_bytes": 2**40, "low": True, "error": None},
    }
    served.do(lambda: served.scope.hub.healthy(health))
    tab.click("#health-card > summary")
    eventually(lambda: "not connected" in tab.text_content("#health"))
    wrong = tab.locator("#health .warn").all_text_contents()
    assert wrong == ["not connected", "3 of 124", "1 GiB of 1 TiB"]
    tab.click("#health-card .more summary")
    assert "merlin · Pool free" in tab.text_content("#health-all")


def test_a_broker_that_is_away_is_told_with_what_to_do(served: Served, tab: Any) -> None:
    error = {"message": "nothing listens on port 1883", "remedy": "start the broker"}
    broker = {"url": "mqtt://127.0.0.1:1883", "connected": False, "error": error}
    served.do(lambda: served.scope.hub.healthy({"pipelines": {}, "broker": broker}))
    tab.click("#health-card > summary")
    eventually(
        lambda: "nothing listens on port 1883; start the broker" in tab.text_content("#health")
    )


def test_the_page_says_how_far_the_beam_is_out_of_focus_and_what_to_press(
    served: Served, tab: Any
) -> None:
    assert tab.is_hidden("#measured")
    no = {"told": None, "agrees": None}
    measured = {
        "scan": "20251129T101500000Z-1a2b", "engine": "direct", "quality": 0.98, "agrees": False,
        "defocus_nm": {"value": 12.1, "sigma": 0.2, "told": 0.0, "agrees": False},
        "astigmatism_nm": {
            "value": 0.3, "sigma": 0.2, "told": 0.0, "agrees": True, "angle_deg": 40.0,
        },
        "rotation_deg": None, "flip": None, "coma_nm": None, "threefold_nm": None,
        "convergence_semi_angle_mrad": None, "drift_nm_per_s": None, "masked_pixels": None,
        "center": {"value": [31.5, 30.2], "sigma": 0.1, **no},
        "descan_px": {"value": [[0.1, 0.0], [-0.4, 0.0]], "sigma": 0.01, **no},
        "dose_e_per_square_angstrom": {"value": 2000.0, "sigma": 1.0, **no},
        "usable": {"defocus_nm": 12.1},
    }  # fmt: skip
    served.do(lambda: served.scope.hub.optics("merlin", measured))
    eventually(lambda: tab.is_visible("#measured"))
    words = tab.text_content("#measured p")
    assert "The beam is 12.1 nm out of focus (underfocus)" in words
    assert "Use measured" in words
    rows = tab.locator("#measured tbody tr").all_text_contents()
    assert rows[0].startswith("Defocus, nm012.1 ± 0.2")
    assert rows[1] == "Astigmatism, nm00.3 ± 0.2 at 40°"
    assert rows[2] == "Rotation, °–not clear"
    assert tab.locator("#measured tr.off").count() == 1
    tab.click("#measured button")
    assert "written anew" in tab.text_content("#files")
    tab.click("text=Replace the files")
    eventually(lambda: tab.text_content("#measured output") == "Done.")
    _, kind, request = served.scope.requests[-1]
    assert kind == "command"
    assert request["command"] == "recompute"
    assert request["args"] == {"settings": {"optics": {"defocus_nm": 12.1}}, "write": True}
    # its settings are in force now: nothing is left to press
    change = {"optics": {"defocus_nm": 12.1}}
    served.do(lambda: served.scope.settings["optics"].update(change["optics"]))
    served.do(served.scope.tell_settings)
    eventually(lambda: "in force" in tab.text_content("#measured p"))
    assert tab.is_hidden("#measured button")


def test_a_pipeline_that_is_gone_leaves_the_page(served: Served, tab: Any) -> None:
    hub = served.scope.hub
    served.grow(4096)
    served.do(lambda: hub.state("eels", {"state": "waiting"}))
    tab.locator("#pipelines button", has_text="eels").click()
    eventually(lambda: not tab.locator(".thumb").count())
    served.do(lambda: hub.expect(["merlin"]))
    eventually(tab.locator("#pipelines").is_hidden)
    image = served.scope.images["ricom"][0]
    eventually(lambda: same_gray(tab, image, *limits(image), TOP))


def test_a_pipeline_that_went_with_the_daemon_leaves_the_page_when_it_is_back(
    served: Served, tab: Any
) -> None:
    hub = served.scope.hub
    served.do(lambda: hub.state("eels", {"state": "waiting"}))
    eventually(lambda: tab.locator("#pipelines button").count() == 2)
    port = int(served.url.rsplit(":", 1)[1].strip("/"))
    served.stop()
    served.do(lambda: hub.expect(["merlin"]))
    served.start(listen=f"127.0.0.1:{port}")
    eventually(tab.locator("#pipelines").is_hidden)
