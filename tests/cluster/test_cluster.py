"""Real workers: the same images, whatever is killed, interrupted, swept or wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd.acquisition import Scan
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.blocks import Message
from stemd.cli.main import main
from stemd.errors import ClusterError, StemdError
from stemd.offline.cluster import connect as connecting
from stemd.offline.cluster.connect import connect
from stemd.offline.cluster.parts import Part
from stemd.offline.cluster.recipe import Goal, Recipe
from stemd.offline.cluster.run import Progress, run_files
from stemd.offline.cluster.store import PartStore, gaps
from stemd.offline.outcome import Outcome
from stemd.results import Snapshot

from ..conftest import free_port
from ..engines import airpi_scenes
from ..inference import models
from ..timepix3.streams import Camera as Timepix3
from ..timepix3.streams import electrons
from .conftest import Processes
from .scenes import plainly, recipe, same, write_events, write_mib, write_npy

SCAN = Scan(shape=(60, 50), flyback=1)
EVENTS = Scan(shape=(24, 31), flyback=3, dwell_time_us=1.0)
PART = 100_000  # bytes: some 60 parts of the array, 18 of the events, whose least one is a block


class Spread:
    """`run_files`, and what came of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.made: dict[Path, tuple[Outcome, Snapshot]] = {}
        self.errors: dict[Path, StemdError] = {}

    def run(
        self,
        files: dict[Path, Sequence[Recipe]],
        progress: Progress = lambda done, total, threads: None,
        part_bytes: int = PART,
    ) -> dict[Path, tuple[Outcome, Snapshot]]:
        """Images by folder; the goals of a file go to folders 0, 1, ..."""

        def written(
            goal: Goal, outcome: Outcome, final: Snapshot, notices: Sequence[Message]
        ) -> None:
            assert goal.folder not in self.made
            self.made[goal.folder] = outcome, final

        goals = {
            folder: [Goal(each, folder / str(n)) for n, each in enumerate(recipes)]
            for folder, recipes in files.items()
        }
        with connect(self.address) as pool:
            run_files(pool, goals, written, self.errors.__setitem__, progress, part_bytes)
        return self.made


@pytest.fixture
def frames(tmp_path: Path) -> Recipe:
    return recipe(write_npy(tmp_path / "frames.npy", SCAN), SCAN)


@pytest.fixture
def events(tmp_path: Path) -> Recipe:
    path = tmp_path / "events.tpx3"
    return recipe(path, EVENTS, write_events(path, EVENTS, 1_200_000))


def test_files_of_any_kind_give_what_they_give_without_a_cluster(
    tmp_path: Path, cluster: Processes, frames: Recipe, events: Recipe
) -> None:
    small = Scan(shape=(20, 23))
    mib = recipe(write_mib(tmp_path / "m.mib", small, lost=(40, 41, 300)), small)
    spread = Spread(cluster.address)
    wanted = {tmp_path / name: [made] for name, made in zip("abc", (frames, events, mib))}  # noqa: B905
    found = spread.run(wanted, part_bytes=5 * PART)
    assert not spread.errors
    for folder, (made,) in wanted.items():
        same(found[folder / "0"], plainly(made))


@pytest.mark.parametrize("kind", ["mib", "tpx3"])
def test_phases_are_those_without_a_cluster(kind: str, tmp_path: Path, cluster: Processes) -> None:
    scan = Scan(shape=(20, 23), dwell_time_us=1.0, step_size_angstrom=0.8)
    path = tmp_path / f"a.{kind}"
    camera = write_events(path, scan) if kind == "tpx3" else None
    if camera is None:
        write_mib(path, scan, lost=(40, 41, 300))
    model = airpi_scenes.write(tmp_path, airpi_scenes.reader())
    tables: dict[str, dict[str, Any]] = {"ssb": {}, "sum": {}}
    tables["airpi"] = {"model": model, "backend": "onnxruntime"}
    made = recipe(path, scan, camera, tables, energy_ev=300e3, convergence_semi_angle_mrad=3.0)
    spread = Spread(cluster.address)
    found = spread.run({tmp_path / "out": [made]}, part_bytes=5 * PART)
    assert not spread.errors
    wanted = plainly(made)
    assert wanted[0].notes == []
    assert "ssb_phase" in {result.name for result in wanted[1].results}
    assert found[tmp_path / "out" / "0"][0].notes == []
    same(found[tmp_path / "out" / "0"], wanted)


