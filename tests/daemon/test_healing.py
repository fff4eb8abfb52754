"""A disk that has refused something: red until it takes files again, which is found out."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stemd.config.tables import RetentionTable
from stemd.daemon import health as health_module
from stemd.daemon.healing import TRIALS, Healing
from stemd.daemon.health import _tell, watch_disk
from stemd.daemon.pipeline.disk_side import DiskSide
from stemd.daemon.pipeline.troubles import Troubles
from stemd.errors import SinkError
from stemd.events import Hub
from stemd.storage import trial as trial_module
from stemd.storage.disk_watch import DiskWatch
from stemd.storage.store import Store
from stemd.storage.trial import TRIAL_BYTES, trial
from stemd.tasks import end_all

REFUSED = SinkError("raw.mib: cannot write: input/output error", "see dmesg")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data", "cam", reserve_bytes=0)


def test_a_trial_leaves_nothing_behind(store: Store) -> None:
    before = sorted(store.data_dir.iterdir())
    assert trial(store) is None
    assert sorted(store.data_dir.iterdir()) == before


def test_a_trial_finds_what_an_empty_file_does_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.reserve_bytes = shutil.disk_usage(store.data_dir).free - TRIAL_BYTES // 2
    full = trial(store)
    assert full is not None
    assert "MiB are free" in full.message
    store.reserve_bytes = 0

    def refuse(fd: int) -> None:
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patch:
        patch.setattr(trial_module.os, "fsync", refuse)
        refused = trial(store)
    assert refused is not None
    assert "input/output error" in refused.message
    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "write_all", lambda fd, data: os.write(fd, bytes(len(data))))
        lied = trial(store)
    assert lied is not None
    assert "is not read as it was written" in lied.message
    assert not list(store.data_dir.glob(".stemd-*"))


class Sessions:
    """Remembers whether the disk is there."""

    def __init__(self) -> None:
        self.disk = True

    def there(self, what: str, *, there: bool) -> None:
        """It came or went."""
        self.disk = there


class Bench:
    """Two pipelines on one disk."""

    def __init__(self, store: Store) -> None:
        self.watch = DiskWatch(store, RetentionTable(warn_free_gb=0))
        self.sessions, self.hub = Sessions(), Hub()
        self.suffers = False
        self.news = asyncio.Event()
        self.said: list[Mapping[str, Any]] = []
        self.hub.log = lambda pipeline, entry: self.said.append(entry)  # type: ignore[method-assign]
        self.sides = {name: self._side(name) for name in ("one", "two")}
        pipelines = {name: SimpleNamespace(disk=side) for name, side in self.sides.items()}
        self.healing = Healing(self.watch, cast(Any, pipelines))

    def _side(self, name: str) -> DiskSide:
        troubles = Troubles(name, self.hub)
        return DiskSide(troubles, cast(Any, self.sessions), lambda: self.suffers, self.news.set)

    def look(self, times: int = 1) -> None:
        """As the task that watches the disk does."""
        for _ in range(times):
            self.healing.begin()
            self.watch.look()
            self.healing.end()

    def red(self, name: str = "one") -> bool:
        """Whether a pipeline has trouble with the disk."""
        return bool(self.sides[name]._troubles.open("disk"))


@pytest.fixture
async def bench(store: Store) -> Bench:
    return Bench(store)


async def test_a_record_that_was_refused_is_red_until_the_disk_takes_files_without_a_scan(
    bench: Bench,
) -> None:
    bench.look()
    began = bench.watch.well_since
    assert began is not None
    side = bench.sides["one"]
    side.failed(REFUSED)
    side.not_recorded("scan-1")
    assert not bench.sessions.disk
    bench.look(TRIALS - 1)
    assert bench.red(), "one file proves little"
    bench.look()
    assert not bench.red()
    assert bench.sessions.disk
    assert bench.watch.well_since > began
    assert side.scans_not_recorded == 1, "the scan is lost all the same"
    told = bench.said[-1]
    assert told["level"] == "warning"
    assert f"taken files again since {bench.watch.well_since}" in told["message"]
    assert "not recorded before: 1 scan, the last of them scan-1" in told["message"]
    bench.look()
    assert not bench.watch.to_be_tried


async def test_the_task_that_watches_the_disk_finds_it_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "DISK_PERIOD_S", 0.001)
    bench.sides["one"].failed(REFUSED)
    bench.news.clear()
    pipelines = {name: SimpleNamespace(disk=side) for name, side in bench.sides.items()}
    red = SimpleNamespace(told={})
    watching = asyncio.create_task(
        watch_disk(bench.watch, cast(Any, pipelines), cast(Any, red)), name="disk"
    )
    async with asyncio.timeout(30.0):
        await bench.news.wait()
    await end_all((watching,))
    assert not bench.red()


async def test_a_disk_that_does_not_take_a_trial_file_stays_red(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.look()
    bench.sides["one"].failed(REFUSED)
    with monkeypatch.context() as patch:
        patch.setattr("stemd.storage.disk_watch.trial", lambda store: REFUSED)
        bench.look(TRIALS + 2)
    assert bench.red()
    assert bench.watch.document()["well_since"] is None
    bench.look(TRIALS)
    assert not bench.red()


async def test_a_record_that_is_refused_again_begins_the_trials_anew(bench: Bench) -> None:
    side = bench.sides["one"]
    side.failed(REFUSED)
    bench.look(TRIALS - 1)
    side.failed(REFUSED)
    bench.look(TRIALS - 1)
    assert bench.red()
    bench.look()
    assert not bench.red()


async def test_a_failure_while_the_disk_is_looked_at_counts(bench: Bench) -> None:
    side = bench.sides["one"]
    side.failed(REFUSED)
    bench.look(TRIALS - 1)
    bench.healing.begin()
    bench.watch.look()
    side.failed(REFUSED)
    bench.healing.end()
    assert bench.red()


async def test_a_running_scan_that_is_not_kept_stays_red_until_its_end(bench: Bench) -> None:
    bench.suffers = True
    bench.sides["one"].failed(REFUSED)
    bench.look(TRIALS + 2)
    bench.sides["one"].well("2026-01-01T00:00:00.000000Z")
    assert bench.red()
    bench.suffers = False
    bench.look()
    assert not bench.red()


async def test_a_disk_that_is_full_is_not_called_well_while_a_scan_suffers_from_it(
    bench: Bench, store: Store
) -> None:
    bench.look()
    bench.suffers = True
    bench.sides["one"].failed(REFUSED)
    store.reserve_bytes = 2 * shutil.disk_usage(store.data_dir).total
    bench.look(2)
    assert bench.watch.well_since is None


async def test_a_scan_that_ends_on_a_disk_that_is_too_full_is_no_all_clear(bench: Bench) -> None:
    pipelines: Any = {name: SimpleNamespace(disk=side) for name, side in bench.sides.items()}
    bench.watch._error = REFUSED
    _tell("failed", bench.watch, pipelines)
    bench.sides["one"].well("2026-01-01T00:00:00.000000Z")  # its last images found room
    assert bench.red()
    assert not any("has taken files again" in entry["message"] for entry in bench.said)
    bench.watch._error, bench.watch.well_since = None, "2026-01-01T00:00:09.000000Z"
    _tell("well", bench.watch, pipelines)
    assert not bench.red()
    assert "has taken files again" in bench.said[-1]["message"]


async def test_the_trouble_of_one_pipeline_is_not_that_of_another(bench: Bench) -> None:
    bench.sides["two"].failed(REFUSED)
    bench.look(TRIALS - 1)
    bench.sides["one"].failed(REFUSED)
    bench.look()
    assert (bench.red("one"), bench.red("two")) == (True, False)


async def test_a_disk_without_trouble_is_not_tried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemd.storage.disk_watch.trial", lambda store: pytest.fail("tried"))
    bench.look(2)


async def test_a_disk_without_room_for_a_record_is_red_before_a_scan_finds_out(
    bench: Bench, store: Store
) -> None:
    store.reserve_bytes = 2 * shutil.disk_usage(store.data_dir).total
    bench.look()
    assert bench.watch.error is not None
    assert "nothing is recorded" in bench.watch.error.message
    assert bench.watch.well_since is None
    store.reserve_bytes = 0
    bench.look()
    assert bench.watch.error is None
    assert bench.watch.well_since is not None
