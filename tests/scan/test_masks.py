"""Pixels that do not count: given, the camera's own, or found in the first patterns."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.api.plan import optics_of
from stemd.blocks import EventBlock, FrameBlock
from stemd.engines.bad_pixels import find_bad_pixels
from stemd.engines.base import PositionMaps
from stemd.engines.diffraction_grid import DiffractionGrid, grid_table
from stemd.engines.reduction import Reducer
from stemd.errors import ConfigError
from stemd.pixels import full_scale, mask_of, rectangles_of, runs_of
from stemd.scan.late_pixels import LatePixels
from stemd.scan.masking import BrokenPixels
from stemd.scan.part import ScanPart
from stemd.scan.run import ScanRun
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

SIZE = 32
RANDOM = np.random.default_rng(5)
Patterns = NDArray[np.uint16]


def disc_patterns(
    count: int = 100, *, counts: float = 400.0, radius: float = 6.0, seed: int = 0
) -> Patterns:
    """Poisson counts in a disc that wanders by half a pixel."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    middle = 15.3 + 0.5 * np.stack([np.sin(np.arange(count)), np.cos(np.arange(count))], axis=1)
    distance = np.hypot(y - middle[:, :1, None], x - middle[:, 1:, None])
    inside = np.clip(radius + 0.5 - distance, 0.0, 1.0)
    mean = counts * inside / inside.sum(axis=(1, 2), keepdims=True)
    return random.poisson(mean).astype(np.uint16)


def scan_of(
    patterns: NDArray[Any], optics: Optics, sizes: tuple[int, ...] = (7,), *names: str
) -> ScanRun:
    engines = [engine(name) for name in names] + [
        engine("virtual_detector", detectors_px={"bf": [0.0, 9.0], "adf": [9.0, 30.0]})
    ]
    shape = (1, len(patterns))
    acquisition = acquisition_of(patterns, shape)
    run = ScanRun(acquisition, settings_of(engines, optics), engines)
    for block in blocks_of(acquisition, patterns, sizes):
        run.reduce(block)
    run.end("complete")
    return run


def same_maps(one: PositionMaps, other: PositionMaps) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("total", "moment_y", "moment_x", "done", "detector_sums")
    )


def com(maps: PositionMaps) -> NDArray[np.float64]:
    total = np.maximum(maps.total, 1)
    return np.stack([maps.moment_y / total, maps.moment_x / total])


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<u4"])
def test_masked_pixels_count_nowhere(dtype: str) -> None:
    shape = (37, 70)
    patterns = RANDOM.integers(0, 200, (5, *shape)).astype(dtype)
    mask = RANDOM.random(shape) < 0.02
    mask[3:9, 60:] = True
    masked = np.where(mask, 0, patterns).astype(dtype)
    radii = {"a": (0.0, 12.0), "b": (10.0, 40.0)}
    made = []
    for used, left_out in ((patterns, mask), (masked, None)):
        acquisition = acquisition_of(used, (1, 5))
        maps = PositionMaps(acquisition, tuple(radii))
        maps.masked = left_out
        reducer = Reducer(acquisition, Optics(center=(18.0, 30.0)), maps, radii)
        for block in blocks_of(acquisition, used, (2, 3)):
            reducer.reduce(block)
        made.append(maps)
    assert same_maps(*made)


def test_hot_saturated_and_dead_pixels_are_found_and_the_scan_is_as_without_them() -> None:
    good = disc_patterns()
    bad = good.copy()
    bad[:, 2, 30] = 4095
    bad[:, 28, 3] = 700
    bad[:, 28, 4] = RANDOM.poisson(300, len(bad))
    bad[:, 16, 14] += RANDOM.poisson(60, len(bad)).astype(np.uint16)
    bad[:, 14, 17] = 0
    found = scan_of(bad, Optics(mask="auto"))
    document = found.sums.mask.document()
    assert document is not None
    assert document["pixels"] == [[2, 30, 3, 31], [14, 17, 15, 18], [16, 14, 17, 15],
                                  [28, 3, 29, 5]]  # fmt: skip
    assert (document["saturated"], document["hot"], document["dead"]) == (1, 3, 1)
    assert [notice["kind"] for notice in found.notices] == ["masked_pixels"]
    listed = Optics(mask=((2, 30), (14, 17), (16, 14), (28, 3), (28, 4)))
    assert same_maps(found.maps, scan_of(good, listed).maps)
    truth, spoiled = com(scan_of(good, Optics()).maps), com(scan_of(bad, Optics()).maps)
    assert np.corrcoef(com(found.maps)[0], truth[0])[0, 1] > 0.98
    assert np.corrcoef(spoiled[0], truth[0])[0, 1] < 0.8