def test_an_engine_that_fails_is_told_on_a_cluster_too(
    tmp_path: Path, cluster: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_npy(tmp_path / "a.npy", Scan(shape=(12, 10)))
    arguments = ["process", str(path), "--scan", "12x10", "--engine", "ssb", "--engine", "sum"]
    arguments += ["--out", str(tmp_path / "out"), "--cluster", cluster.address]
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert told.count("engine ssb failed: ") == 1
    assert "remedy: set " in told
    assert (tmp_path / "out" / "a" / "sum.tif").exists()


@pytest.mark.parametrize("kind", ["frames", "events"])
def test_killed_workers_lose_nothing(
    kind: str,
    tmp_path: Path,
    processes: Callable[[int], Processes],
    request: pytest.FixtureRequest,
) -> None:
    made: Recipe = request.getfixturevalue(kind)
    dask = processes(3)
    seen: list[float] = []

    def kill_on_the_way(done: int, total: int, threads: int) -> None:
        if total and done < total:
            share = done / total
            if (share > 0.2 and len(seen) == 0) or (share > 0.5 and len(seen) == 1):
                seen.append(share)
                dask.kill(dask.workers[len(seen) - 1])

    spread = Spread(dask.address)
    found = spread.run({tmp_path / "out": [made]}, kill_on_the_way)
    assert len(seen) == 2
    assert not spread.errors
    same(found[tmp_path / "out" / "0"], plainly(made))


@pytest.mark.parametrize("kind", ["frames", "events"])
def test_an_interrupted_run_goes_on_where_it_was(
    kind: str,
    tmp_path: Path,
    cluster: Processes,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Recipe = request.getfixturevalue(kind)
    out = tmp_path / "out"

    def interrupt(done: int, total: int, threads: int) -> None:
        if total and done > 0.4 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Spread(cluster.address).run({out: [made]}, interrupt)
    (folder,) = [path for path in (out / "parts").iterdir() if len(path.name) == 16]
    before = PartStore(out / "parts", folder.name).spans()
    assert len(before) > 3
    broken = sorted(folder.iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:-100])
    kept = [span for span in before if span != before[2]]
    saved: list[tuple[int, int]] = []
    save = PartStore.save

    def saving(self: PartStore, part: Part) -> None:
        saved.append((part.first, part.stop))
        save(self, part)

    monkeypatch.setattr(PartStore, "save", saving)
    spread = Spread(cluster.address)
    found = spread.run({out: [made]}, part_bytes=3 * PART // 2)
    assert not spread.errors
    same(found[out / "0"], plainly(made))
    *new, (first, extent) = saved
    assert first == 0
    assert gaps([*kept, *new], extent)[0] == sorted([*kept, *new])  # nothing was done twice
    ((_, end),) = gaps([*kept, *new], extent)[1]  # what came last lies in the whole alone
    assert end == extent or end in {span[0] for span in [*kept, *new]}

    saved.clear()
    again = Spread(cluster.address).run({out: [made]})
    same(again[out / "0"], found[out / "0"])
    assert saved == []


def test_a_file_that_has_changed_is_reduced_anew(
    tmp_path: Path, cluster: Processes, frames: Recipe
) -> None:
    spread = Spread(cluster.address)
    spread.run({tmp_path / "out": [frames]})
    patterns = np.load(frames.path)
    patterns[SCAN.frames // 2] += 1
    np.save(frames.path, patterns)
    again = Spread(cluster.address).run({tmp_path / "out": [frames]})
    same(again[tmp_path / "out" / "0"], plainly(frames))


def test_a_joined_series_and_the_second_scan_of_a_file_are_spread_too(
    tmp_path: Path, cluster: Processes
) -> None:
    scan = Scan(shape=(6, 5), flyback=0)
    path = write_mib(tmp_path / "a_001.mib", Scan(shape=(12, 5), flyback=0))
    content = path.read_bytes()
    size = len(content) // 60
    path.write_bytes(content[: 13 * size])
    path.with_name("a_002.mib").write_bytes(content[13 * size :])
    events = tmp_path / "e.tpx3"
    sent = [electrons(scan, 3000, start=1_000_000 + 2_000_000 * n, seed=n) for n in range(2)]
    events.write_bytes(Timepix3().stream(*sent))
    series = [str(path), str(path.with_name("a_002.mib")), "--join"]
    pulses = [str(events), "--dwell-time-us", "1"]
    for words, name in ((series, "a_001_scan2"), (pulses, "e_scan2")):
        words += ["--scan", "6x5", "--flyback", "0", "--scan-number", "2"]
        words += ["--engine", "sum", "--engine", "com", "--out"]
        spread = ["--cluster", cluster.address, "--part-mib", "1"]
        assert main(["process", *words, str(tmp_path / "spread"), *spread]) == 0
        assert main(["process", *words, str(tmp_path / "here")]) == 0
        for image in ("sum", "com_y"):
            found, wanted = (
                tifffile.imread(tmp_path / where / name / f"{image}.tif")
                for where in ("spread", "here")
            )
            assert wanted.any()
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("suffix", ["npy", "tpx3"])
def test_a_sweep_gives_each_point_its_images_and_shares_the_reduction(
    suffix: str, tmp_path: Path, cluster: Processes, events: Recipe
) -> None:
    if suffix == "npy":
        path, scan = write_npy(tmp_path / "a.npy", SCAN), "60x50"
        camera: list[str] = []
    else:
        path, scan = events.path, "24x31"
        config = tmp_path / "c.toml"
        assert isinstance(events.camera, Timepix3Settings)
        config.write_text(
            '[daemon]\ninstrument = "x"\n[[pipeline]]\nname = "p"\n[pipeline.adapter]\n'
            'type = "timepix3"\nreorder_window_us = 500.0\n'
            "scan = { shape = [24, 31], flyback = 3, dwell_time_us = 1.0 }\n"
        )
        camera = ["--config", str(config)]
    common = [str(path), *camera, "--engine", "pacbed"]
    if suffix == "npy":
        common += ["--scan", scan, "--flyback", "1"]
    sweep = ["--sweep", "ricom.kernel_size=5,9"]
    sweep += ["--sweep", "virtual_detector.detectors_px.bf=[0,4],[0,9]"]
    disc = "virtual_detector:detectors_px={bf=[0,5]}"
    out = tmp_path / "swept"
    arguments = ["process", *common, "--engine", "ricom", "--engine", disc, *sweep]
    assert main([*arguments, "--out", str(out), "--cluster", cluster.address]) == 0
    folders = {path.name for path in (out / path.stem).iterdir()}
    assert len(folders) == 5
    reductions = [p for p in (out / path.stem / "parts").iterdir() if len(p.name) == 16]
    assert len(reductions) == 2  # one for each disc, none for a kernel
    for size in (5, 9):
        for radius in (4, 9):
            name = f"ricom.kernel_size={size},virtual_detector.detectors_px.bf=0_{radius}"
            plain = tmp_path / name
            engines = ["--engine", f"ricom:kernel_size={size}"]
            engines += ["--engine", f"virtual_detector:detectors_px={{bf=[0,{radius}]}}"]
            assert main(["process", *common, *engines, "--out", str(plain)]) == 0
            _same_folders(out / path.stem / name, plain / path.stem)


def test_an_acceptance_time_is_a_reduction_of_its_own(
    tmp_path: Path, cluster: Processes, events: Recipe
) -> None:
    recipes = [
        replace(
            events,
            settings=replace(
                events.settings,
                optics=events.settings.optics.model_copy(update={"acceptance_time_ns": limit}),
            ),
        )
        for limit in (None, 300.0)
    ]
    found = Spread(cluster.address).run({tmp_path / "out": recipes})
    for number, made in enumerate(recipes):
        same(found[tmp_path / "out" / str(number)], plainly(made))


def test_images_are_restored_and_corrected_by_workers(tmp_path: Path, cluster: Processes) -> None:
    path = write_npy(tmp_path / "a.npy", Scan(shape=(24, 20)))
    model = models.write(tmp_path, models.box_blur())
    arguments = ["process", str(path), "--correct", "--engine", "com"]
    for engine in (
        "virtual_detector:detectors_px={bf=[0,6]}",
        f"restoration:input=bf,model={model}",
    ):
        arguments += ["--engine", engine]
    for more, out in ((["--cluster", cluster.address], "spread"), ([], "plain")):
        assert main([*arguments, *more, "--out", str(tmp_path / out)]) == 0
    shutil.rmtree(tmp_path / "spread" / "a" / "parts")
    assert (tmp_path / "spread" / "a" / "bf_corrected.tif").exists()
    _same_folders(tmp_path / "spread" / "a", tmp_path / "plain" / "a")


def _same_folders(found: Path, wanted: Path) -> None:
    names = {path.name for path in wanted.iterdir()}
    assert {path.name for path in found.iterdir()} == names
    for name in names - {"scan.json"}:
        assert tifffile.imread(found / name).tobytes() == tifffile.imread(wanted / name).tobytes()
    a, b = (json.loads((folder / "scan.json").read_text()) for folder in (found, wanted))
    assert list(a) == list(b)
    for document in (a, b):
        document["settings"].pop("processed")
        for which in ("scan", "started", "started_ns"):  # each way has a scan of its own
            (document["measured_optics"] or {}).pop(which, None)
    for key in set(a) - {"id", "started", "started_ns", "finished", "finished_ns", "files"}:
        assert a[key] == b[key], key
    assert [file["name"] for file in a["files"]] == [file["name"] for file in b["files"]]


def test_an_unreachable_scheduler_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_S", 0.5)
    path = write_npy(tmp_path / "a.npy", Scan(shape=(3, 4)))
    address = f"tcp://127.0.0.1:{free_port()}"
    assert main(["process", str(path), "--cluster", address, "--out", str(tmp_path)]) == 1
    _one_message(capsys, "no Dask scheduler answers at", address)


def test_a_scheduler_that_dies_is_one_message_and_finished_parts_stay(
    tmp_path: Path, processes: Callable[[int], Processes], frames: Recipe
) -> None:
    dask = processes(1)

    def kill(done: int, total: int, threads: int) -> None:
        if total and done > 0.3 * total and dask.scheduler.poll() is None:
            dask.kill(dask.scheduler)

    with pytest.raises(ClusterError, match="was lost"):
        Spread(dask.address).run({tmp_path / "out": [frames]}, kill)
    assert len(list((tmp_path / "out" / "parts").glob("*/*.npz"))) > 3


def test_a_file_that_workers_do_not_see_is_one_message_and_stops_no_other(
    tmp_path: Path, cluster: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_npy(tmp_path / "a.npy", Scan(shape=(3, 4)))
    files = [str(tmp_path / "none.npy"), str(path)]
    out = tmp_path / "out"
    assert main(["process", *files, "--cluster", cluster.address, "--out", str(out)]) == 1
    _one_message(capsys, "none.npy does not exist (on ", "same path")
    assert (out / "a" / "ricom.tif").exists()


def test_a_file_that_goes_away_on_the_way_is_one_message(
    tmp_path: Path, cluster: Processes, frames: Recipe
) -> None:
    def remove(done: int, total: int, threads: int) -> None:
        if total and done > 0.2 * total:
            frames.path.unlink(missing_ok=True)

    spread = Spread(cluster.address)
    assert spread.run({tmp_path / "out": [frames]}, remove) == {}
    (error,) = spread.errors.values()
    assert "frames.npy" in str(error)


def test_a_parts_folder_that_cannot_be_written_is_one_message(
    tmp_path: Path, cluster: Processes, frames: Recipe
) -> None:
    out = tmp_path / "out"
    out.write_text("a file stands here")
    spread = Spread(cluster.address)
    spread.run({out: [frames]})
    assert "a file stands where a folder is needed" in str(spread.errors[out])


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (["--sweep", "ricum.kernel_size=3"], 2, "did you mean 'ricom'"),
        (["--sweep", "ricom.kernel=3,5"], 2, "kernel_size"),
        (["--sweep", "ricom.kernel_size=4"], 2, "kernel_size"),
        (["--sweep", "ricom.name=a,b"], 2, "a name is no setting"),
        (["--sweep", "optics.rotation=4"], 2, "rotation_deg"),
        (["--sweep", "ricom"], 2, "ENGINE.KEY=VALUE"),
        (["--sweep", "ricom.kernel_size=3", "--sweep", "ricom.kernel_size=5"], 2, "given twice"),
        (["--jobs", "3"], 2, "--jobs"),
        (["--part-mib", "0"], 2, "--part-mib"),
        (["--cluster", "local:none"], 2, "local:4"),
        (["--cluster", "none.json"], 1, "none.json"),
        (["--cluster", "nonsense://x"], 1, "nonsense"),
    ],
)
def test_mistakes_end_in_one_message_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, text: str
) -> None:
    path = write_npy(tmp_path / "a.npy", Scan(shape=(3, 4)))
    address = [] if "--cluster" in more else ["--cluster", "local:1"]
    arguments = ["process", str(path), "--out", str(tmp_path / "o"), *address, *more]
    assert main(arguments) == code
    _one_message(capsys, text)


def test_a_sweep_without_a_cluster_says_what_to_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["process", "a.npy", "--sweep", "ricom.kernel_size=3"]) == 2
    _one_message(capsys, "--cluster local")


def test_local_workers_are_started_and_ended(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "a.npy", Scan(shape=(6, 7)))
    for more, out in ((["--cluster", "local:1"], "spread"), ([], "plain")):
        assert main(["process", str(path), *more, "--out", str(tmp_path / out)]) == 0
    shutil.rmtree(tmp_path / "spread" / "a" / "parts")
    _same_folders(tmp_path / "spread" / "a", tmp_path / "plain" / "a")


def _one_message(capsys: pytest.CaptureFixture[str], *texts: Any) -> None:
    captured = capsys.readouterr().err
    for text in texts:
        assert text in captured
    assert "Traceback" not in captured
    assert captured.count("stemd process: ") == 1
    assert "remedy: " in captured or "for example" in captured
