"""A small recorded scan, and the pipeline that it was recorded with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.config.file import parse
from stemd.config.resolved import PipelineConfig

SHAPE = (24, 30)
CAMERA = Camera(shape=(32, 32))
CONFIG = """
[daemon]
instrument = "lab"
data_dir = "/nowhere"
[[pipeline]]
name = "merlin"
[pipeline.adapter]
type = "{adapter}"
[[pipeline.engine]]
type = "ricom"
kernel_size = 21
[[pipeline.engine]]
type = "virtual_detector"
detectors_px = {{ bf = [0.0, 9.0] }}
[[pipeline.engine]]
type = "icom"
"""


def pipeline_config(adapter: str = "merlin") -> PipelineConfig:
    return parse(CONFIG.format(adapter=adapter)).pipelines[0]


def patterns() -> np.ndarray[Any, Any]:
    """A disc that moves from pattern to pattern."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:32, 0:32] - 15.5
    shifts = rng.normal(0, 1.5, (SHAPE[0] * SHAPE[1], 2))
    return np.stack(
        [rng.poisson(40.0 * (np.hypot(y - dy, x - dx) < 8)) for dy, dx in shifts]
    ).astype(np.uint16)


def write_record(path: Path) -> Path:
    """The scan as the recorder leaves it."""
    path.write_bytes(b"".join(encode_frame(p, CAMERA, i + 1) for i, p in enumerate(patterns())))
    return path


def keep_record(data_dir: Path, scan_id: str) -> Path:
    """A scan folder with a record and no images."""
    folder = data_dir / f"{scan_id[:4]}-{scan_id[4:6]}-{scan_id[6:8]}" / scan_id
    folder.mkdir(parents=True)
    total = SHAPE[0] * SHAPE[1]
    document = {
        "id": scan_id,
        "status": "complete",
        "pipeline": "merlin",
        "started_ns": 10**18,
        "finished_ns": 10**18 + 7_000_000_000,
        "scan": {"shape": list(SHAPE), "flyback": 0},
        "positions_total": total,
        "positions_done": total,
        "missing": 0,
        "settings": {"ricom": {"kernel_size": 7}},
    }
    (folder / "scan.json").write_text(json.dumps(document))
    write_record(folder / "raw.mib")
    return folder