@pytest.mark.parametrize("sizes", [(1,), (64,), (65, 3), (100,)])
def test_the_mask_does_not_depend_on_how_a_scan_is_cut(sizes: tuple[int, ...]) -> None:
    bad = disc_patterns()
    bad[:, 2, 30] = 4095
    whole = scan_of(bad, Optics(mask="auto"))
    assert same_maps(whole.maps, scan_of(bad, Optics(mask="auto"), sizes).maps)
    assert whole.intake.frames == 100


@pytest.mark.parametrize(
    ("patterns", "depth"),
    [
        (disc_patterns(1, counts=1e5), 16),
        (disc_patterns(3, counts=3e4, radius=2.0), 16),
        (disc_patterns(64, counts=3.0), 12),
        (disc_patterns(64, counts=40.0, radius=1.3), 12),
        (disc_patterns(64, counts=4000.0, radius=1.0), 12),
        (disc_patterns(64, counts=3e4, radius=10.0), 12),
        (np.minimum(disc_patterns(64, counts=3e4), 63), 6),
    ],
    ids=["one bright", "three small", "low dose", "tiny disc", "very small", "strong", "saturated"],
)
def test_discs_of_electrons_are_never_masked(patterns: Patterns, depth: int) -> None:
    found = find_bad_pixels(patterns.sum(axis=0).astype(np.int64), [patterns], 2**depth - 1)
    assert not found.mask.any(), found.in_words()
    assert found.beam.any() == (depth == 6)


@pytest.mark.parametrize("spread", [0.3, 0.45, 0.7])
def test_small_bragg_spots_are_never_masked(spread: float) -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    mean = np.full((SIZE, SIZE), 0.01)
    for place, height in (((15.0, 15.0), 900.0), ((15.2, 7.6), 60.0), ((7.5, 15.0), 60.0)):
        fine = [
            np.exp(-((y + dy - place[0]) ** 2 + (x + dx - place[1]) ** 2) / (2 * spread**2))
            for dy in (-1 / 3, 0, 1 / 3)
            for dx in (-1 / 3, 0, 1 / 3)
        ]
        mean += height * np.mean(fine, axis=0)
    patterns = RANDOM.poisson(mean, (64, SIZE, SIZE)).astype(np.uint16)
    found = find_bad_pixels(patterns.sum(axis=0).astype(np.int64), [patterns], 65535)
    assert not found.mask.any(), found.in_words()


def test_a_pattern_of_single_pixels_is_not_masked_away() -> None:
    patterns = np.zeros((4, SIZE, SIZE), np.uint16)
    patterns[:, ::4, ::4] = 999
    run = scan_of(patterns, Optics(mask="auto"))
    assert run.sums.mask.document() is None
    assert "64 pixels stand out of their neighbours, too many" in run.notices[0]["text"]


def test_a_beam_on_a_single_pixel_is_told_and_not_masked() -> None:
    patterns = RANDOM.poisson(0.01, (64, SIZE, SIZE)).astype(np.uint16)
    patterns[:, 16, 16] = RANDOM.poisson(500, 64)
    run = scan_of(patterns, Optics(mask="auto"))
    assert run.sums.mask.document() is None
    assert [notice["kind"] for notice in run.notices] == ["doubtful_pixels"]
    assert "[16, 16]" in run.notices[0]["text"]


def test_hot_pixels_brighter_than_the_beam_are_masked_where_no_beam_is() -> None:
    patterns = disc_patterns(64, counts=10.0)
    for y, x in ((3, 29), (28, 2)):
        patterns[:, y, x] = RANDOM.poisson(40, 64)
    run = scan_of(patterns, Optics(mask="auto"))
    document = run.sums.mask.document()
    assert document is not None
    assert document["pixels"] == [[3, 29, 4, 30], [28, 2, 29, 3]]


