"""What an operator at the page must not be misled by: in a real browser, with a hub behind it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Served, eventually, open_tab, thumb

from stemd.scan.measured_optics import NAMES

pytestmark = pytest.mark.browser


def middle_of(tab: Any, side: int) -> tuple[float, float, float]:
    """Where the middle of a square image of so many pixels stands, and how large one is."""
    box = tab.locator("#main").bounding_box()
    scale = min(box["width"], box["height"]) / side
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, scale


def test_a_pattern_is_read_in_scattering_angle_from_its_centre(served: Served, tab: Any) -> None:
    served.grow(4096)
    thumb(tab, "Mean pattern")
    eventually(lambda: "128 by 128" in (tab.get_attribute("#main", "aria-label") or ""))
    x, y, scale = middle_of(tab, 128)
    # 40 pixels of 0.5 mrad right of the centre at 63.5, the middle of pixel 103
    tab.mouse.move(x + 40 * scale - scale / 2, y - scale / 2)
    eventually(lambda: "from the centre" in tab.text_content("#readout"))
    found = re.search(r"([\d.]+) mrad from the centre", tab.text_content("#readout"))
    assert found is not None
    assert abs(float(found[1]) - 20.0) < 0.6


def test_a_ring_has_a_dark_edge_that_shows_on_the_bright_disc(served: Served, tab: Any) -> None:
    served.grow(4096)
    thumb(tab, "Mean pattern")
    eventually(lambda: "128 by 128" in (tab.get_attribute("#main", "aria-label") or ""))
    tab.wait_for_timeout(300)
    across = tab.evaluate(
        """() => { const c = document.getElementById("main");
        const s = Math.min(c.width, c.height) / 128, r = 20 * s;
        const y = Math.round(c.height / 2 + r * Math.sin(2)), x = c.width / 2 + r * Math.cos(2);
        const d = c.getContext("2d").getImageData(Math.round(x) - 5, y, 11, 1).data;
        return Array.from({ length: 11 }, (_, i) => d[4 * i] + d[4 * i + 1] + d[4 * i + 2]); }"""
    )
    assert min(across) < 250, "no dark edge beside the colour"


def test_the_kernel_size_is_the_first_control_and_angles_stay_within_half_a_turn(
    served: Served, tab: Any
) -> None:
    served.grow(64)
    tab.wait_for_selector("#settings input")
    assert tab.locator("#settings label").first.text_content() == "Kernel size"
    field = "#settings input[aria-label='Rotation, exact value']"
    tab.fill(field, "270")
    tab.press(field, "Enter")
    eventually(lambda: served.scope.settings["optics"]["rotation_deg"] == -90)
    eventually(lambda: tab.input_value(field) == "-90")


def scope_step(served: Served, angstrom: float) -> None:
    served.scope.settings["scan"]["step_size_angstrom"] = angstrom
    served.scope.revision += 1
    served.scope.tell_settings()


def test_a_band_pass_is_in_the_unit_of_its_curve(served: Served, tab: Any) -> None:
    """64 positions 0.2 Å apart: one wave over the image is 1/12.8 Å⁻¹."""
    served.grow(4096)
    switch = "#settings input[aria-label='Band pass, set by hand instead of off']"
    tab.wait_for_selector(switch)
    eventually(lambda: "64 by 64" in (tab.get_attribute("#main", "aria-label") or ""))
    tab.click(switch)
    eventually(lambda: served.scope.settings["ricom"]["band_pass"] == [0, 64])
    high = "#settings input[aria-label='Band pass, to']"
    eventually(lambda: tab.input_value(high) == "5")
    tab.fill(high, "0.5")
    tab.press(high, "Enter")
    eventually(lambda: served.scope.settings["ricom"]["band_pass"][1] == pytest.approx(6.4))
    served.do(lambda: scope_step(served, 0.21))  # of which 1/64 is no short number
    served.scope.settings["ricom"]["band_pass"] = [0, 60]
    served.do(lambda: scope_step(served, 0.21))
    eventually(lambda: tab.input_value(high) == "4.46429")
    low = "#settings input[aria-label='Band pass, from']"
    tab.fill(low, "1")
    tab.press(low, "Enter")
    eventually(lambda: served.scope.settings["ricom"]["band_pass"] == [13.44, 60])
    row = tab.locator(".row", has=tab.locator("#set-ricom-band_pass"))
    assert row.locator(".unit").text_content() == "Å⁻¹"


def test_a_finished_image_of_other_settings_says_so_and_offers_recompute(
    served: Served, tab: Any
) -> None:
    served.grow(4096)
    served.do(lambda: served.scope.tell_state("waiting"))
    tab.wait_for_selector("#settings input")
    assert tab.is_hidden("#stale")

    def other_settings() -> None:
        scope = served.scope
        scope.settings["ricom"] = {"kernel_size": 21, "band_pass": None}
        scope.revision += 1
        scope.tell_settings()

    served.do(other_settings)
    eventually(lambda: tab.is_visible("#stale"))
    tab.click("#stale button")
    eventually(lambda: "Save replaces them" in tab.text_content("#command-reply"))
    assert served.scope.requests[-1][2]["command"] == "recompute"
    assert not served.scope.requests[-1][2]["args"], "files must not be written unasked"
    served.grow(4096)
    served.do(lambda: served.scope.tell_state("waiting"))
    eventually(lambda: tab.is_hidden("#stale"))


def test_other_words_about_the_sample_make_no_image_stale(served: Served, tab: Any) -> None:
    served.grow(4096)
    served.do(lambda: served.scope.tell_state("waiting"))
    tab.wait_for_selector("#settings input")

    def told() -> None:
        served.scope.settings["about"] = {"sample": "Gold"}
        served.scope.revision += 1
        served.scope.tell_settings()

    served.do(told)
    eventually(lambda: tab.text_content("#revision") == "revision 4")
    assert tab.is_hidden("#stale")


def test_files_of_a_finished_scan_are_replaced_only_after_a_question(
    served: Served, tab: Any
) -> None:
    served.grow(4096)
    served.do(lambda: served.scope.tell_state("waiting"))
    eventually(lambda: "4\u202f096 of" in tab.text_content("#scan-done"))
    tab.click("[data-command=save]")
    tab.click("#files >> text=Cancel")
    tab.click("[data-command=save]")
    assert served.scope.requests == []
    tab.click("#files >> text=Replace the files")
    eventually(lambda: [r["command"] for _, _, r in served.scope.requests] == ["save"])


def test_a_camera_that_is_absent_is_told_from_one_that_rests(served: Served, tab: Any) -> None:
    served.do(lambda: served.scope.tell_state("waiting", camera_connected=False))
    eventually(lambda: tab.text_content("#state-words") == "Camera not connected")
    assert "host and port" in tab.text_content("#empty-more")
    served.do(lambda: served.scope.tell_state("waiting", camera_connected=True))
    eventually(lambda: tab.text_content("#state-words") == "Ready for a scan")
    assert "no scan runs" in tab.text_content("#empty-words")


def test_an_empty_image_does_not_wait_for_a_line_when_all_lines_are_there(
    served: Served, tab: Any
) -> None:
    served.do(lambda: served.scope.tell_state("acquiring"))
    eventually(lambda: tab.text_content("#empty-words") == "Waiting for the first scan line")
    served.do(lambda: setattr(served.scope, "done", 4096))
    served.do(lambda: served.scope.tell_state("finishing"))
    eventually(lambda: tab.text_content("#empty-words") == "The first image is being made")


def test_after_a_restart_the_page_shows_the_last_scan_that_is_kept(
    chromium: Any, tmp_path: Path
) -> None:
    served = Served(tmp_path)
    served.scope.keep(tmp_path)
    try:
        for tab in open_tab(chromium, served):
            served.do(served.scope.tell_settings)
            eventually(lambda tab=tab: tab.text_content("#image-note").startswith("of the last"))
            assert tab.is_visible("#image-note")
            assert tab.is_hidden("#empty")
            served.scope.new_scan()
            served.grow(1024)
            eventually(lambda tab=tab: tab.is_hidden("#image-note"))
    finally:
        served.close()


def test_the_contrast_panel_says_whose_it_is(served: Served, tab: Any) -> None:
    served.grow(4096)
    eventually(lambda: tab.text_content("#contrast summary").strip() == "Contrast of riCOM")
    thumb(tab, "ADF")
    eventually(lambda: tab.text_content("#contrast summary").strip() == "Contrast of ADF")


@pytest.mark.parametrize("grid", [False, True])
def test_a_png_has_what_is_seen_with_its_scale_and_colours(
    served: Served, tab: Any, tmp_path: Path, grid: bool
) -> None:
    served.grow(4096)
    eventually(lambda: "64 by 64" in (tab.get_attribute("#main", "aria-label") or ""))
    if grid:
        tab.keyboard.press("g")
    tab.wait_for_timeout(500)
    with tab.expect_download() as download:
        tab.click("#save-button")
    assert download.value.suggested_filename.endswith("_all.png" if grid else "_ricom.png")
    path = tmp_path / "seen.png"
    download.value.save_as(path)
    size = np.frombuffer(path.read_bytes()[16:24], ">u4")
    area = tab.locator("#grid" if grid else "#main").bounding_box()
    bar = 0 if grid else tab.locator("#bar").bounding_box()["width"] + 8
    assert abs(int(size[0]) - area["width"] - bar) <= 2
    assert abs(int(size[1]) - area["height"]) <= 2


def test_what_a_scan_is_of_is_said_on_the_page_while_it_runs_and_afterwards(
    served: Served, tab: Any, tmp_path: Path
) -> None:
    scope = served.scope
    scope.settings["about"] = {"sample": "", "operator": "", "comment": "", "tags": []}
    served.do(scope.tell_settings)
    served.grow(64)
    tab.click("#about-button")
    tab.fill("[name=sample]", "Au 5 nm")
    tab.fill("[name=tags]", "night, drift")
    tab.click("#about >> text=Save")
    eventually(lambda: tab.text_content("#scan-about") == "Au 5 nm · #night · #drift")
    eventually(lambda: tab.is_hidden("#about"))
    words = {"operator": "", "comment": "", "tags": ["night", "drift"]}
    assert scope.settings["about"] == {"sample": "Au 5 nm", **words}
    served.do(lambda: scope.keep(served.data_dir))
    tab.keyboard.press("a")
    tab.locator(".cover").first.click()
    eventually(lambda: tab.text_content("#scan-about") == "Gold · Zoë · #night")
    tab.click("#about-button")
    tab.fill("[name=comment]", "drifts")
    tab.press("[name=comment]", "Enter")
    eventually(lambda: tab.is_hidden("#about"))
    pipeline, kind, request = scope.requests[-1]
    assert (pipeline, kind, request["command"]) == ("merlin", "command", "describe")
    told = {"sample": "Gold", "operator": "Zoë", "comment": "drifts", "tags": ["night"]}
    assert request["args"] == {"scan": scope.acquisition.id, **told}


def test_words_for_the_next_sample_leave_the_last_scan_alone_unless_asked_for(
    served: Served, tab: Any
) -> None:
    scope = served.scope
    scope.settings["about"] = {"sample": "Au", "operator": "", "comment": "", "tags": []}
    served.do(scope.tell_settings)
    served.grow(4096)
    served.do(lambda: scope.tell_state("waiting"))
    eventually(lambda: tab.text_content("#scan-about") == "Au")
    for sample, also in (("Pt", False), ("Pd", True)):
        tab.click("#about-button")
        assert tab.text_content("#about-why") == "Of the scans that follow."
        tab.fill("[name=sample]", sample)
        assert not tab.is_checked("[name=last]")
        if also:
            tab.check("[name=last]")
        tab.click("#about >> text=Save")
        eventually(lambda: tab.is_hidden("#about"))
        eventually(lambda sample=sample: scope.settings["about"]["sample"] == sample)
        described = [r for _, _, r in scope.requests if r.get("command") == "describe"]
        assert [r["args"]["sample"] for r in described] == (["Pd"] if also else [])
    served.grow(64)
    tab.click("#about-button")
    assert tab.is_hidden("#about-last")


def test_the_dose_of_the_running_scan_stands_beside_it(served: Served, tab: Any) -> None:
    eventually(lambda: tab.text_content("#scan-dose") == "–")
    served.grow(64)
    eventually(lambda: tab.text_content("#scan-dose") == "after the scan")
    dose = {"value": 1234.4, "sigma": 1.0, "told": None, "agrees": None}
    optics = {"scan": served.scope.acquisition.id, "dose_e_per_square_angstrom": dose}
    served.do(lambda: served.scope.hub.optics("merlin", optics))
    eventually(lambda: tab.text_content("#scan-dose") == "1234 e/Å²")


def session(**change: object) -> dict[str, Any]:
    return {
        **{"event": "session", "id": "s", "name": "overnight", "pipeline": "merlin"},
        **{"status": "running", "reason": "", "started": "2026-03-01T20:00:00.000000Z"},
        **{"plan": {"name": "overnight", "scans": 500}, "gone": {}, "outages": [], "stopping": ""},
        **{"counts": {"complete": 12, "incomplete": 1, "aborted": 2}, "finished": None},
        **change,
    }


def test_a_session_is_begun_followed_and_ended_on_the_page(served: Served, tab: Any) -> None:
    scope = served.scope
    tab.wait_for_selector("#settings input")
    tab.click("#session-button")
    tab.fill("#session-form [name=name]", "overnight")
    tab.fill("#session-form [name=scans]", "500")
    tab.press("#session-form [name=scans]", "Enter")
    eventually(lambda: tab.is_hidden("#session"))
    asked = scope.requests[-1][2]
    told = {"name": "overnight", "scans": 500, "pause_s": 0, "start": True}
    assert (asked["command"], asked["args"]) == ("session", told)
    served.do(lambda: scope.hub.document("merlin", session(gone={"camera": 10**18})))
    eventually(lambda: tab.text_content("#session-name") == "overnight")
    words = tab.text_content("#session-facts")
    assert "13 of 500" in words
    assert "With holes1" in words
    assert "not counted2" in words
    assert "Camera away" in words
    assert tab.text_content("#log") == "", "it is no line of the log"
    tab.click("#session-stop")
    assert scope.requests[-1][2] is asked, "one click ends no night's work"
    tab.click("#session-stop")
    eventually(lambda: scope.requests[-1][2]["args"] == {"stop": True})
    tab.reload()
    eventually(lambda: "13 of 500" in tab.text_content("#session-facts"))
    over = {"status": "ended", "reason": "the disk is full", "finished": "2026-03-02T01:00:00Z"}
    served.do(lambda: scope.hub.document("merlin", session(**over)))
    eventually(lambda: tab.text_content("#session-name") == "overnight, over")
    assert "the disk is full" in tab.text_content("#session-facts")
    assert tab.is_hidden("#session-stop")


def test_settings_that_the_config_does_not_have_are_told_kept_or_taken_back(
    served: Served, tab: Any
) -> None:
    scope = served.scope
    tab.wait_for_selector("#settings input")
    assert tab.is_hidden("#differs")
    scope.settings["changed"] = ["ricom.kernel_size"]
    served.do(scope.tell_settings)
    eventually(lambda: "ricom.kernel_size is not as" in tab.text_content("#differs"))
    scope.settings["changed"] = ["ricom.kernel_size", "optics.rotation_deg"]
    served.do(scope.tell_settings)
    eventually(lambda: "2 settings are not as" in tab.text_content("#differs"))
    tab.click("#differs >> text=Keep")
    eventually(lambda: [r[2]["command"] for r in scope.requests] == ["save_settings"])
    tab.click("#differs >> text=Reset")
    eventually(lambda: scope.requests[-1][2]["command"] == "reset")
    scope.settings["changed"] = []
    served.do(scope.tell_settings)
    eventually(lambda: tab.is_hidden("#differs"))


def noted(kind: str, text: str, remedy: str = "", level: str = "warning") -> dict[str, Any]:
    return {"kind": kind, "level": level, "text": text, "remedy": remedy, "count": 1}


NOTED = [
    noted("info", "a remark", level="info"),
    noted("lens_disagrees", "the data have a defocus of 5 nm"),
    noted("beyond", "256 frames are beyond", "set the shape of the scan"),
]


@pytest.mark.parametrize("width", [1280, 390])
def test_what_was_noticed_about_a_scan_stands_beside_its_image_live_and_later(
    served: Served, tab: Any, width: int
) -> None:
    scope = served.scope
    tab.set_viewport_size({"width": width, "height": 844})
    served.grow(4096)
    served.do(lambda: scope.tell_state("waiting", notices=NOTED))
    eventually(lambda: tab.is_visible("#notices"))
    words = "256 frames are beyond. set the shape of the scan. and 1 more"
    assert tab.inner_text("#notices summary") == words
    assert tab.locator("#notices").bounding_box()["y"] < 400
    served.do(lambda: scope.keep(served.data_dir, notices=NOTED))
    scope.new_scan()
    served.grow(64)
    eventually(lambda: tab.is_hidden("#notices"))
    tab.keyboard.press("a")
    eventually(lambda: tab.locator(".status.noted").count() == 1)
    assert tab.text_content(".status.noted") == "complete, 2 warnings"
    tab.locator(".cover").first.click()
    eventually(lambda: tab.is_visible("#notices"))
    assert tab.inner_text("#notices summary") == words
    tab.click("#notices summary")
    assert "a defocus of 5 nm" in tab.inner_text("#notices li")


def test_the_focus_of_an_older_scan_is_not_taken_for_that_of_the_scan_on_the_screen(
    served: Served, tab: Any
) -> None:
    scope = served.scope
    off = {"value": 12.1, "sigma": 0.2, "told": 0.0, "agrees": False}
    nothing = dict.fromkeys(NAMES) | {"usable": {}, "agrees": None, "engine": None}
    own = nothing | {"scan": scope.acquisition.id, "agrees": False, "usable": {"defocus_nm": 12.1}}
    served.grow(4096)
    served.do(lambda: scope.hub.optics("merlin", own | {"defocus_nm": off}))
    eventually(lambda: tab.is_visible("#measured button"))
    scope.new_scan()
    served.grow(64)
    eventually(lambda: "not measured yet" in tab.text_content("#measured p"))
    assert "Below: the scan of" in tab.text_content("#measured p")
    assert tab.is_hidden("#measured button")
    assert tab.locator("#measured.warn").count() == 0
    why = {"scan": scope.acquisition.id, "not_measured": 'optics.measured is "off"'}
    served.do(lambda: scope.hub.optics("merlin", nothing | why))
    eventually(lambda: 'measured is "off"' in tab.text_content("#measured p"))
    assert "12.1" not in tab.text_content("#measured")
    assert tab.is_hidden("#measured button")
