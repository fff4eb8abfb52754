"""A mask file is read when the setting is made, beside the reader, and refused if it is none."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.adapters.recordings import mask_file
from stemd.cli.main import main
from stemd.config.live import RefusedError
from stemd.daemon.pipeline import mask_files
from stemd.daemon.pipeline.mask_files import MaskFiles
from stemd.daemon.pipeline.mask_watch import read_mask
from stemd.daemon.pipeline.troubles import Troubles
from stemd.errors import ConfigError
from stemd.events import Hub
from stemd.pixels import Mask
from stemd.scan.masking import usable_mask
from tests.daemon.test_doubts_are_told import CONFIG, InForce

ACQUISITION = Acquisition(Scan(shape=(2, 2)), Detector("d", (3, 4), "u2", 12))


def a_mask(folder: Path, **pixels: int) -> Path:
    """A file with one masked pixel."""
    mask = np.zeros((3, 4), np.uint8)
    mask[pixels.get("y", 1), pixels.get("x", 2)] = 1
    np.save(folder / "mask.npy", mask)
    return folder / "mask.npy"


@pytest.fixture(params=["fifo", "device", "folder", "text", "gone"])
def no_mask(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "device":
        return Path("/dev/zero")
    path = tmp_path / f"{request.param}.npy"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "text":
        path = tmp_path / "passwd"
        path.write_text("root:x:0:0")
    return path


async def test_what_is_no_mask_is_refused_at_once_and_nothing_is_changed(
    tmp_path: Path, no_mask: Path
) -> None:
    force = InForce(tmp_path)
    change = {"optics": {"mask": str(no_mask), "rotation_deg": 3.0}}
    with pytest.raises(RefusedError, match=r"optics\.mask") as refused:
        await asyncio.wait_for(force.settings.prepare(change), 4.0)
    assert str(no_mask) in refused.value.message
    with pytest.raises(RefusedError, match="has not been read"):
        force.settings.change(change)
    assert force.settings.live.engines.optics.rotation_deg == 0.0


def test_check_refuses_it_too(
    tmp_path: Path, no_mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "stemd.toml"
    optics = f"[pipeline.optics]\nmask = '{no_mask}'"
    config.write_text(CONFIG.replace("[pipeline.optics]", optics))
    assert main(["check", str(config)]) == 2
    assert f"pipeline[0].optics.mask: {no_mask}" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["optics", "optics.mask"])
async def test_a_mask_holds_as_it_was_read(tmp_path: Path, key: str) -> None:
    force, path = InForce(tmp_path), a_mask(tmp_path)
    change: dict[str, Any] = {key: str(path) if "." in key else {"mask": str(path)}}
    await force.settings.prepare(change)
    optics = force.settings.change(change).engines.optics

    def of_scan() -> Mask:
        mask = usable_mask(ACQUISITION, optics, lambda notice: None, live=True,
                           read=force.settings.masks.kept).mask  # fmt: skip
        assert mask is not None
        return mask

    path.unlink()
    assert np.argwhere(of_scan()).tolist() == [[1, 2]]
    a_mask(tmp_path, y=2, x=3)
    assert np.argwhere(of_scan()).tolist() == [[1, 2]]
    await force.settings.prepare(change)
    assert np.argwhere(of_scan()).tolist() == [[2, 3]]
    await force.settings.close()


async def test_a_disk_that_hangs_holds_up_nobody_and_one_thread_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = list[Path](), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hangs(path: Path) -> Mask:
        asked.append(path)
        asyncio.run_coroutine_threadsafe(answer.wait(), loop).result(10.0)
        return mask_file.read_mask(path)

    monkeypatch.setattr(mask_files, "read_mask", hangs)
    monkeypatch.setattr(mask_files, "READ_S", 0.05)
    masks, optics = MaskFiles(), Optics(mask=str(a_mask(tmp_path)))
    for _ in range(3):
        with pytest.raises(RefusedError, match="does not answer"):
            await masks.read(optics)
    assert len(asked) == 1
    with pytest.raises(ConfigError, match="has not been read"):
        masks.kept(asked[0])
    answer.set()
    monkeypatch.setattr(mask_files, "READ_S", 10.0)
    await masks.read(optics)
    assert masks.kept(asked[0])[1, 2]


async def test_a_mask_that_is_not_there_at_the_start_is_an_error_until_it_is(
    tmp_path: Path,
) -> None:
    force, troubles = InForce(tmp_path), Troubles("cam", Hub())
    path = a_mask(tmp_path)
    await force.settings.prepare({"optics.mask": str(path)})
    force.settings.change({"optics.mask": str(path)})
    force.settings.masks = MaskFiles()  # as after a restart
    path.unlink()
    await read_mask(force.settings, troubles)
    assert "mask.npy: No such file" in (troubles.message("mask") or "")
    a_mask(tmp_path)
    await read_mask(force.settings, troubles)
    assert troubles.message("mask") is None
    await force.settings.close()