def test_whoever_asks_for_no_mask_is_told_of_broken_pixels() -> None:
    good = disc_patterns(64)
    assert told(good) == []
    for broken, text in (
        (np.s_[:, 2, 30], "1 saturated: [2, 30]"),
        (np.s_[:, :, 30], "32 saturated: [0, 30]"),
    ):
        bad = good.copy()
        bad[broken] = 4095
        assert text in told(bad)[0].text


def told(patterns: Patterns) -> list[Any]:
    acquisition = acquisition_of(patterns, (1, len(patterns)))
    broken = BrokenPixels(acquisition, Optics())
    said = [broken.look(block) for block in blocks_of(acquisition, patterns, (16,))]
    return [*itertools.chain(*said), *broken.hints()]


def hits_of(patterns: Patterns, acquisition: Acquisition, size: int) -> list[EventBlock]:
    """The same counts as electron hits, in blocks of `size`."""
    probe, y, x = (part.astype(np.uint32) for part in np.nonzero(patterns))
    times = patterns[patterns > 0]
    probe, yx = np.repeat(probe, times).astype(np.int32), np.repeat(y << 16 | x, times)
    return [
        EventBlock(
            acquisition, probe[a : a + size].copy(), yx[a : a + size].astype(np.uint32),
            np.zeros(len(probe[a : a + size]), np.float32), len(probe[a : a + size]),
            np.zeros(0, np.uint8), 1,
        )
        for a in range(0, len(probe), size)
    ]  # fmt: skip


def test_events_have_the_same_masks_as_frames() -> None:
    good = disc_patterns(200)
    bad = good.copy()
    bad[:, 2, 30] = RANDOM.poisson(150, len(bad))
    maps = []
    for patterns, optics, size in (
        (bad, Optics(mask="auto"), 5000),
        (bad, Optics(mask="auto"), 70_000),
        (good, Optics(mask=((2, 30),)), 5000),
    ):
        acquisition = acquisition_of(patterns, (1, len(patterns)))
        run = ScanRun(acquisition, settings_of([engine("com")], optics), [])
        for block in hits_of(patterns, acquisition, size):
            run.reduce(block)
        run.end("complete")
        maps.append(run.maps)
        assert run.sums.mask.document()["pixels"] == [[2, 30, 3, 31]]  # type: ignore[index]
    assert same_maps(maps[0], maps[1])
    assert same_maps(maps[0], maps[2])


@pytest.mark.parametrize("asked", [None, "auto"])
def test_a_chip_of_an_event_camera_that_sends_nothing_is_told(asked: str | None) -> None:
    good = disc_patterns(200)
    for dark in (False, True):
        patterns = good.copy()
        if dark:
            patterns[:, 16:, :16] = 0
        acquisition = acquisition_of(patterns, (1, len(patterns)))
        optics = Optics(mask=asked)
        broken, run = (
            BrokenPixels(acquisition, optics),
            ScanRun(acquisition, settings_of([], optics), []),
        )
        said = []
        for block in hits_of(patterns, acquisition, 5000):
            said += [notice.kind for notice in broken.look(block)]
            run.reduce(block)
        run.end("complete")
        said += [notice.kind for notice in broken.hints()]
        said += [notice["kind"] for notice in run.notices]
        assert said.count("dark_part") == dark


@pytest.mark.parametrize("count", [1, 8, 9, 300])
def test_hits_on_masked_pixels_have_no_position(count: int) -> None:
    y, x = RANDOM.integers(0, SIZE, (2, 5000))
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask.ravel()[RANDOM.choice(mask.size, count, replace=False)] = True
    acquisition = acquisition_of(disc_patterns(3), (1, 5000))
    maps = PositionMaps(acquisition)
    maps.masked = mask
    probe = np.arange(5000, dtype=np.int32)
    block = EventBlock(
        acquisition, probe, (y << 16 | x).astype(np.uint32), np.zeros(5000, np.float32), 5000,
        np.zeros(0, np.uint8), 1,
    )  # fmt: skip
    Reducer(acquisition, Optics(), maps, {}).reduce(block)
    assert (probe == np.where(mask[y, x], -1, np.arange(5000))).all()
    assert (maps.total == ~mask[y, x]).all()


