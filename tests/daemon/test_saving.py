"""Images are saved once, and those of a running scan so often and no more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemd.daemon.pipeline import saving
from stemd.daemon.pipeline.saving import Saving
from stemd.errors import StemdError


class Folder:
    """The files of a scan; how often they were written."""

    def __init__(self, path: Path) -> None:
        self.folder, self.written, self.amended = SimpleNamespace(path=path), 0, 0

    def write_images(self, snapshot: Any, settings: Any, ending: str) -> list[str]:
        self.written += 1
        name = f"bf{ending}.tif"
        (self.folder.path / name).touch()
        return [name]

    def amend(self) -> None:
        self.amended += 1


def snapshot_of(positions: int, *, final: bool = False) -> Any:
    acquisition = SimpleNamespace(id="one")
    return SimpleNamespace(
        acquisition=acquisition, positions_done=positions, final=final, sequence=positions
    )


async def test_the_same_images_are_written_once_and_a_running_scan_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_SAVES", 3)
    files = Folder(tmp_path)
    live = SimpleNamespace(revision=1, as_json=dict)
    images, scans = SimpleNamespace(newest=snapshot_of(0)), SimpleNamespace(files=files)
    last = SimpleNamespace(files=files, final=snapshot_of(9, final=True))
    parts: Any = (SimpleNamespace(live=live), scans, images, lambda: last)
    saves = Saving(*parts)
    for positions in (1, 2, 3):
        images.newest = snapshot_of(positions)
        for _ in range(5):
            reply = await saves.save()
            assert reply == {"scan": "one", "files": [f"bf_at_{positions}.tif"]}
    assert files.written == 3
    images.newest = snapshot_of(4)
    with pytest.raises(StemdError, match="saved 3 times"):
        await saves.save()
    scans.files = None
    for _ in range(5):
        assert (await saves.save())["files"] == ["bf.tif"]
    assert (files.written, files.amended) == (4, 1)
    (tmp_path / "bf.tif").unlink()
    await saves.save()
    live.revision = 2  # another writer, perhaps
    await saves.save()
    assert files.written == 6
