"""Scans on their way from the reader's thread to their files, without a camera."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stemd.blocks import EndReason, Notice
from stemd.config.file import parse
from stemd.daemon.pipeline.finishing import MAX_FINISHING, Finishing
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.kept_settings import KeptSettings
from stemd.daemon.pipeline.posting import posting
from stemd.daemon.pipeline.scans import Scans
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.results import Snapshot
from stemd.scan.engines import ScanEngines
from stemd.scan.images import ScanImages
from stemd.scan.run import ScanRun
from stemd.storage.folder import SCAN_FILE
from stemd.storage.scan_files import ScanFiles
from stemd.storage.store import Store
from tests.conftest import a_snapshot, an_acquisition

CONFIG = """
[daemon]
instrument = "titan"

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
scan = { shape = [6, 9] }

[[pipeline.engine]]
type = "sum"

[pipeline.record]
raw = false
"""


class Heard:
    """Everything that the parts tell."""

    session = None

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finished: list[Json] = []
        self.wrong: list[str] = []
        self.news = asyncio.Event()

    def scan_began(self, run: ScanRun, files: ScanFiles) -> None:
        """A scan has begun."""
        self.begun.append(run.acquisition.id)
        self.news.set()

    def scan_finished(
        self, run: ScanRun, files: ScanFiles, document: Json, lacking: Mapping[str, int]
    ) -> None:
        """A scan is written."""
        self.finished.append(document)
        self.news.set()

    def scan_not_finished(self, run: ScanRun, error: StemdError) -> None:
        """Something unforeseen."""
        self.wrong.append(error.message)
        self.news.set()

    def noticed(self, notice: Notice) -> None:
        """Nothing is."""

    def engine_failed(self, engine: str, error: StemdError) -> None:
        """None does."""

    def disk_failed(self, error: StemdError) -> None:
        """It does not."""

    def changed(self) -> None:
        """Somebody may be waiting for it."""
        self.news.set()


class Bench:
    """The parts of a pipeline that make scans; this test's thread is the reader's."""

    def __init__(self, store: Store, text: str = CONFIG) -> None:
        config = parse(text).pipelines[0]
        self.heard, self.hub = Heard(), Hub()
        self.post = posting(asyncio.get_running_loop(), "cam")
        self.settings = SettingsInForce(
            config,
            self.hub,
            lambda scan: None,
            lambda entry: self.scans.note_change(entry),
            KeptSettings(store.data_dir, "scope", "cam", "merlin"),
        )
        self.images = PublishedImages("cam", self.hub, lambda: self.settings.live, self.post)
        self.finishing = Finishing("cam", self.settings, self.images, self.heard)
        self.scans = Scans(
            config, store, self.settings, self.images, self.finishing, self.heard, self.post
        )

    async def begin(self) -> tuple[ScanRun, ScanFiles]:
        """A scan begins."""
        return await asyncio.to_thread(self.scans.begin, an_acquisition())

    async def end(self, run: ScanRun, reason: EndReason = "complete") -> None:
        """A scan ends."""

        def end() -> None:
            run.end(reason)
            self.scans.finish(run)

        await asyncio.to_thread(end)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, looking whenever something has changed."""
        async with asyncio.timeout(60.0):
            while not condition():
                await self.heard.news.wait()
                self.heard.news.clear()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "data", "titan")
    yield made
    made.close()


@pytest.fixture
async def bench(store: Store) -> Bench:
    return Bench(store)


async def test_a_scan_goes_from_its_begin_to_its_files_and_the_state_follows(
    bench: Bench,
) -> None:
    assert bench.scans.activity is None
    run, files = await bench.begin()
    await bench.until(lambda: bench.heard.begun)
    assert (bench.scans.current, bench.scans.activity) == (run, "acquiring")
    bench.settings.change({"optics": {"rotation_deg": 3.0}})
    final = bench.finishing.images_of(run.acquisition.id)
    await bench.end(run)
    await bench.until(lambda: bench.heard.finished)
    assert bench.scans.activity is None
    assert bench.scans.current is None
    assert bench.scans.newest is run
    assert [result.name for result in (await final).results] == ["sum"]
    assert bench.images.newest is not None
    assert bench.images.newest.final
    document = json.loads((files.folder.path / SCAN_FILE).read_text())
    (change,) = document["settings_history"]
    assert (change["revision"], change["positions_done"]) == (2, 0)
    assert change["changes"] == {"optics": {"rotation_deg": 3.0}}
    assert bench.finishing.last is not None
    assert bench.finishing.last.run is run
    assert (bench.finishing.scans_finished, bench.finishing.scans_not_complete) == (1, 1)


