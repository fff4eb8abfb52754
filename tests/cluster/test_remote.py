"""Workers that read from a web server: the same images, whatever becomes of the server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stemd.acquisition import Scan
from stemd.adapters.recordings.address import RemoteFile
from stemd.blocks import Message
from stemd.cli.main import main
from stemd.errors import StemdError
from stemd.offline.cluster.connect import connect
from stemd.offline.cluster.parts import Part
from stemd.offline.cluster.recipe import Goal, Recipe
from stemd.offline.cluster.run import Progress, run_files
from stemd.offline.cluster.store import PartStore
from stemd.offline.outcome import Outcome
from stemd.results import Snapshot

from ..remote.server import RangeServer
from .conftest import Processes
from .scenes import plainly, recipe, same, write_events, write_mib, write_npy

SCAN = Scan(shape=(60, 50), flyback=1)
SMALL = Scan(shape=(20, 23))
EVENTS = Scan(shape=(24, 31), flyback=3, dwell_time_us=1.0)
PART = 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    made = RangeServer(tmp_path)
    yield made
    made.stop()


def spread(
    address: str,
    files: dict[Path, Recipe],
    progress: Progress = lambda done, total, threads: None,
    part_bytes: int = PART,
) -> tuple[dict[Path, tuple[Outcome, Snapshot]], dict[Path, StemdError]]:
    """Images and errors by folder."""
    made: dict[Path, tuple[Outcome, Snapshot]] = {}
    errors: dict[Path, StemdError] = {}

    def written(goal: Goal, outcome: Outcome, final: Snapshot, _: Sequence[Message]) -> None:
        made[goal.folder] = outcome, final

    goals = {folder: [Goal(each, folder)] for folder, each in files.items()}
    with connect(address) as pool:
        run_files(pool, goals, written, errors.__setitem__, progress, part_bytes)
    return made, errors


def afar(server: RangeServer, made: Recipe) -> Recipe:
    return replace(made, path=RemoteFile(server.url(made.path.name)))


def test_workers_read_ranges_and_give_what_local_files_give(
    tmp_path: Path, cluster: Processes, server: RangeServer
) -> None:
    events = tmp_path / "c.tpx3"
    recipes = {
        tmp_path / "a": recipe(write_npy(tmp_path / "a.npy", SCAN), SCAN),
        tmp_path / "b": recipe(write_mib(tmp_path / "b.mib", SMALL, lost=(40, 41)), SMALL),
        tmp_path / "c": recipe(events, EVENTS, write_events(events, EVENTS)),
    }
    far = {folder: afar(server, made) for folder, made in recipes.items()}
    found, errors = spread(cluster.address, far, part_bytes=8 * PART)
    assert not errors
    for folder, made in recipes.items():
        same(found[folder], plainly(made))
    sizes = {name: stop - first for name, first, stop in server.asked}
    assert max(sizes.values()) < 12 * PART  # nothing asked for a whole file
    assert {name for name, _, _ in server.asked} >= {"a.npy", "b.mib", "c.tpx3"}


@pytest.mark.parametrize("kind", ["npy", "tpx3"])
def test_a_server_that_dies_ends_in_a_message_and_the_next_run_goes_on(
    kind: str,
    tmp_path: Path,
    cluster: Processes,
    server: RangeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        made = recipe(write_npy(path, SCAN), SCAN)
    else:
        made = recipe(path, EVENTS, write_events(path, EVENTS))
    out = tmp_path / "out"

    def die(done: int, total: int, threads: int) -> None:
        if total and done > 0.5 * total:
            server.stop()

    found, errors = spread(cluster.address, {out: afar(server, made)}, die)
    assert found == {}
    assert f"x.{kind} cannot be read at byte " in str(errors[out])
    assert "attempts" in str(errors[out])
    (folder,) = [each for each in (out / "parts").iterdir() if len(each.name) == 16]
    before = PartStore(out / "parts", folder.name).spans()
    assert len(before) > 1

    server.start()
    saved: list[tuple[int, int]] = []
    save = PartStore.save

    def saving(self: PartStore, part: Part) -> None:
        saved.append((part.first, part.stop))
        save(self, part)

    monkeypatch.setattr(PartStore, "save", saving)
    found, errors = spread(cluster.address, {out: afar(server, made)})
    assert not errors
    same(found[out], plainly(made))
    assert not set(before) & set(saved)


def test_a_killed_worker_and_a_server_with_hiccups_lose_nothing(
    tmp_path: Path, processes: Callable[[int], Processes], server: RangeServer
) -> None:
    made = recipe(write_npy(tmp_path / "a.npy", SCAN), SCAN)
    dask = processes(2)
    broken = iter(range(10**9))
    server.fault = lambda name, first: "cut" if next(broken) % 17 == 5 else ""

    def kill(done: int, total: int, threads: int) -> None:
        if total and done > 0.3 * total and dask.workers[0].poll() is None:
            dask.kill(dask.workers[0])

    found, errors = spread(dask.address, {tmp_path / "out": afar(server, made)}, kill)
    assert not errors
    assert dask.workers[0].poll() is not None
    same(found[tmp_path / "out"], plainly(made))


def test_a_file_that_is_replaced_on_the_way_is_one_message(
    tmp_path: Path, cluster: Processes, server: RangeServer
) -> None:
    made = recipe(write_npy(tmp_path / "a.npy", SCAN), SCAN)
    assert isinstance(made.path, Path)
    path = made.path

    def replaced(done: int, total: int, threads: int) -> None:
        if total and done > 0.3 * total:
            os.utime(path, ns=(1, 1))

    _, errors = spread(cluster.address, {tmp_path / "out": afar(server, made)}, replaced)
    said = str(errors[tmp_path / "out"])
    # before a range is asked for, or by its answer
    assert "a.npy has changed since it was first" in said or "a.npy was replaced while" in said
    assert said.count("a.npy") == 1


def test_the_command_takes_addresses_with_and_without_a_cluster(
    tmp_path: Path, cluster: Processes, server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    server.folder = folder
    path = write_npy(folder / "a.npy", SCAN)
    common = ["--scan", "60x50", "--flyback", "1", "--engine", "com", "--engine", "pacbed"]
    none = server.url("none.mib")
    for name, files, more, code in (
        ("near", [f"file://{path}"], [], 0),
        ("far", [server.url("a.npy?signature=1")], [], 0),
        ("spread", [none, server.url("a.npy")], ["--cluster", cluster.address], 1),
    ):
        assert main(["process", *files, *common, *more, "--out", str(tmp_path / name)]) == code
    said = capsys.readouterr()
    assert said.err.count("none.mib does not exist") == 1
    assert "signature" not in said.out + (tmp_path / "far" / "a" / "scan.json").read_text()
    for image in ("com_y.tif", "pacbed.tif"):
        near = (tmp_path / "near" / "a" / image).stat().st_size
        assert near > 0
        assert _pixels(tmp_path / "far" / "a" / image) == _pixels(tmp_path / "near" / "a" / image)
        assert _pixels(tmp_path / "spread" / "a" / image) == _pixels(
            tmp_path / "near" / "a" / image
        )


def _pixels(path: Path) -> bytes:
    import tifffile

    return tifffile.imread(path).tobytes()


def test_workers_without_the_package_of_a_protocol_say_so(
    tmp_path: Path, cluster: Processes
) -> None:
    made = replace(recipe(tmp_path / "a.npy", SCAN), path=RemoteFile("adl://store/a.npy"))
    _, errors = spread(cluster.address, {tmp_path / "out": made})
    assert "needs a package that is not installed" in str(errors[tmp_path / "out"])
    assert "(on " in str(errors[tmp_path / "out"])
    assert errors[tmp_path / "out"].remedy == "pip install adlfs"
