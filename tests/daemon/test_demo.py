"""`stemd demo`: what a new user runs first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemd.cli.main import main
from stemd.storage.folder import SCAN_FILE


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_scans_end_complete_true_to_the_specimen_and_reproducible(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    command = [sys.executable, "-m", "stemd", "demo", "--scans", "2", "--no-page"]
    command += ["--data-dir", str(data), "--mqtt-port", "0", "--scan", "96x128"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mqtt://127.0.0.1:" in done.stdout
    assert "Traceback" not in done.stderr

    listed = subprocess.run(
        [sys.executable, "-m", "stemd", "scans", "--data-dir", str(data), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [scan["status"] for scan in json.loads(listed.stdout)] == ["complete", "complete"]

    truth = tifffile.imread(data / "truth" / "ricom.tif")
    folders = sorted(path.parent for path in data.glob(f"*/*/{SCAN_FILE}"))
    assert len(folders) == 2
    for folder in folders:
        ricom = tifffile.imread(folder / "ricom.tif")
        assert ricom.shape == truth.shape == (96, 128)
        assert np.corrcoef(ricom.ravel(), truth.ravel())[0, 1] > 0.9
        out = tmp_path / "again" / folder.name
        raw, config = str(folder / "raw.mib"), str(data / "demo.toml")
        assert main(["process", raw, "--config", config, "--out", str(out)]) == 0
        images = list((out / "raw").glob("*.tif"))
        assert {path.name for path in images} == {path.name for path in folder.glob("*.tif")}
        for path in images:
            live, again = tifffile.imread(folder / path.name), tifffile.imread(path)
            # airpi's too: what a busy machine had no time for has come from the record
            assert again.tobytes() == live.tobytes(), path.name
        weight = tifffile.imread(folder / "airpi_weight.tif")
        assert (weight[10:-10, 10:-10] > 0).all(), "all but the rim was seen"