@pytest.mark.parametrize("images", [True, False], ids=["with images", "without"])
async def test_an_engines_thread_that_fails_is_told_and_the_scan_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, images: bool
) -> None:
    def broken(*arguments: object, **more: object) -> Snapshot:
        raise KeyError("of a mistake")

    monkeypatch.setattr(ScanRun, "serve", broken)
    if not images:
        monkeypatch.setattr(ScanImages, "snapshot", broken)
    run, files = await bench.begin()
    await bench.end(run)
    await bench.until(lambda: bench.heard.finished)
    assert len(bench.heard.wrong) == 1
    assert "KeyError: 'of a mistake'" in bench.heard.wrong[0]
    names = [file["name"] for file in bench.heard.finished[0]["files"]]
    assert ("sum.tif" in names) is images
    assert (files.folder.path / SCAN_FILE).exists()
    assert bench.scans.activity is None


async def test_a_scan_that_cannot_be_written_is_told_and_gives_its_place_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> Json:
        raise KeyError("of a mistake")

    monkeypatch.setattr(ScanFiles, "close", broken)
    for count in range(MAX_FINISHING + 2):
        run, _ = await asyncio.wait_for(bench.begin(), 30.0)
        await bench.end(run)
        await bench.until(lambda count=count: len(bench.heard.wrong) > count)
    assert bench.finishing.last is None
    assert bench.scans.activity is None


async def test_a_camera_waits_while_too_many_scans_are_unfinished_unless_it_is_to_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, close = threading.Event(), ScanFiles.close

    def slow(files: ScanFiles, *arguments: Any, **more: Any) -> Json:
        assert gate.wait(60.0)
        return close(files, *arguments, **more)

    monkeypatch.setattr(ScanFiles, "close", slow)
    for _ in range(MAX_FINISHING):
        run, _ = await bench.begin()
        await bench.end(run)
    await bench.until(lambda: bench.finishing.being_written == MAX_FINISHING)
    assert bench.scans.activity == "finishing"
    begin = asyncio.create_task(bench.begin())
    done, _ = await asyncio.wait({begin}, timeout=0.5)
    assert not done, "it waits"
    gate.set()
    run, _ = await asyncio.wait_for(begin, 30.0)
    await bench.end(run)
    await bench.until(lambda: len(bench.heard.finished) == MAX_FINISHING + 1)

    gate.clear()
    for _ in range(MAX_FINISHING):
        run, _ = await bench.begin()
        await bench.end(run)
    begin = asyncio.create_task(bench.begin())
    bench.scans.close()
    run, _ = await asyncio.wait_for(begin, 30.0)
    gate.set()
    await bench.end(run)
    await bench.until(lambda: len(bench.heard.finished) == 2 * MAX_FINISHING + 2)


async def test_older_scans_leave_slow_work_when_a_third_begins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    serve = ScanRun.serve

    def slow(run: ScanRun, *arguments: Any) -> Snapshot:
        final = serve(run, *arguments)
        assert gate.wait(60.0)
        return final

    abandoned: list[str] = []
    monkeypatch.setattr(ScanRun, "serve", slow)
    monkeypatch.setattr(
        ScanEngines, "abandon", lambda engines, why: abandoned.append(engines.acquisition.id)
    )
    runs = []
    for _ in range(3):
        run, _ = await bench.begin()
        await bench.end(run)
        runs.append(run)
    await asyncio.sleep(0)  # what the reader's thread posted last
    assert abandoned == [runs[0].acquisition.id]
    bench.scans.abandon_all("stemd was stopped")
    assert sorted(abandoned[1:]) == sorted(run.acquisition.id for run in runs)
    gate.set()
    await bench.until(lambda: len(bench.heard.finished) == 3)


async def test_a_late_event_loop_gets_only_the_newest_growing_images(bench: Bench) -> None:
    seen: list[int] = []
    bench.hub.snapshot = lambda pipeline, snapshot: seen.append(snapshot.sequence)  # type: ignore[method-assign]
    acquisition = an_acquisition()
    bench.images.scan_began()
    offers = [
        threading.Thread(
            target=partial(bench.images.offer, a_snapshot(acquisition, sequence=number))
        )
        for number in range(5)
    ]
    for offer in offers:
        offer.start()
        offer.join()
    assert seen == []
    await asyncio.sleep(0)
    assert (seen, bench.images.replaced) == ([4], 4)
    bench.images.publish_final(a_snapshot(acquisition, final=True, sequence=9))
    assert bench.images.newest is not None
    assert bench.images.newest.sequence == 4, "the next scan's images are newer"
    bench.images.scan_ended()
    bench.images.publish_final(a_snapshot(acquisition, final=True, sequence=10))
    assert bench.images.newest.sequence == 10


async def test_a_scan_that_cannot_begin_takes_no_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(files: ScanFiles, *arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ScanFiles, "open", broken)
        for _ in range(MAX_FINISHING + 1):
            with pytest.raises(MemoryError):
                await asyncio.wait_for(bench.begin(), 10.0)
    run, _ = await asyncio.wait_for(bench.begin(), 10.0)
    await bench.end(run)
    await bench.until(lambda: bench.heard.finished)
