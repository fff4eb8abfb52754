"""Images of a large scan: drawn when somebody wants them, and what they would be if kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd import drawing
from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.engines import growing, ricom
from stemd.engines.base import PositionMaps
from stemd.image_frames import ReducedImage, reduced
from stemd.results import DrawnResult, Result
from stemd.scan import sums
from stemd.scan.run import ScanRun
from tests.engines.scenes import engine, settings_of

SHAPE = (24, 40)
SIZE = SHAPE[0] * SHAPE[1]
ENGINES = ("com", "sum", "virtual_detector", "ricom")
IMAGES = ("com_y", "com_x", "field_magnitude", "field_direction", "sum", "ring")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scan is a large one."""
    monkeypatch.setattr(growing, "LARGE", 1)
    monkeypatch.setattr(sums, "LARGE", 1)
    monkeypatch.setattr(ricom, "LARGE", 1)


class Growing:
    """A scan whose sums are made of noise, a run of positions at a time."""

    def __init__(self, optics: Optics, wander: float = 0.0) -> None:
        table = {"detectors_px": {"ring": (3.0, 7.0)}}
        choices = [engine(n, **(table if n == "virtual_detector" else {})) for n in ENGINES]
        detector = Detector("t", (16, 16), "u1", 8)
        acquisition = Acquisition(Scan(shape=SHAPE), detector, id="large", started_ns=1)
        self.settings = settings_of(choices, optics)
        self.run = ScanRun(acquisition, self.settings, choices)
        rng = np.random.default_rng(1)
        self.total = rng.integers(1, 50, SIZE)
        drift = (wander * np.arange(SIZE) / SIZE * self.total).astype(np.int64)
        self.moments = [self.total * 7 + drift + rng.integers(-40, 40, SIZE) for _ in range(2)]
        self.done = 0

    def come(self, count: int) -> None:
        """The next positions are complete."""
        part = slice(self.done, self.done + count)
        maps = self.run.sums.maps
        maps.total[part], maps.done[part] = self.total[part], True
        maps.moment_y[part], maps.moment_x[part] = (moment[part] for moment in self.moments)
        maps.detector_sums[0, part] = self.total[part] // 3
        self.run.intake.add_positions([(self.done, self.done + count)])
        self.run.feed()
        self.done += count

    def results(self, *, final: bool = False) -> dict[str, Result]:
        """As they are now."""
        return {result.name: result for result in self.run.snapshot(final=final).results}

    def images(self, *, final: bool = False) -> dict[str, NDArray[np.float32]]:
        """As they are now, made."""
        return {name: result.image for name, result in self.results(final=final).items()}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("wander", [0.0, 3.0], ids=["steady", "centre moves"])
