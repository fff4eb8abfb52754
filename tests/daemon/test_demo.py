"""`stemd demo`: what a new user runs first."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pytest
import tifffile

from stemd.cli.demo import scanning
from stemd.cli.demo.progress import Watcher
from stemd.cli.main import main
from stemd.config.tables import RetentionTable
from stemd.storage.folder import SCAN_FILE
from tests import ordinary_priority
from tests.conftest import wait_until
from tests.daemon.running import compile_kernels


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_scans_end_complete_true_to_the_specimen_and_reproducible(tmp_path: Path) -> None:
    compile_kernels()
    data = tmp_path / "demo"
    command = [sys.executable, "-m", "stemd", "demo", "--scans", "2", "--no-page"]
    command += ["--data-dir", str(data), "--mqtt-port", "0", "--scan", "64x96"]
    environment = os.environ | ordinary_priority.environment(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
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
        assert ricom.shape == truth.shape == (64, 96)
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


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        (signal.SIGTERM, "starting the virtual microscope"),
        (signal.SIGINT, "getting ready"),
        (signal.SIGINT, "Ctrl-C ends."),
    ],
    ids=["microscope", "kernels", "scan"],
)
def test_ctrl_c_ends_the_demo_at_once_whatever_it_does(
    number: signal.Signals, stage: str, tmp_path: Path
) -> None:
    compile_kernels()
    command = [sys.executable, "-m", "stemd", "demo", "--no-page", "--mqtt-port", "0"]
    command += ["--data-dir", str(tmp_path), "--scan", "32x32", "--rate", "200"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while stage not in said:
            line = process.stdout.readline()
            assert line, (said, process.communicate(timeout=20.0))
            said += line
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        began = time.monotonic()
        rest, told = process.communicate(timeout=60.0)
        seconds = time.monotonic() - began
    assert process.returncode == 0
    assert "Traceback" not in told + rest
    assert seconds < 5.0, "two seconds, and some for a busy machine"
    _, alive = psutil.wait_procs(children, timeout=10.0)
    assert not alive, "microscope and broker end with it"


@pytest.mark.parametrize("stage", ["starting the virtual microscope", "getting ready"])
def test_a_killed_demo_takes_microscope_and_broker_with_it(stage: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stemd", "demo", "--no-page", "--mqtt-port", "0"]
    command += ["--data-dir", str(tmp_path), "--scan", "32x32", "--rate", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while stage not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        parent = psutil.Process(process.pid)
        wait_until(lambda: parent.children(recursive=True), "a microscope is there", 20.0)
        children = parent.children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=10.0)
    for child in alive:
        child.kill()
    assert not alive, "they hold ports, and a processor"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("--mqtt-port", value) for value in ("99999", "-1", "x")),
        ("--page-port", "70000"),
        *(("--rate", value) for value in ("nan", "-5")),
        *(("--dose", value) for value in ("0", "-1", "inf")),
        ("--defocus-nm", "inf"),
    ],
)
def test_what_the_demo_cannot_do_is_said_before_anything_is_started(
    argument: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--scans", "1", "--data-dir", str(tmp_path / "data"), f"{argument}={value}"])
    assert ended.value.code == 2
    assert f"stemd demo: error: argument {argument}: {value!r}" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


async def test_the_demo_says_once_why_no_scan_begins(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = ["it is busy", "it is busy", "no room"]

    class Refusing:
        async def request(self, *_: object) -> dict[str, object]:
            if not reasons:
                watcher.begun += 1
                return {"ok": True}
            return {"ok": False, "error": {"message": reasons.pop(0)}}

    ready, watcher = asyncio.Event(), Watcher(None)
    ready.set()
    watcher.state = {"state": "waiting", "camera_connected": True}
    with mock.patch.multiple(scanning, GAP_S=0.0, BEGINS_S=0.01, TOLD_AFTER_S=0.0):
        hub: Any = Refusing()
        await asyncio.wait_for(scanning.scan_by_scan(hub, ready, watcher, 1), 10.0)
    said = capsys.readouterr().out
    assert (said.count("it is busy"), said.count("no room")) == (1, 1)


def test_the_demo_s_config_keeps_its_last_scans_only() -> None:
    from stemd.cli.demo.setting import Ports, config_text
    from stemd.config.file import parse

    def retention(keep: int) -> RetentionTable:
        text = config_text(["virtual"], Ports(1, 2), (8, 8), Path("data"), None, keep)
        return parse(text, "demo.toml").daemon.retention

    assert retention(5) == RetentionTable(max_scans=5, delete="scan")
    assert retention(0) == RetentionTable()
