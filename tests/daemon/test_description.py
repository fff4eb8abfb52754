"""What a past scan is of, said afterwards: whose scan, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stemd.acquisition import Acquisition
from stemd.errors import SinkError, UsageError
from stemd.storage import completions
from stemd.storage.description import describe
from stemd.storage.folder import SCAN_FILE, ScanFolder, ScanSummary
from stemd.storage.store import Store
from tests.conftest import an_acquisition

ABOUT = {"sample": "Au"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "data", "titan")
    yield made
    made.close()


def keep_scan(store: Store) -> tuple[Acquisition, ScanFolder]:
    acquisition = an_acquisition()
    folder = ScanFolder.of_scan(store.data_dir, acquisition, "cam", "titan")
    folder.create()
    done = np.ones(acquisition.scan.positions, np.bool_)
    folder.write_summary(ScanSummary("complete", done))
    return acquisition, folder


def about_of(folder: ScanFolder) -> object:
    return json.loads((folder.path / SCAN_FILE).read_text()).get("about")


def test_a_scan_of_another_pipeline_is_left_to_that_one(store: Store) -> None:
    acquisition, folder = keep_scan(store)
    before = about_of(folder)
    with pytest.raises(UsageError, match="is one of the pipeline cam"):
        describe(store, "other", acquisition.id, ABOUT)
    assert about_of(folder) == before
    assert describe(store, "cam", acquisition.id, ABOUT)["about"]["sample"] == "Au"


def test_words_are_not_lost_in_a_scan_json_that_is_still_to_be_written(store: Store) -> None:
    acquisition, folder = keep_scan(store)
    store.begun(acquisition.id)
    with pytest.raises(SinkError, match="not all written yet"):
        describe(store, "cam", acquisition.id, ABOUT)
    store.ended(acquisition.id)
    document = completions.read(folder.path)
    store.write_later(folder.path, document)  # a disk that was full
    with pytest.raises(SinkError, match="not all written yet"):
        describe(store, "cam", acquisition.id, ABOUT)
    assert store.write_waiting() == 1
    describe(store, "cam", acquisition.id, ABOUT)
    assert about_of(folder) == ABOUT