@pytest.mark.parametrize("center", ["auto", (7.0, 7.2)])
def test_what_is_drawn_is_as_if_made_anew(
    center: object, wander: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = Growing(Optics(center=center), wander)  # type: ignore[arg-type]
    for count in (100, 1, 250, 300):
        scan.come(count)
        results = scan.results()
    assert all(isinstance(result, DrawnResult) for result in results.values())
    with monkeypatch.context() as patch:
        patch.setattr(growing, "LARGE", SIZE + 1)
        patch.setattr(ricom, "LARGE", SIZE + 1)
        other = Growing(Optics(center=center), wander)  # type: ignore[arg-type]
        for count in (100, 1, 250, 300):
            other.come(count)
        anew = other.images()
    for name, result in results.items():
        far = 2 * 0.01 if name.startswith(("com", "field_magnitude")) else 1e-4
        if name != "field_direction":
            image = result.image
            np.testing.assert_allclose(image, anew[name], atol=far, rtol=1e-5, err_msg=name)
            np.testing.assert_array_equal(np.concatenate(list(result.parts())), image)


@pytest.mark.usefixtures("large")
def test_lines_that_have_changed_are_told_and_no_others() -> None:
    scan = Growing(Optics(center=(7.0, 7.0)))
    scan.come(3 * SHAPE[1] + 4)
    before = {name: (r.changes, r.changes.now) for name, r in scan.results().items() if r.changes}
    assert before.keys() == scan.results().keys()
    scan.come(SHAPE[1])
    for name, result in scan.results().items():
        changes, then = before[name]
        assert result.changes is changes
        reach = 30 if name == "ricom" else 0
        assert changes.since(then) == [(max(0, 3 - reach), min(SHAPE[0], 5 + reach))], name
        assert changes.since(changes.now) == []


@pytest.mark.usefixtures("large")
def test_an_earlier_snapshot_shows_what_has_come_since() -> None:
    scan = Growing(Optics(center=(7.0, 7.0)))
    scan.come(400)
    before = scan.results()
    scan.come(7)
    after = scan.results()
    for name, result in before.items():
        np.testing.assert_array_equal(result.image, after[name].image, err_msg=name)
    np.testing.assert_array_equal(before["sum"].image.reshape(-1)[:407], scan.total[:407])


@pytest.mark.usefixtures("large")
def test_changed_settings_are_shown_everywhere() -> None:
    scan = Growing(Optics(center=(7.0, 7.0)))
    scan.come(400)
    before = scan.images()["com_x"].reshape(-1)[:400].copy()
    moved = settings_of(scan.run.engines.choices, Optics(center=(7.0, 5.0)))  # type: ignore[arg-type]
    scan.run.engines.update(moved)
    after = scan.images()["com_x"].reshape(-1)[:400]
    np.testing.assert_allclose(after, before + 2.0, atol=1e-5)


def test_finished_images_are_those_of_a_scan_that_was_never_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = Growing(Optics())
    never.come(SIZE)
    expected = never.images(final=True)
    monkeypatch.setattr(growing, "LARGE", 1)
    monkeypatch.setattr(ricom, "LARGE", 1)
    scan = Growing(Optics())
    for count in (60, 200, SIZE - 260):
        scan.come(count)
        last = scan.images()
    finished = scan.images(final=True)
    assert last.keys() <= finished.keys()
    for name, image in finished.items():
        np.testing.assert_array_equal(image, expected[name], err_msg=name)
    again = scan.images(final=True)
    np.testing.assert_array_equal(again["com_y"], finished["com_y"])


@pytest.mark.usefixtures("large")
def test_finished_images_keep_their_settings_and_tell_of_no_changes() -> None:
    scan = Growing(Optics(center=(7.0, 7.0)))
    scan.come(SIZE)
    finished = scan.results(final=True)
    before = {name: result.image for name, result in finished.items()}
    moved = settings_of(scan.run.engines.choices, Optics(center=(7.0, 5.0)))  # type: ignore[arg-type]
    anew = {r.name: r for r in scan.run.recompute(moved).results}
    for name, result in finished.items():
        assert result.changes is None
        np.testing.assert_array_equal(result.image, before[name], err_msg=name)
    np.testing.assert_allclose(anew["com_x"].image, before["com_x"] + 2.0, atol=1e-5)


@pytest.mark.usefixtures("large")
def test_the_first_images_are_written_where_positions_have_come() -> None:
    scan = Growing(Optics())
    scan.run.sums.maps.total[500:] = 9  # hits of positions that are not complete
    scan.come(300)
    images = scan.images()
    np.testing.assert_array_equal(images["sum"].reshape(-1)[:300], scan.total[:300])
    for name in ("sum", "ring", "com_y", "com_x"):
        assert not images[name].reshape(-1)[300:].any(), name


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("wander", "anew"), [(0.0, False), (3.0, True)])
def test_ricom_is_built_anew_where_its_zero_has_moved(
    wander: float, anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ricom, "STILL_PX", 0.3)
    scan = Growing(Optics(), wander)
    scan.come(300)
    before = scan.results()["ricom"].changes
    scan.come(600)
    assert (before is not scan.results()["ricom"].changes) == anew


