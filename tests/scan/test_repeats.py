"""A place that is scanned several times: its frames are added up where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.defects import disulfide
from stemd.acquisition import Optics, Scan
from stemd.adapters.base import Recording, SeveralScans
from stemd.adapters.events.layout import Layout
from stemd.adapters.files import open_recording
from stemd.adapters.repeated import RepeatedRecording
from stemd.cli.main import main
from stemd.config.resolved import EngineConfig
from stemd.engines.restoration.distortions import displace_lines
from stemd.errors import UsageError
from stemd.results import Snapshot
from stemd.scan.processing import process_recording
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup
from stemd.virtual.timepix3.events import RenderedEvents, Signals

SIDE, FRAMES, PATTERN = 96, 6, 12
DRIFT = (0.7, -1.2)
DETECTORS = {"adf": [4.6, 12.0]}
Counts = NDArray[np.uint16]


def patterns(seed: int = 0, strange: int | None = None) -> tuple[Counts, NDArray[np.float32]]:
    """(FRAMES, SIDE, SIDE, 12, 12) of a drifting crystal, and its dark field without noise."""
    rng = np.random.default_rng(seed)
    truth = disulfide(np.random.default_rng(8)).electrons(4e4)[40 : 40 + SIDE, 40 : 40 + SIDE]
    truth = truth * np.float32(20.0 / truth.max())
    y, x = np.mgrid[:PATTERN, :PATTERN] - (PATTERN - 1) / 2
    ring = np.hypot(y, x) >= 4.6
    out = np.zeros((FRAMES, SIDE, SIDE, PATTERN, PATTERN), np.uint16)
    for n in range(FRAMES):
        dy, dx = np.full(SIDE, n * DRIFT[0]), np.full(SIDE, n * DRIFT[1])
        seen = displace_lines(truth, dy, dx, cubic=True).clip(0.0)
        if n == strange:
            seen = np.full_like(seen, seen.mean())
        out[n] = rng.poisson(seen[..., None, None] / ring.sum() * ring + 0.3 * ~ring)
    return out, truth


def engines(*more: EngineConfig) -> list[EngineConfig]:
    chosen = [("virtual_detector", {"detectors_px": DETECTORS}), ("sum", {}), ("com", {})]
    return [*(EngineConfig.of(name, table) for name, table in chosen), *more]


def settings(chosen: list[EngineConfig], **optics: Any) -> Settings:
    told = Optics(center=((PATTERN - 1) / 2, (PATTERN - 1) / 2), **optics)
    return Settings(optics=told, engines={each.name: each.settings for each in chosen})


def saved(path: Path, data: Counts) -> Path:
    np.save(path, data.reshape(-1, PATTERN, PATTERN))
    return path


def scan(**more: Any) -> Scan:
    table = {"shape": (SIDE, SIDE), "repeats": FRAMES, "flyback": 0, "step_size_angstrom": 0.2,
             "dwell_time_us": 10.0}  # fmt: skip
    return Scan.model_validate(table | more)


def error_of(image: NDArray[Any], truth: NDArray[Any]) -> float:
    inner = np.s_[12:-12, 12:-12]
    return float(np.sqrt(np.mean(np.square(image - truth)[inner])))


def test_a_recording_of_repeats_becomes_their_aligned_sum(tmp_path: Path) -> None:
    data, truth = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines()
    run, final = process_recording(recording, settings(chosen), chosen, 2)
    images = {result.name: result for result in final.results}
    adf, about = images["adf"], images["adf"].extra["repeats"]
    noise = np.sqrt(FRAMES * truth[12:-12, 12:-12].mean())
    assert error_of(adf.image, FRAMES * truth) < 1.15 * noise
    unmoved = data[..., :, :].sum(axis=0).astype(np.float64)
    assert error_of(unmoved.sum((-1, -2)), FRAMES * truth) > 2.0 * noise
    assert about["frames"] == about["of"] == FRAMES
    assert about["aligned_by"] == "adf"
    seconds = SIDE * SIDE * 10e-6
    assert about["drift_nm_per_s"]["value"] == pytest.approx(
        [part * 0.02 / seconds for part in DRIFT], rel=0.1
    )
    assert about["resolution_nm"] < 0.25
    assert adf.image.shape == images["sum"].image.shape == (SIDE, SIDE)
    # whole counts: where all frames are, the sum is one of patterns
    maps = run.maps
    full = maps.counts == FRAMES
    assert full.sum() > 0.5 * SIDE * SIDE
    np.testing.assert_array_equal(adf.image.ravel()[full], maps.detectors["adf"][full])
    assert run.status == "complete"
    assert run.positions_done == FRAMES * SIDE * SIDE


def test_images_do_not_depend_on_threads_or_on_the_cut(tmp_path: Path) -> None:
    data, _ = patterns()
    path = saved(tmp_path / "scan.npy", data)
    chosen = engines(EngineConfig.of("pacbed", {}))
    found = []
    for jobs in (1, 3):
        _, final = process_recording(open_recording(path, scan()), settings(chosen), chosen, jobs)
        found.append({result.name: result.image for result in final.results})
    for name, image in found[0].items():
        np.testing.assert_array_equal(image, found[1][name], name)


def test_a_frame_that_does_not_fit_is_left_out_and_told(tmp_path: Path) -> None:
    data, _ = patterns(strange=3)
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines()
    run, final = process_recording(recording, settings(chosen), chosen)
    about = final.results[0].extra["repeats"]
    assert about["left_out"] == [3]
    assert about["frames"] == FRAMES - 1
    said = [notice for notice in run.notices if notice["kind"] == "frame_left_out"]
    assert [notice["text"] for notice in said] == [
        f"frame 3 (from 0) of {FRAMES} is not in the sum: it does not fit the others, "
        "or shows too little to be placed"
    ]


def frame_by_frame(run: ScanRun, recording: Recording) -> Iterator[Snapshot]:
    """What is shown after each frame of a scan that goes on."""
    size = SIDE * SIDE
    for n in range(FRAMES):
        # a little of the next frame says that this one is over
        for block in recording.blocks(n * size, min((n + 1) * size + 16, FRAMES * size)):
            if int(block.probe[0]) // size == n or n == FRAMES - 1:
                run.reduce(block)
        run.intake.add_positions([(0, 0)])
        run.feed()
        yield run.snapshot(final=False)


def test_all_maps_are_sums_of_whole_positions(tmp_path: Path) -> None:
    data, _ = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines()
    run, _ = process_recording(recording, settings(chosen), chosen)
    assert run.repeats is not None
    places, all_frames, maps = run.repeats._places, run.sums.maps, run.maps
    assert places is not None
    there = np.flatnonzero(places.first >= 0)
    for every, added in (
        (all_frames.total, maps.total),
        (all_frames.moment_y, maps.moment_y),
        (all_frames.moment_x, maps.moment_x),
        (all_frames.detectors["adf"], maps.detectors["adf"]),
    ):
        expected = np.zeros(SIDE * SIDE, np.int64)
        np.add.at(expected, places.first[there], every[there])
        np.add.at(expected, places.again[:, 1], every[places.again[:, 0]])
        assert expected.any()
        np.testing.assert_array_equal(added, expected)


def test_live_a_frame_that_does_not_fit_is_left_out_as_soon_as_it_is_over(tmp_path: Path) -> None:
    data, _ = patterns(strange=3)
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines()
    run = ScanRun(recording.acquisition, settings(chosen), chosen, live=True)
    *_, shown = frame_by_frame(run, recording)
    about = shown.results[0].extra["repeats"]
    assert about["left_out"] == [3]
    assert about["frames"] == about["of"] - 2  # the last one is not over


def test_live_the_sum_grows_with_each_frame(tmp_path: Path) -> None:
    data, truth = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines(EngineConfig.of("ricom", {"kernel_size": 21}))
    run = ScanRun(recording.acquisition, settings(chosen), chosen, live=True)
    added, errors = [], []
    for snapshot in frame_by_frame(run, recording):
        images = {result.name: result for result in snapshot.results}
        added.append(images["adf"].extra["repeats"]["frames"])
        count = max(1, added[-1])
        errors.append(error_of(images["adf"].image / count, truth))
    run.end("complete")
    final = run.snapshot(final=True)
    images = {result.name: result for result in final.results}
    assert added == sorted(added)
    assert added[-1] >= FRAMES - 1
    assert errors[-1] < 0.6 * errors[0]
    assert images["adf"].extra["repeats"]["frames"] == FRAMES
    assert images["ricom"].image.shape == (SIDE, SIDE)


def test_ssb_adds_all_patterns_where_they_belong(tmp_path: Path) -> None:
    data, _ = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines(EngineConfig.of("ssb", {"pixels_per_angle": 3}))
    told = settings(
        chosen, energy_ev=200e3, convergence_semi_angle_mrad=21.0, pixel_size_mrad=7.0,
        measured="off",
    )  # fmt: skip
    run, final = process_recording(recording, told, chosen, 2)
    assert not run.failed
    assert {result.name for result in final.results} >= {"ssb_phase"}
    engine = run.engines.placed[0]
    kept = engine._kept.images(slice(None), SIDE * SIDE).sum(axis=0)  # type: ignore[attr-defined]
    assert run.repeats is not None
    places = run.repeats._places
    assert places is not None
    y, x = np.mgrid[:PATTERN, :PATTERN] - (PATTERN - 1) / 2
    discs = data.reshape(-1, PATTERN, PATTERN)[:, np.hypot(y, x) < 3.2].sum(axis=1)
    there = places.first >= 0
    expected = np.bincount(places.first[there], discs[there], SIDE * SIDE)
    full = run.maps.counts == FRAMES
    assert np.corrcoef(kept[full], expected[full])[0, 1] > 0.6  # the cells reach further


def test_beside_a_camera_ssb_is_to_be_completed_from_the_record(tmp_path: Path) -> None:
    data, _ = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = [EngineConfig.of("ssb", {"pixels_per_angle": 3})]
    told = settings(
        chosen, energy_ev=200e3, convergence_semi_angle_mrad=21.0, pixel_size_mrad=7.0,
        measured="off",
    )  # fmt: skip
    run = ScanRun(recording.acquisition, told, chosen, live=True)
    for block in recording.blocks(0, recording.frames):
        run.reduce(block)
    run.end("complete")
    run.snapshot(final=True)
    assert run.lacking() == {"ssb": SIDE * SIDE}


def test_several_recordings_are_frames_of_one_place(tmp_path: Path) -> None:
    data, _ = patterns()
    paths = [saved(tmp_path / f"scan{n}.npy", data[n]) for n in range(FRAMES)]
    whole = open_recording(saved(tmp_path / "all.npy", data), scan())
    parts = RepeatedRecording([open_recording(path, scan(repeats=1)) for path in paths])
    chosen = engines()
    _, one = process_recording(whole, settings(chosen), chosen)
    _, other = process_recording(parts, settings(chosen), chosen, 2)
    for a, b in zip(one.results, other.results, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    small = open_recording(paths[0], Scan(shape=(SIDE // 2, SIDE * 2)))
    with pytest.raises(UsageError, match="are not the place of"):
        RepeatedRecording([open_recording(paths[0], scan(repeats=1)), small])


def test_the_command_line_aligns_files_and_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = patterns()
    paths = [str(saved(tmp_path / f"scan{n}.npy", data[n])) for n in range(FRAMES)]
    saved(tmp_path / "all.npy", data)
    size = ["--scan", f"{SIDE}x{SIDE}", "--engine", "sum"]
    out = ["--out", str(tmp_path / "out")]
    assert main(["process", *paths, "--frames", "align", *size, *out]) == 0
    repeats = ["--repeats", str(FRAMES)]
    assert main(["process", str(tmp_path / "all.npy"), *repeats, *size, *out]) == 0
    one, other = (tmp_path / "out" / name / "sum.tif" for name in ("scan0", "all"))
    assert one.stat().st_size == other.stat().st_size
    assert main(["process", paths[0], "--frames", "align", *size, *out]) == 1
    assert "there is one frame only" in capsys.readouterr().err


def test_what_reads_patterns_of_repeats_twice_is_refused_on_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(saved(tmp_path / "all.npy", np.zeros((2, 40 * 40, PATTERN, PATTERN), np.uint16)))
    images = ["--engine", "ssb", "--engine", "direct", "--step-size-angstrom", "0.2"]
    optics = "energy_ev=200e3,convergence_semi_angle_mrad=21,pixel_size_mrad=7"
    size = ["--scan", "40x40", "--repeats", "2", "--optics", optics]
    # refused before anybody is called at that address
    assert main(["process", path, *size, *images, "--cluster", "tcp://127.0.0.1:9"]) == 2
    assert (
        "ssb, direct of 2 frames of one place is not made on a cluster" in capsys.readouterr().err
    )


def test_a_scan_that_was_stopped_has_its_whole_frames(tmp_path: Path) -> None:
    data, _ = patterns()
    path = saved(tmp_path / "scan.npy", data)
    recording = open_recording(path, scan())
    chosen = engines()
    run = ScanRun(recording.acquisition, settings(chosen), chosen)
    for block in recording.blocks(0, 3 * SIDE * SIDE + 700):
        run.reduce(block)
    run.end("stopped")
    final = run.snapshot(final=True)
    about = final.results[0].extra["repeats"]
    assert about["frames"] == 3
    assert about["left_out"] == [3]
    assert run.status == "aborted"


def test_images_of_the_first_frame_alone_say_so(tmp_path: Path) -> None:
    data, _ = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines(EngineConfig.of("ssb", {"pixels_per_angle": 3, "complete": False}))
    told = settings(
        chosen, energy_ev=200e3, convergence_semi_angle_mrad=21.0, pixel_size_mrad=7.0,
        measured="off",
    )  # fmt: skip
    run = ScanRun(recording.acquisition, told, chosen, live=True)
    for block in recording.blocks(0, recording.frames):
        run.reduce(block)
    run.end("complete")
    images = {result.name: result.extra["repeats"] for result in run.snapshot(final=True).results}
    assert images["ssb_phase"] == {"frames": 1, "of": FRAMES}
    assert images["adf"]["frames"] == FRAMES
    said = [notice["text"] for notice in run.notices if notice["kind"] == "first_frame_only"]
    assert said == [f"only the first of {FRAMES} frames is shown by ssb"]


def each_scan(recording: Recording) -> Iterator[Recording]:
    assert isinstance(recording, SeveralScans)
    return recording.each_scan()


def test_all_scans_of_an_event_stream_are_frames(tmp_path: Path) -> None:
    place = Scan(
        shape=(SIDE // 2, SIDE // 2), step_size_angstrom=0.4, dwell_time_us=10.0, flyback=4
    )
    setup = Setup(
        place, camera=Camera((32, 32), 2.5), dose=60.0, frame_time_s=1e-5,
        drift_angstrom_per_s=(15.0, -25.0),
    )  # fmt: skip
    source = RenderedEvents(Microscope(setup), Signals(Layout("single")), 0.001)
    scans = [b"".join(bytes(data) for data, _ in source.pieces(n, Event())) for n in range(3)]
    (tmp_path / "all.tpx3").write_bytes(b"".join(scans))
    for n, stream in enumerate(scans):
        (tmp_path / f"one{n}.tpx3").write_bytes(stream)

    def parts(*names: str) -> list[Any]:
        return [open_recording(tmp_path / f"{name}.tpx3", place) for name in names]

    chosen = [
        EngineConfig.of("virtual_detector", {"detectors_px": {"adf": [9.0, 16.0]}}),
        EngineConfig.of("ssb", {"pixels_per_angle": 3}),
    ]
    optics = Optics(
        energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=2.5, measured="off"
    )
    told = Settings(optics=optics, engines={each.name: each.settings for each in chosen})
    series = open_recording(tmp_path / "all.tpx3", place.model_copy(update={"repeats": 3}))
    made, phases = [], []
    for recording in (
        RepeatedRecording(parts("all")),
        RepeatedRecording(parts("one0", "one1", "one2")),
        series,
        next(each_scan(series)),
    ):
        assert recording.acquisition.scan.repeats == 3
        run, final = process_recording(recording, told, chosen)
        assert run.status == "complete"
        assert not run.failed
        images = {result.name: result for result in final.results}
        made.append(images["adf"])
        phases.append(images["ssb_phase"].image)
        assert images["ssb_phase"].extra["repeats"]["frames"] == 3
    series.close()
    assert made[0].extra["repeats"]["frames"] == 3
    frame_s = place.shape[0] * place.line_frames * 1e-5
    drift = np.array(made[0].extra["repeats"]["drift_nm_per_s"]["value"])
    expected = np.array([1.5, -2.5]) * (1.0 + 0.001 / frame_s)
    np.testing.assert_allclose(drift, expected, rtol=0.25)
    assert np.ptp(phases[0]) > 0.0
    for image, phase in zip(made[1:], phases[1:], strict=True):
        np.testing.assert_array_equal(made[0].image, image.image)
        np.testing.assert_array_equal(phases[0], phase)
    with pytest.raises(UsageError, match="one frame only"):
        RepeatedRecording(parts("one0"))


def test_a_sum_of_frames_that_show_nothing_is_not_called_aligned(tmp_path: Path) -> None:
    data = np.random.default_rng(0).poisson(0.3, (FRAMES, SIDE, SIDE, PATTERN, PATTERN))
    data = data.astype(np.uint16)
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines()
    run, final = process_recording(recording, settings(chosen), chosen)
    image = final.results[0]
    about = image.extra["repeats"]
    assert about["frames"] == FRAMES
    assert about["aligned"] is False
    assert not [key for key in about if key.startswith("drift")]
    assert [said["kind"] for said in run.notices].count("frames_unmoved") == 1
    total = next(result for result in final.results if result.name == "sum")
    np.testing.assert_array_equal(total.image, data.sum(axis=(0, 3, 4)))


def test_what_there_is_of_a_first_frame_is_the_image_and_is_not_called_left_out(
    tmp_path: Path,
) -> None:
    data, _ = patterns()
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = engines()
    run = ScanRun(recording.acquisition, settings(chosen), chosen)
    for block in recording.blocks(0, 3000):
        run.reduce(block)
    run.end("stopped")
    about = run.snapshot(final=True).results[0].extra["repeats"]
    assert about["frames"] == 1
    assert "left_out" not in about
    assert not [said for said in run.notices if said["kind"] == "frame_left_out"]


def test_engines_of_the_first_frame_leave_out_pixels_that_are_found_to_be_broken(
    tmp_path: Path,
) -> None:
    data, _ = patterns()
    data[..., 0, 0] = 60_000
    recording = open_recording(saved(tmp_path / "scan.npy", data), scan())
    chosen = [EngineConfig.of("ssb", {"pixels_per_angle": 3})]
    told = settings(
        chosen, energy_ev=200e3, convergence_semi_angle_mrad=21.0, pixel_size_mrad=7.0,
        mask="auto",
    )  # fmt: skip
    run = ScanRun(recording.acquisition, told, chosen, live=True)
    maps = run.engines.maps_for(run.engines.choices[0], run.maps)
    assert maps.masked is None
    for block in recording.blocks(0, 500):
        run.reduce(block)
    run.end("stopped")
    assert run.engines.every[0]._maps.masked is not None  # type: ignore[attr-defined]
    assert run.maps.masked is not None
    assert run.engines.every[0]._maps.masked.tolist() == run.maps.masked.tolist()  # type: ignore[attr-defined]