def test_the_camera_s_own_mask_holds_unless_none_is_asked_for() -> None:
    patterns = disc_patterns(4)
    own = mask_of([(15, 15), (0, 0, 2, SIZE)], (SIZE, SIZE))
    detector = Detector("test", (SIZE, SIZE), "u2", 12, mask=own)
    acquisition = Acquisition(Scan(shape=(1, 4)), detector)
    sums = []
    for mask in (None, "auto", ((9, 9),), "none"):
        run = ScanRun(acquisition, settings_of([], Optics(mask=mask)), [])
        for block in blocks_of(acquisition, patterns, (4,)):
            run.reduce(block)
        run.end("complete")
        sums.append(run.maps.total.tolist())
    more = own.copy()
    more[9, 9] = True
    for left_out, found in zip((own, own, more, own & False), sums, strict=True):
        assert found == patterns[:, ~left_out].sum(axis=1).tolist()


def test_engines_of_whole_patterns_leave_masked_pixels_out() -> None:
    bad = disc_patterns(70)
    bad[:, 2, 30] = 4095
    run = scan_of(bad, Optics(mask="auto"), (7,), "pacbed", "pattern")
    images = {result.name: result.image for result in run.snapshot(final=True).results}
    for name in ("pacbed", "pattern"):
        assert images[name][2, 30] == 0.0
        assert images[name].max() > 0.0


def test_parts_of_a_recording_have_the_mask_of_its_beginning() -> None:
    bad = disc_patterns(100)
    bad[:, 2, 30] = 4095
    whole = scan_of(bad, Optics(mask="auto"))
    engines = [engine("virtual_detector", detectors_px={"bf": [0.0, 9.0], "adf": [9.0, 30.0]})]
    acquisition = acquisition_of(bad, (1, 100))
    blocks: list[FrameBlock] = list(blocks_of(acquisition, bad, (50,)))
    settings = settings_of(engines, Optics(mask="auto"))
    run = ScanRun(acquisition, settings, engines)
    run.reduce(blocks[0])
    assert not run.first_found
    run.settle()
    part = ScanPart(run)
    part.reduce(blocks[1])
    later = ScanRun(acquisition, settings, engines, run.sums.reducer.centre)
    later.follow(run.found())
    later.reduce(blocks[1])
    assert later.maps.masked is not None
    assert int(later.maps.total[60]) == int(whole.maps.total[60]) == int(run.maps.total[60])


def test_a_mask_may_be_a_file_or_an_array(tmp_path: Path) -> None:
    mask = mask_of([(3, 4), (10, 0, 12, 32)], (SIZE, SIZE))
    np.save(tmp_path / "mask.npy", mask)
    patterns = disc_patterns(3)
    by_api = optics_of({"mask": mask})
    for optics in (Optics(mask=str(tmp_path / "mask.npy")), Optics(mask=mask), by_api):
        assert scan_of(patterns, optics).maps.total.tolist() == (
            patterns[:, ~mask].sum(axis=1).tolist()
        )
    np.save(tmp_path / "other.npy", mask[:5])
    with pytest.raises(ConfigError, match="5 x 32 pixels, the patterns have 32 x 32"):
        scan_of(patterns, Optics(mask=str(tmp_path / "other.npy")))
    with pytest.raises(ConfigError, match=r"nowhere\.npy"):
        scan_of(patterns, Optics(mask=str(tmp_path / "nowhere.npy")))
    with pytest.raises(ConfigError, match=r"\[40, 1\] is not on a detector of 32 x 32"):
        scan_of(patterns, Optics(mask=((40, 1),)))
    with pytest.raises(ValidationError, match="holds no pixel"):
        Optics(mask=((5, 5, 5, 9),))


def test_rectangles_and_runs_hold_exactly_the_masked_pixels() -> None:
    mask = RANDOM.random((23, 31)) < 0.3
    mask[5:9, 3:20] = True
    assert np.array_equal(mask_of(rectangles_of(mask), mask.shape), mask)
    again = np.zeros_like(mask)
    for y, first, stop in runs_of(mask):
        again[y, first:stop] = True
    assert np.array_equal(again, mask)
    assert rectangles_of(mask_of([(2, 3, 7, 9)], (10, 10))) == [(2, 3, 7, 9)]


