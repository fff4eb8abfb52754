"""The worked examples of CONTRIBUTING: packages of their own, as the pages tell to make them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import tomli

from tests.conftest import wait_until
from tests.daemon.running import RunningDaemon

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r'```\w+ title="([\w.]+)"\n(.*?)```', re.DOTALL)
LONGEST = {"add-a-camera": 150, "add-an-engine": 80, "add-a-sink": 80}


class Site:
    """A folder on the path with the packages of all three pages, installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for page in LONGEST:
            files = dict(BLOCK.findall((HOW_TO / f"{page}.md").read_text()))
            project = tomli.loads(files.pop("pyproject.toml"))["project"]
            for name, text in files.items():
                (folder / name).write_text(text)
            info = folder / f"{project['name'].replace('-', '_')}-1.0.dist-info"
            info.mkdir()
            about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n"
            (info / "METADATA").write_text(about)
            lines = []
            for group, entries in project["entry-points"].items():
                lines += [f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())]
            (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}

    def stemd(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "stemd", *arguments],
            capture_output=True, text=True, env=self.environment, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def test_the_examples_are_short():
    for page, most in LONGEST.items():
        files = dict(BLOCK.findall((HOW_TO / f"{page}.md").read_text()))
        (code,) = (text for name, text in files.items() if name.endswith(".py"))
        assert len(code.splitlines()) < most, page


def test_all_three_are_found_and_can_be_used(site):
    rows = json.loads(site.stemd("plugins", "--json"))
    found = {(row["kind"], row["name"]): row["unavailable"] for row in rows}
    for name in (("adapter", "quicksilver"), ("engine", "deflection"), ("sink", "influx")):
        assert found[name] is None


def test_the_engine_shows_how_far_patterns_are_deflected(site, tmp_path):
    patterns = np.zeros((6, 32, 32), np.uint16)
    for n, (y, x) in enumerate([(16, 16), (16, 18), (13, 16), (19, 20), (16, 16), (16, 16)]):
        patterns[n, y, x] = 7
    np.save(tmp_path / "scan.npy", patterns)
    site.stemd(
        "process", str(tmp_path / "scan.npy"), "--scan", "2x3", "--out", str(tmp_path / "out"),
        "--engine", "deflection:longest_mrad=2", "--optics", "pixel_size_mrad=0.5,center=[16,16]",
    )  # fmt: skip
    image = tifffile.imread(tmp_path / "out" / "scan" / "deflection.tif")
    np.testing.assert_allclose(image, [[0.0, 1.0, 1.5], [2.0, 0.0, 0.0]], rtol=1e-6)


CONFIG = """
[daemon]
instrument = "rig"
data_dir = @DATA@

[[sink]]
type = "influx"
port = {influx}

[[pipeline]]
name = "quicksilver"

[pipeline.adapter]
type = "quicksilver"
host = "127.0.0.1"
port = {camera}
scan = {{ shape = [16, 16], flyback = 1 }}

[pipeline.optics]
pixel_size_mrad = 0.5

[[pipeline.engine]]
type = "deflection"

[pipeline.record]
raw = true
"""


def test_camera_engine_and_sink_work_together_live_and_from_the_record(site, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as influx:
        influx.bind(("127.0.0.1", 0))
        influx.settimeout(60.0)
        camera = subprocess.Popen(
            [
                *(sys.executable, "-m", "stemd", "virtual", "quicksilver", "--scan", "16x16"),
                *("--flyback", "1", "--detector", "32x32", "--rate", "2000"),
                *("--port", "0", "--json"),
            ],
            stdout=subprocess.PIPE, text=True, env=site.environment,
        )  # fmt: skip
        daemon: RunningDaemon | None = None
        try:
            assert camera.stdout is not None
            port = json.loads(camera.stdout.readline())["data_port"]
            text = CONFIG.format(influx=influx.getsockname()[1], camera=port)
            daemon = RunningDaemon(tmp_path, text, site.environment)
            said = influx.recv(4096).decode()
            wait_until(lambda: bool(daemon and daemon.scans()), "scan.json is there")
            assert daemon.stop() == 0
        finally:
            camera.kill()
            camera.communicate()
            if daemon is not None:
                daemon.close()
    assert said.startswith("scan,instrument=rig,pipeline=quicksilver,status=complete ")
    assert "positions=256i,missing=0i" in said
    record = next(daemon.data_dir.rglob("raw.qsf"))
    out = tmp_path / "again"
    site.stemd(
        "process", str(record), "--scan", "16x16", "--flyback", "1", "--out", str(out),
        "--engine", "deflection", "--optics", "pixel_size_mrad=0.5",
    )  # fmt: skip
    again = tifffile.imread(next(out.rglob("deflection.tif")))
    np.testing.assert_array_equal(again, tifffile.imread(record.with_name("deflection.tif")))
    assert again.std() > 0.0
