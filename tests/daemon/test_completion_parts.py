"""The parts of completion without a daemon: what waits, what is told, what is published."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from stemd.acquisition import Optics
from stemd.daemon.completer import Completer
from stemd.daemon.completion_files import CompletionFiles
from stemd.daemon.pipeline.finished import FinishedScan
from stemd.engines.airpi.setup import AirpiSettings
from stemd.errors import SinkError
from stemd.events import Hub
from stemd.offline.completion.queue import CompletionQueue
from stemd.results import Result, Snapshot
from stemd.settings import Settings
from stemd.storage import completions as book
from stemd.storage.completions import Unfinished
from stemd.storage.files import write_atomic
from stemd.storage.folder import SCAN_FILE, ScanFolder, ScanSummary
from stemd.storage.store import Store
from tests.conftest import a_snapshot, an_acquisition, wait_until

SECOND = 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "data", "titan")
    yield made
    made.close()


def unfinished(number: int) -> Unfinished:
    return Unfinished(str(number), "cam", number, {"airpi": 7})


def keep_scan(store: Store, started_s: int, pipeline: str = "cam") -> dict[str, Any]:
    """A finished scan of which an image lacks positions; its document."""
    acquisition = an_acquisition(started_ns=1_700_000_000 * SECOND + started_s * SECOND)
    folder = ScanFolder.of_scan(store.data_dir, acquisition, pipeline, "titan")
    folder.create()
    store.catalogue.begin(acquisition, pipeline, "titan", folder.path)
    folder.add(write_atomic(folder.path / "raw.mib", [b"no record"]))
    done = np.ones(acquisition.scan.positions, np.bool_)
    completion = book.outstanding({"airpi": 9}, 4)
    document = folder.write_summary(ScanSummary("complete", done, completion=completion))
    store.catalogue.end(acquisition.id, document)
    return document


class Troubles:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, str]] = []

    def tell(self, level: str, text: str, remedy: str, kind: str) -> None:
        self.told.append((level, text, remedy, kind))


class APipeline:
    """What a completer asks of a pipeline whose completion never comes about."""

    def __init__(self) -> None:
        self.commanding = asyncio.Lock()
        self.troubles = Troubles()
        self.stay: list[str] = []
        self.whole = asyncio.Event()
        self.config = None

    def state_changed(self) -> None:
        pass

    def not_completed(self, scan_id: str, completion: dict[str, Any]) -> None:
        self.stay.append(scan_id)

    def completed(self, snapshot: Snapshot, files: Any, completion: dict[str, Any]) -> None:
        self.whole.set()


class Listener:
    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.documents: list[dict[str, Any]] = []

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def on_document(self, pipeline: str, document: dict[str, Any]) -> None:
        self.documents.append(document)


async def test_the_newest_scan_goes_first_and_the_oldest_has_to_go_for_it() -> None:
    queue = CompletionQueue(3)
    for number in (5, 2, 9):
        assert queue.put(unfinished(number)) is None
    assert queue.put(unfinished(2)) is None, "it waits already"
    assert queue.put(unfinished(7)) == unfinished(2)
    assert queue.put(unfinished(1)) == unfinished(1), "it is the oldest itself"
    assert queue.of("cam") == 3
    assert [(await queue.take()).scan_id for _ in range(3)] == ["9", "7", "5"]
    assert len(queue) == 0
    newer = replace(unfinished(4), optics={"defocus_nm": 6.0})
    queue.put(newer)
    queue.put_back(unfinished(4))
    assert await queue.take() == newer, "what was taken before has other optics"
    later = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.put(unfinished(3))
    assert (await later).scan_id == "3"


async def test_what_finds_no_room_is_counted_told_and_stands_in_its_scan_json(
    store: Store,
) -> None:
    documents = [keep_scan(store, second) for second in range(3)]
    pipeline, hub, listener = APipeline(), Hub(), Listener()
    hub.add(listener)  # type: ignore[arg-type]
    completer = Completer(store, hub, {"cam": pipeline}, 1)  # type: ignore[dict-item]
    completer.start()
    for document in documents:
        completer.offer(document)
    await completer.stop()
    left = [document["id"] for document in documents[:2]]
    assert completer.counts == {"done": 0, "failed": 0, "left": 2}
    assert pipeline.stay == left
    assert [(level, kind) for level, _, _, kind in pipeline.troubles.told] == [
        ("warning", "completion")
    ] * 2
    assert all("stemd process" in remedy for _, _, remedy, _ in pipeline.troubles.told)
    assert [document["id"] for document in listener.documents] == left
    assert store.rows.settled(10.0)
    for document in documents:
        path = next(store.data_dir.glob(f"*/{document['id']}/{SCAN_FILE}"))
        row = store.catalogue.get(document["id"])
        assert row is not None
        status = "left" if document["id"] in left else "outstanding"
        for written in (json.loads(path.read_text()), row):
            assert written["completion"]["status"] == status
            assert written["completion"]["lacking"] == {"airpi": 9}


async def test_images_of_optics_that_nobody_wants_any_more_are_not_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = keep_scan(store, 1)
    acquisition = book.acquisition_of(document)
    jobs: asyncio.Queue[asyncio.Future[list[Result]]] = asyncio.Queue()

    async def make(job: Any, progress: Any) -> list[Result]:
        made: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        await jobs.put(made)
        return await made

    monkeypatch.setattr("stemd.daemon.completer.made", make)
    pipeline = APipeline()
    completer = Completer(store, Hub(), {"cam": pipeline})  # type: ignore[dict-item]
    completer.start()
    async with asyncio.timeout(30.0):
        completer.offer(document)
        first = await jobs.get()
        # while the first images are made others are asked for, as by measured optics
        folder = next(store.data_dir.glob(f"*/{document['id']}"))
        wanted = book.outstanding({"airpi": 9}, 4, {"defocus_nm": 6.0})
        completer.offer(book.write(folder, document, wanted))
        first.set_result(list(a_snapshot(acquisition, names=("airpi_phase",)).results))
        second = await jobs.get()
        written = json.loads((folder / SCAN_FILE).read_text())
        assert written["completion"]["status"] == "outstanding", "a later daemon finds it"
        assert not pipeline.whole.is_set()
        second.set_result(list(a_snapshot(acquisition, names=("airpi_phase",), fill=2.0).results))
        await pipeline.whole.wait()
    await completer.stop()
    written = json.loads((folder / SCAN_FILE).read_text())
    assert written["completion"]["status"] == "done"
    assert written["completion"]["optics"] == {"defocus_nm": 6.0}
    assert completer.counts["done"] == 1


def test_images_that_could_not_be_made_through_another_lens_may_be_asked_for_again() -> None:
    asked: list[Any] = []
    files = SimpleNamespace(
        record_is_whole=True,
        complete_again=lambda lacking, sequence, optics: asked.append(optics["defocus_nm"]),
        completed=lambda files, completion: None,
    )
    engines = {"airpi": AirpiSettings()}
    of_slow = {"airpi": ("airpi_phase",)}
    run = SimpleNamespace(
        settings=Settings(engines=engines),
        images=SimpleNamespace(of_slow=of_slow),
        positions_done=54,
        acquisition=an_acquisition(),
    )
    final = a_snapshot(an_acquisition(), names=("airpi_phase",), final=True)
    last = FinishedScan(run, files, final, frozenset())  # type: ignore[arg-type]
    other = Settings(engines=engines, optics=Optics(defocus_nm=6.0))
    last.make_from_record(other)
    last.make_from_record(other)
    assert asked == [6.0], "it is being made"
    last.not_completed({"status": book.FAILED})
    last.make_from_record(other)
    assert asked == [6.0, 6.0]
    last.completed(final, [], {"status": book.DONE})
    last.make_from_record(other)
    assert asked == [6.0, 6.0], "it is made"


async def test_a_scan_whose_pipeline_is_gone_stays_outstanding(store: Store) -> None:
    ours, theirs = keep_scan(store, 1), keep_scan(store, 2, "sold")
    pipeline = APipeline()
    completer = Completer(store, Hub(), {"cam": pipeline})  # type: ignore[dict-item]
    completer.start()
    await completer.resume()
    assert completer.document("cam")["completions_waiting"] == 1
    assert completer.document("sold")["completions_waiting"] == 0
    await completer.stop()
    for document in (ours, theirs):
        row = store.catalogue.get(document["id"])
        assert row is not None
        assert row["completion"]["status"] == "outstanding"


def test_a_scan_whose_folder_somebody_has_removed_is_not_tried_again(store: Store) -> None:
    document = keep_scan(store, 1)
    files = CompletionFiles(store)
    (row,) = files.outstanding()
    shutil.rmtree(store.data_dir / row["folder"])
    assert files.not_done(document["id"], book.FAILED, "the record is gone", "keep it") is None
    wait_until(lambda: not files.outstanding(), "the catalogue knows it")
    told = store.catalogue.get(document["id"])
    assert told is not None
    assert (told["completion"]["status"], told["status"]) == (book.FAILED, "complete")
    assert not (store.data_dir / row["folder"]).exists()


def test_what_is_no_scan_document_is_said_with_the_file_s_name(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"completion": 3}'):
        (tmp_path / SCAN_FILE).write_text(text)
        with pytest.raises(SinkError, match=SCAN_FILE):
            book.read(tmp_path)


def test_a_document_gives_its_acquisition_back(store: Store) -> None:
    document = keep_scan(store, 1)
    there = book.acquisition_of(document)
    known = an_acquisition(started_ns=there.started_ns, id=there.id)
    assert (there.scan, there.detector) == (known.scan, known.detector)


def test_completed_images_are_published_unless_a_later_scan_has_them() -> None:
    hub, listener = Hub(), Listener()
    hub.add(listener)  # type: ignore[arg-type]
    first, second = (an_acquisition(started_ns=n * SECOND) for n in (1, 2))
    names = ("airpi_phase", "airpi_weight")

    def told() -> list[str]:
        seen, listener.snapshots = listener.snapshots, []
        return [result.name for snapshot in seen for result in snapshot.results]

    hub.snapshot("cam", a_snapshot(first, names=("ricom", *names), final=True))
    told()
    hub.completed("cam", a_snapshot(first, names=names, final=True, fill=2.0))
    assert told() == list(names)
    last = hub.view("cam").last_final
    assert last is not None
    assert {r.name: float(r.image.max()) for r in last.results}["airpi_phase"] == 2.0
    assert {r.name for r in last.results} == {"ricom", *names}

    hub.snapshot("cam", a_snapshot(second, names=("ricom", "airpi_phase"), final=True))
    told()
    hub.completed("cam", a_snapshot(first, names=names, final=True))
    assert told() == ["airpi_weight"], "the later scan's phase stays"
    hub.completed("cam", a_snapshot(first, names=("ricom",), final=True))
    assert told() == []


def test_an_idle_process_has_the_lowest_priority_for_processor_and_disk() -> None:
    code = (
        "import os, psutil; from stemd.offline.idle import yield_to_others; yield_to_others();"
        "me = psutil.Process();"
        "print(os.sched_getscheduler(0) == os.SCHED_IDLE, me.nice(), me.ionice().ioclass.value)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "19", str(psutil.IOPRIO_CLASS_IDLE.value)]