def test_grid_pixels_are_filled_up_by_the_pixels_that_are_left() -> None:
    mask = mask_of([(20, 20), (12, 17)], (40, 40))
    grid = DiffractionGrid(6, 4.0)
    whole = grid_table(grid, (40, 40), (19.5, 19.5), 12.0)
    table = grid_table(grid, (40, 40), (19.5, 19.5), 12.0, masked=mask, fill=True)
    counts = [np.bincount(t.target, t.share, grid.members.size) for t in (whole, table)]
    assert not np.isin(table.source, np.flatnonzero(mask)).any()
    assert 0.0 < table.lost.max() < 0.5
    np.testing.assert_allclose(counts[1], counts[0], rtol=0.03)


def test_pixels_at_full_scale_in_every_pattern_are_no_values() -> None:
    patterns = disc_patterns(6)
    patterns[:, 4, 5] = 65535
    patterns[2:, 4, 6] = 65535
    assert np.argwhere(full_scale(patterns)).tolist() == [[4, 5]]


def test_the_light_that_masked_pixels_take_is_told() -> None:
    patterns = disc_patterns(64)
    patterns[:, :, 12:14] = 0
    run = scan_of(patterns, Optics(mask="auto"))
    (told_of_light,) = [each for each in run.notices if each["kind"] == "masked_light"]
    assert told_of_light["level"] == "warning"
    share = float(told_of_light["text"].split("about ")[1].split("%")[0]) / 100
    whole = disc_patterns(64)
    assert share == pytest.approx(whole[:, :, 12:14].sum() / whole.sum(), abs=0.02)
    assert [notice.kind for notice in told(patterns)] == ["broken_pixels"]


def test_the_cross_of_a_quad_is_masked_without_a_warning() -> None:
    patterns = disc_patterns(64, counts=1500.0, radius=12.0)
    patterns[:, 15:17] = 0
    patterns[:, :, 15:17] = 0
    run = scan_of(patterns, Optics(mask="auto"))
    document = run.sums.mask.document()
    assert document is not None
    assert document["dead"] == 4 * SIZE - 4
    assert {notice["level"] for notice in run.notices} == {"info"}
    assert told(patterns) == []


@pytest.mark.parametrize("asked", ["auto", None])
@pytest.mark.parametrize("place", [np.s_[2:3, 30:31], np.s_[4:6, 26:28], np.s_[15:16, 15:16]])
def test_a_pixel_that_becomes_hot_after_the_first_patterns_is_told(
    asked: str | None, place: tuple[slice, slice]
) -> None:
    patterns = disc_patterns(300)
    assert not scan_of(patterns, Optics(mask=asked)).notices
    patterns[180:, *place] = 4095
    run = scan_of(patterns, Optics(mask=asked))
    (said,) = [each for each in run.notices if each["kind"] == "late_pixels"]
    assert said["level"] == "warning"
    assert f"[{place[0].start}, {place[1].start}]" in said["text"]
    assert said["count"] == np.zeros((SIZE, SIZE))[place].size
    assert "from about position 180 on" in said["text"]
    assert not [each for each in run.notices if each["kind"] == "masked_pixels"]


@pytest.mark.parametrize("place", [np.s_[15:16, 15:16], np.s_[:, 14:15], np.s_[17:18, :]])
@pytest.mark.parametrize("when", [np.s_[180:], np.s_[240:], np.s_[:130]])
def test_a_pixel_that_is_dead_in_a_part_of_the_scan_is_told(
    place: tuple[slice, slice], when: slice
) -> None:
    patterns = disc_patterns(300, counts=4000.0)
    assert not scan_of(patterns, Optics()).notices
    patterns[when, *place] = 0
    (said,) = [n for n in scan_of(patterns, Optics()).notices if n["kind"] == "dead_in_part"]
    y, x = max(place[0].start or 0, 15), max(place[1].start or 0, 15)
    assert said["level"] == "warning"
    assert said["count"] >= 1
    if said["count"] == 1:
        assert f"[{y}, {x}]" in said["text"]
    turn = int(said["text"].split("about position ")[1].split()[0])
    assert abs(turn - (when.start or when.stop)) <= 10
    assert ("from about" in said["text"]) == (when.stop is None)