@pytest.mark.usefixtures("large")
def test_a_detector_that_is_gone_leaves_its_last_image_empty() -> None:
    scan = Growing(Optics())
    scan.come(300)
    ring = scan.results()["ring"]
    scan.run.sums.maps.rename_detectors(["disc"])
    assert not ring.image.any()
    assert "ring" not in scan.results()


@pytest.mark.usefixtures("large")
def test_a_position_that_becomes_complete_while_it_is_drawn_is_not_shown_half() -> None:
    scan = Growing(Optics())
    scan.come(1)
    maps = scan.run.sums.maps

    def values(first: int, stop: int) -> NDArray[np.float64]:
        half = np.full(stop - first, 0.5)
        maps.done[:] = True  # by another thread, just after the sums have been read
        return half

    drawn = growing.Growing(maps).drawing(values, final=False).draw(0, 1)
    assert drawn.reshape(-1)[1:].tolist() == [0.0] * (SHAPE[1] - 1)


def test_while_detectors_are_renamed_every_name_has_its_own_sums() -> None:
    """Images that are drawn ask for them by any thread, at any time."""

    class Watched(PositionMaps):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if getattr(self, "watched", False):
                seen = self.detectors
                assert seen["b"].tolist() == [2, 2]
                assert seen.keys() in ({"a", "b"}, {"b", "c", "d"})

    detector = Detector("t", (16, 16), "u1", 8)
    maps = Watched(Acquisition(Scan(shape=(1, 2)), detector), ("a", "b"))
    maps.detector_sums[:] = [[1], [2]]
    maps.watched = True
    maps.rename_detectors(("b", "c", "d"))
    assert maps.detector_names == ("b", "c", "d")


@pytest.mark.usefixtures("large")
def test_of_many_lines_that_have_changed_some_are_drawn_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing, "DRAWN_AT_ONCE", 4 * SHAPE[1])
    scan, kept = Growing(Optics(center=(7.0, 7.0))), ReducedImage(2)
    scan.come(SHAPE[1] + 3)
    kept.of(scan.results()["sum"])
    scan.come(SIZE - SHAPE[1] - 3)
    total, drawn = scan.results()["sum"], []
    assert isinstance(total, DrawnResult)

    def draw(first: int, stop: int) -> NDArray[np.float32]:
        drawn.append(stop - first)
        return total.lines(first, stop)

    found = kept.of(total.changed(image=replace(total._drawing, draw=draw)))
    np.testing.assert_array_equal(found, reduced(total.image, 2, mean=True))
    assert max(drawn) <= 4
    assert sum(drawn) == SHAPE[0]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("step", [2, 5, 8])
def test_a_reduced_image_follows_the_lines_that_change(step: int) -> None:
    scan = Growing(Optics(center=(7.0, 7.0)), wander=2.0)
    kept = {name: ReducedImage(step) for name in (*IMAGES, "ricom")}
    for count in (10, 3, 200, 47, 400):
        scan.come(count)
        results = scan.results()
        for name, result in results.items():
            whole = reduced(result.image, step, mean=name != "field_direction")
            np.testing.assert_array_equal(kept[name].of(result), whole, err_msg=name)
    drawn: list[int] = []
    total = results["sum"]
    assert isinstance(total, DrawnResult)
    counted = replace(total._drawing, draw=lambda a, b: drawn.append(b - a) or total.lines(a, b))
    scan.come(SHAPE[1])
    kept["sum"].of(total.changed(image=counted))
    assert sum(drawn) <= 2 + 2 * step


@pytest.mark.usefixtures("large")
def test_a_result_that_is_drawn_stays_so_under_another_name() -> None:
    scan = Growing(Optics())
    scan.come(300)
    result = scan.results()["sum"]
    renamed = result.changed(name="other")
    assert isinstance(renamed, DrawnResult)
    assert renamed.changes is result.changes
    assert (renamed.name, renamed.units) == ("other", "counts")
    kept = replace(result, name="kept")
    scan.come(100)
    assert np.count_nonzero(kept.image) == 300
    assert np.count_nonzero(renamed.image) == 400
