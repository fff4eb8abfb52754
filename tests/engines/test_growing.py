"""Growing images of a large scan: only what has changed is written, and it is what it would be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.engines import growing, ricom
from stemd.scan import run
from stemd.scan.run import ScanRun
from tests.engines.scenes import engine, settings_of

SHAPE = (24, 40)
SIZE = SHAPE[0] * SHAPE[1]
ENGINES = ("com", "sum", "virtual_detector", "ricom")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scan is a large one."""
    monkeypatch.setattr(growing, "LARGE", 1)
    monkeypatch.setattr(run, "LARGE", 1)
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
        maps = self.run.recorded
        maps.total[part], maps.done[part] = self.total[part], True
        maps.moment_y[part], maps.moment_x[part] = (moment[part] for moment in self.moments)
        maps.detector_sums[0, part] = self.total[part] // 3
        self.run.intake.add_positions([(self.done, self.done + count)])
        self.run.feed()
        self.done += count

    def images(self, *, final: bool = False) -> dict[str, NDArray[np.float32]]:
        """As they are now; not copied."""
        return {r.name: r.image for r in self.run.snapshot(final=final).results}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("wander", [0.0, 3.0], ids=["steady", "centre moves"])
@pytest.mark.parametrize("center", ["auto", (7.0, 7.2)])
def test_what_has_come_is_in_the_same_memory_and_as_if_made_anew(
    center: object, wander: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = Growing(Optics(center=center), wander)  # type: ignore[arg-type]
    scan.come(100)
    first = scan.images()
    for count in (1, 250, 300):
        scan.come(count)
    grown = scan.images()
    for name, image in grown.items():
        assert np.shares_memory(image, first[name]) or name == "ricom", name
    with monkeypatch.context() as patch:
        patch.setattr(growing, "LARGE", SIZE + 1)
        other = Growing(Optics(center=center), wander)  # type: ignore[arg-type]
        for count in (100, 1, 250, 300):
            other.come(count)
        anew = other.images()
    for name, image in grown.items():
        far = 2 * 0.01 if name.startswith(("com", "field_magnitude")) else 1e-4
        if name != "field_direction":
            np.testing.assert_allclose(image, anew[name], atol=far, rtol=1e-5, err_msg=name)


@pytest.mark.usefixtures("large")
def test_only_what_is_new_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Growing(Optics(center=(7.0, 7.0)))
    scan.come(400)
    before = scan.images()
    for name in ("sum", "com_y", "ring"):
        before[name].reshape(-1)[:400] = -5.0  # nobody looks there again
    scan.come(7)
    after = scan.images()
    for name in ("sum", "com_y", "ring"):
        flat = after[name].reshape(-1)
        assert (flat[:400] == -5.0).all(), name
        assert (flat[400:407] != 0.0).any(), name
    np.testing.assert_array_equal(after["sum"].reshape(-1)[400:407], scan.total[400:407])


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
    assert np.shares_memory(last["com_y"], finished["com_y"])
    for name, image in finished.items():
        np.testing.assert_array_equal(image, expected[name], err_msg=name)
    again = scan.images(final=True)
    assert not np.shares_memory(again["com_y"], finished["com_y"])


@pytest.mark.usefixtures("large")
def test_the_first_images_are_written_where_positions_have_come() -> None:
    scan = Growing(Optics())
    scan.run.recorded.total[500:] = 9  # hits of positions that are not complete
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
    before = scan.images()["ricom"]
    scan.come(600)
    assert np.shares_memory(before, scan.images()["ricom"]) != anew


@pytest.mark.parametrize("seed", range(5))
def test_joined_runs_hold_all_positions_and_the_smallest_gaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, 3000, 80)
    runs = [(int(first), int(first + rng.integers(1, 9))) for first in firsts]
    held = np.zeros(3100, np.bool_)
    for first, stop in runs:
        held[first:stop] = True
    for most in (1, 2, 7, 1000):
        found = growing.joined(runs, most)
        assert len(found) <= most
        assert found == sorted(found)
        filled = np.zeros_like(held)
        for first, stop in found:
            filled[first:stop] = True
        assert filled[held].all()
        assert held[[first for first, _ in found]].all()
        if most == 1000:
            np.testing.assert_array_equal(filled, held)
            continue
        inside = np.flatnonzero(held)
        gaps = np.sort(np.diff(inside) - 1)[::-1]
        assert np.count_nonzero(filled & ~held) <= gaps[most - 1 :].sum() + most * gaps[most - 1]


def test_many_runs_that_came_apart_are_remembered_as_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing, "LARGE", 1)
    monkeypatch.setattr(growing, "MOST_RUNS", 16)
    scan = Growing(Optics())
    images = growing.Growing(scan.run.maps)
    images.take(["a"], final=False)
    for first in range(0, 900, 9):
        images.came(first, first + 2)
    images.anew()
    _, parts = images.take(["a"], final=False)
    written = np.zeros(SIZE, np.bool_)
    for first, stop in parts:
        written[first:stop] = True
    assert len(parts) <= 16
    assert all(written[first : first + 2].all() for first in range(0, 900, 9))