def test_a_beam_that_comes_goes_or_wanders_kills_no_pixel() -> None:
    for part in (np.s_[:150], np.s_[150:], np.s_[100:200]):
        patterns = disc_patterns(300, counts=4000.0)
        patterns[part] = 0
        assert not [n for n in scan_of(patterns, Optics()).notices if n["kind"] == "dead_in_part"]
    wandering = np.stack(
        [np.roll(each, k // 20, (0, 1)) for k, each in enumerate(disc_patterns(300))]
    )
    assert not [n for n in scan_of(wandering, Optics()).notices if n["kind"] == "dead_in_part"]


@pytest.mark.parametrize("masked", [False, True])
def test_pixels_that_are_masked_already_are_not_told_as_broken(masked: bool) -> None:
    patterns = disc_patterns(64, counts=8000.0)
    patterns[:, 18:20] = 0
    acquisition = acquisition_of(patterns, (1, len(patterns)))
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[18:20] = masked
    detector = dataclasses.replace(acquisition.detector, mask=mask)
    acquisition = dataclasses.replace(acquisition, detector=detector)
    broken = BrokenPixels(acquisition, Optics())
    run = ScanRun(acquisition, settings_of([], Optics(mask="auto")), [])
    said = []
    for block in blocks_of(acquisition, patterns, (16,)):
        said += broken.look(block)
        run.reduce(block)
    run.end("complete")
    said += broken.hints()
    found = [n["text"] for n in run.notices if "found in the first" in n["text"]]
    assert len(found) == len(said) == (not masked)


def test_a_saturated_column_that_is_masked_is_no_beam() -> None:
    patterns = disc_patterns(64)
    patterns[:, :, 3] = patterns[:, 29] = 4095
    said = {n["kind"] for n in scan_of(patterns, Optics(mask="auto")).notices}
    assert said == {"masked_pixels"}


def test_a_beam_that_comes_or_grows_during_the_scan_is_no_hot_pixel() -> None:
    for first, radius in ((150, 6.0), (220, 1.4), (80, 3.0)):
        patterns = disc_patterns(300, radius=radius)
        patterns[:first] = 0
        assert not [e for e in scan_of(patterns, Optics(mask="auto")).notices
                    if e["kind"] == "late_pixels"]  # fmt: skip


def test_late_pixels_do_not_depend_on_the_parts_of_a_scan() -> None:
    patterns = disc_patterns(300)
    patterns[180:, 2, 30] = 4095
    detector = Detector("test", (SIZE, SIZE), "u2", 12)
    whole, first, second = (LatePixels(detector, (SIZE, SIZE), 5, 64) for _ in range(3))
    for number, pattern in enumerate(patterns[::5]):
        whole.add(5 * number, pattern)
        (second if number < 20 else first).add(5 * number, pattern)
    first.merge(second.gathered())
    assert first.notices() == whole.notices()
    assert whole.notices()


@pytest.mark.parametrize("noise", [0, 4])
def test_a_cluster_that_becomes_hot_is_found_in_few_patterns(noise: int) -> None:
    """Of a detector of 512 x 512 pixels 16 patterns are kept."""
    detector = Detector(name="x", shape=(SIZE, SIZE), dtype="u2", bit_depth=12)
    random = np.random.default_rng(3)
    late = LatePixels(detector, (SIZE, SIZE), 1, 16)
    for number, pattern in enumerate(disc_patterns(16)):
        if number >= 9:
            pattern[3:5, 4:6] = 200 + random.integers(-noise, noise + 1, (2, 2))
        late.add(number, pattern)
    (told,) = late.notices()
    assert told.text.startswith("4 pixels became hot during the scan: [3, 4], [3, 5], [4, 4]")


def test_where_no_pixel_can_have_become_hot_none_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def search(*_: object) -> None:
        raise AssertionError("it takes longer than all else at the end of a scan")

    detector = Detector("test", (SIZE, SIZE), "u2", 12)
    late = LatePixels(detector, (SIZE, SIZE), 5, 64)
    for number, pattern in enumerate(disc_patterns(64)):
        late.add(5 * number, pattern)
    monkeypatch.setattr("stemd.scan.late_pixels.find_bad_pixels", search)
    assert not late.notices()
