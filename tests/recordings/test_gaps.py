"""Series of files of which some are not there, and masks of files that DECTRIS has not written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.errors import FormatError

from .test_hdf5 import told

SCAN = Scan(shape=(6, 7))
DATA = np.random.default_rng(1).poisson(5, (42, 8, 9)).astype("u2")


def series(path: Path, parts: dict[int, tuple[int, int]], *, numbered: bool = False) -> Path:
    """Files of a series by number, each of the images from one to another."""
    with h5py.File(path, "w") as file:
        for number, (first, stop) in parts.items():
            part = file.create_dataset(f"entry/data/data_{number:06d}", data=DATA[first:stop])
            if numbered:
                part.attrs["image_nr_low"], part.attrs["image_nr_high"] = first + 1, stop
    return path


@pytest.mark.parametrize(
    ("parts", "numbered", "lost"),
    [
        ({1: (0, 10), 2: (10, 20), 4: (30, 40), 5: (40, 42)}, False, range(20, 30)),
        ({0: (0, 10), 1: (10, 20), 3: (30, 40), 4: (40, 42)}, False, range(20, 30)),
        ({2: (10, 20), 3: (20, 30), 5: (40, 42)}, False, [*range(10), *range(30, 40)]),
        ({1: (0, 9), 3: (21, 30), 4: (30, 42)}, True, range(9, 21)),
        ({2: (5, 20), 3: (20, 42)}, True, range(5)),
    ],
)
def test_images_behind_a_file_that_is_not_there_keep_their_positions(
    tmp_path: Path, parts: dict[int, tuple[int, int]], numbered: bool, lost: Sequence[int]
) -> None:
    recording = open_recording(series(tmp_path / "s_master.h5", parts, numbered=numbered), SCAN)
    found = {}
    for block in recording.blocks(0, recording.frames):
        for place, one in zip(block.probe.tolist(), block.patterns(), strict=True):  # type: ignore[union-attr]
            if place >= 0:
                found[place] = one.copy()
        block.release()
    recording.close()
    assert set(found) == set(range(42)) - set(lost)
    for place, one in found.items():
        np.testing.assert_array_equal(one, DATA[place])
    (gap,) = (n for n in told(tmp_path / "s_master.h5") if n.kind == "data_files_missing")
    assert f"the positions of their {len(lost)} patterns are missing" in gap.text


@pytest.mark.parametrize("parts", [{1: (0, 9), 2: (9, 19), 4: (30, 40)}, {3: (30, 42)}])
def test_where_nothing_tells_how_many_images_lack_the_file_is_refused(
    tmp_path: Path, parts: dict[int, tuple[int, int]]
) -> None:
    path = series(tmp_path / "s_master.h5", parts)
    with pytest.raises(FormatError, match="nothing tells how many patterns") as error:
        open_recording(path, SCAN)
    assert "copy them" in error.value.remedy


@pytest.mark.parametrize("detector", ["detector", "ELE_D0"])
@pytest.mark.parametrize("lead", [(), (1,)])
def test_the_mask_of_a_nexus_file_is_used(
    tmp_path: Path, detector: str, lead: tuple[int, ...]
) -> None:
    path = tmp_path / "a.nxs"
    mask = np.zeros((8, 9), "u4")
    mask[3, 4] = 8
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = DATA
        group = file.create_group(f"entry/instrument/{detector}")
        group.attrs["NX_class"] = "NXdetector"
        group["pixel_mask"] = mask.reshape(*lead, 8, 9)
    recording = open_recording(path, SCAN)
    assert np.argwhere(recording.acquisition.detector.mask).tolist() == [[3, 4]]
    assert recording.acquisition.detector.name == "array"
    recording.close()
