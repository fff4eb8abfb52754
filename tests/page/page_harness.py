"""A hub fed with a synthetic scan that grows, for the page's tests and for looking at the page.

Run `python tests/page/page_harness.py [PORT]` and open the address it prints.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan, new_scan_id
from stemd.config.page import PageSettings
from stemd.events import Hub
from stemd.page.replays import ConfigOf
from stemd.page.server import Page
from stemd.results import Result, Snapshot
from stemd.storage.tiff import write_tiff

Image = NDArray[np.float32]
STEP_ANGSTROM = 0.2
PATTERN_MRAD = 0.5


def potential(ny: int, nx: int) -> NDArray[np.float64]:
    """A perovskite-like lattice with an edge dislocation, a particle and a hole, 0..1 (y, x)."""
    y, x = np.mgrid[0:ny, 0:nx] * STEP_ANGSTROM
    size = nx * STEP_ANGSTROM
    cell = 3.905
    # an extra half plane that ends in the core: displacement b/(2 pi) * angle along x
    core_y, core_x = ny * STEP_ANGSTROM * 0.62, size * 0.36
    shift = cell / (2 * np.pi) * np.arctan2(y - core_y, x - core_x)
    total = np.zeros((ny, nx))
    for offset_y, offset_x, weight, width in (
        (0.0, 0.0, 1.0, 0.42),
        (0.5, 0.5, 0.62, 0.36),
        (0.5, 0.0, 0.2, 0.3),
        (0.0, 0.5, 0.2, 0.3),
    ):
        u = (((x + shift) / cell + offset_x + 0.5) % 1 - 0.5) * cell
        v = ((y / cell + offset_y + 0.5) % 1 - 0.5) * cell
        total += weight * np.exp(-(u**2 + v**2) / (2 * width**2))
    far = np.hypot(y - ny * STEP_ANGSTROM * 0.3, x - size * 0.72) / (size * 0.17)
    particle = 1 / (1 + np.exp((far - 1) * 12))
    u, v = 2.2 * (0.8 * x + 0.6 * y), 2.2 * (-0.6 * x + 0.8 * y)
    columns = ((1 + np.cos(u)) * (1 + np.cos(v)) / 4) ** 2
    total = total * (1 - 0.8 * particle) + 1.1 * particle * columns
    hole = 1 / (1 + np.exp(-(np.hypot(y, x - size * 0.12) - size * 0.16) / 0.6))
    return total * hole / total.max()


def high_pass(image: NDArray[np.float64], cycles: float) -> NDArray[np.float64]:
    """Without the lowest spatial frequencies (cycles an image width)."""
    ky = np.fft.fftfreq(image.shape[0])[:, None] * image.shape[0]
    kx = np.fft.fftfreq(image.shape[1])[None, :] * image.shape[1]
    keep = 1 - np.exp(-(ky**2 + kx**2) / (2 * cycles**2))
    return np.fft.ifft2(np.fft.fft2(image) * keep).real


def pattern(side: int, rng: np.random.Generator | None) -> Image:
    """A convergent-beam pattern: bright disc with overlapping faint discs; counts."""
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2.0
    radius = side * 0.16
    disc = lambda cy, cx: 1 / (1 + np.exp(np.hypot(y - cy, x - cx) - radius))  # noqa: E731
    image = 60.0 * disc(0, 0) + 1.2 * np.exp(-np.hypot(y, x) / (side * 0.13))
    for turn in range(8):
        far = side * (0.22 if turn % 2 == 0 else 0.31)
        angle = turn * np.pi / 4
        phase = 1.0 + 0.5 * np.cos(turn + (x + y) / 9)
        image += (
            (7.0 if turn % 2 == 0 else 3.0) * phase * disc(far * np.sin(angle), far * np.cos(angle))
        )
    if rng is not None:
        image = rng.poisson(image).astype(np.float64)
    return image.astype(np.float32)


@dataclass
class Microscope:
    """Everything a daemon with one pipeline would tell the hub."""

    shape: tuple[int, int] = (64, 64)
    pipeline: str = "merlin"
    hub: Hub = field(default_factory=Hub)
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    seed: int = 1

    def __post_init__(self) -> None:
        self.revision = 3
        self.sequence = 0
        self.settings: dict[str, Any] = {
            "optics": {"rotation_deg": 0.0, "flip": False, "center": "auto"},
            "ricom": {"kernel_size": 61, "band_pass": None},
            "virtual_detector": {"detectors": {"bf": [0.0, 10.0], "adf": [13.0, 27.0]}},
            "scan": {"shape": list(self.shape), "step_size_angstrom": STEP_ANGSTROM},
            "publish": {"rate_hz": 10.0},
            "record": {"raw": True},
        }
        self.hub.handler = self.handle
        self.images = self.make_images()
        self.new_scan()

    def make_images(self) -> dict[str, tuple[Image, str]]:
        rng = np.random.default_rng(self.seed)
        ny, nx = self.shape
        truth = potential(ny, nx)
        cycles = max(2.0, 160.0 / self.settings["ricom"]["kernel_size"])
        gy, gx = np.gradient(truth)
        com_y, com_x = (g * 3 + rng.normal(0, 0.03, g.shape) for g in (gy, gx))
        dose = 60.0
        adf = rng.poisson(dose * (0.04 + truth**1.6)).astype(np.float64)
        bf = rng.poisson(9 * dose * (1 - 0.35 * truth)).astype(np.float64)
        images = {
            "ricom": (high_pass(truth + rng.normal(0, 0.04, truth.shape), cycles), "px*px"),
            "adf": (adf, "counts"),
            "bf": (bf, "counts"),
            "com_y": (com_y, "px"),
            "com_x": (com_x, "px"),
            "field_magnitude": (np.hypot(com_y, com_x), "px"),
            "field_direction": (np.arctan2(-com_y, com_x), "rad"),
            "sum": (adf + bf + rng.poisson(200.0, truth.shape), "counts"),
        }
        return {name: (image.astype(np.float32), units) for name, (image, units) in images.items()}

    def new_scan(self) -> None:
        ny, nx = self.shape
        scan = Scan(shape=(ny, nx), flyback=0, step_size_angstrom=STEP_ANGSTROM)
        detector = Detector("virtual", (128, 128), "u2", 12)
        self.acquisition = Acquisition(scan, detector, id=new_scan_id())
        self.done = 0

    def snapshot(self, done: int, *, final: bool = False) -> Snapshot:
        """The images after `done` positions, 0 beyond."""
        self.sequence += 1
        self.done = done
        results = []
        for name, (image, units) in self.images.items():
            grown = image.copy()
            grown.reshape(-1)[done:] = 0
            extra = {"center": [63.5, 63.5]}
            results.append(Result(name, grown, units, "scan", STEP_ANGSTROM, extra))
        rng = np.random.default_rng(self.sequence)
        for name, image in (("pattern", pattern(128, rng)), ("pacbed", pattern(128, None))):
            results.append(Result(name, image, "counts", "detector", PATTERN_MRAD))
        total = self.acquisition.scan.positions
        return Snapshot(
            self.acquisition, results, done, total, final, self.sequence, 10**18, self.revision
        )

    def tell_state(self, state: str, **more: Any) -> None:
        total = self.acquisition.scan.positions
        document = {
            "state": state,
            "scan": self.acquisition.id,
            "positions_done": self.done,
            "positions_total": total,
            "missing": 0,
            "positions_per_second": 21834.0 if state == "acquiring" else 0.0,
            "bytes": self.done * 131072,
            "last_error": None,
            "errors": [],
        }
        self.hub.state(self.pipeline, document | more)

    def tell_settings(self) -> None:
        self.hub.settings(self.pipeline, {"revision": self.revision, **self.settings})

    def grow(self, done: int) -> None:
        """Publish the scan as it is after `done` positions."""
        final = done >= self.acquisition.scan.positions
        self.hub.snapshot(self.pipeline, self.snapshot(done, final=final))
        self.tell_state("finishing" if final else "acquiring")

    async def handle(self, pipeline: str, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the daemon's control does: apply all or nothing, and answer."""
        self.requests.append((pipeline, kind, dict(request)))
        change = {key: value for key, value in request.items() if key != "id"}
        kernel = change.get("ricom", {}).get("kernel_size", 61)
        if kind == "settings" and kernel % 2 == 0:
            error = {
                "key": "ricom.kernel_size",
                "message": "the kernel size must be odd",
                "allowed": "3, 5, 7 … 255",
            }
            return {"id": request.get("id"), "ok": False, "error": error}
        if kind == "settings":
            self.settings = merged(self.settings, change)
            self.revision += 1
            self.images = self.make_images()
            self.tell_settings()
            self.hub.snapshot(self.pipeline, self.snapshot(self.done))
        return {"id": request.get("id"), "ok": True, "revision": self.revision}

    def keep(self, data_dir: Path, status: str = "complete", **more: Any) -> None:
        """Write the scan as a finished one into the data folder."""
        scan_id = self.acquisition.id
        day = f"{scan_id[:4]}-{scan_id[4:6]}-{scan_id[6:8]}"
        folder = data_dir / day / scan_id
        folder.mkdir(parents=True)
        total = self.acquisition.scan.positions
        document = {
            "id": scan_id,
            "status": status,
            "pipeline": self.pipeline,
            "scan": {"shape": list(self.shape)},
            "positions_total": total,
            "positions_done": total,
            "missing": 0,
            "settings": self.settings,
            "about": {"sample": "Gold", "operator": "Zoë", "comment": "", "tags": ["night"]},
        }
        (folder / "scan.json").write_text(json.dumps(document | more))
        (folder / "raw.mib").write_bytes(b"MQ1," + bytes(2000))
        snapshot = self.snapshot(total, final=True)
        for result in snapshot.results:
            write_tiff(folder / f"{result.name}.tif", result, snapshot, self.settings)

    def page(
        self, data_dir: Path, config_of: ConfigOf = lambda pipeline: None, **settings: Any
    ) -> Page:
        """The page on this hub, on any free port unless told otherwise."""
        return Page(
            PageSettings(**({"listen": "127.0.0.1:0"} | settings)),
            self.hub,
            "titan-x-ant",
            data_dir,
            lambda: (True, {"ok": True, "pipelines": {self.pipeline: "acquiring"}}),
            lambda: b"# TYPE stemd_frames_total counter\nstemd_frames_total 42\n",
            config_of,
        )

    async def serve(self, page: Page) -> str:
        """Start the page as a daemon does; its URL."""
        await page.start()
        self.hub.add(page, "page")
        assert page.url is not None
        return page.url


@dataclass
class Shown:
    """A page that is being served, and the microscope behind it."""

    scope: Microscope
    page: Page
    url: str
    data_dir: Path

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` laid over `old`, level by level."""
    result = dict(old)
    for key, value in new.items():
        inner = old.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        result[key] = merged(inner, value) if both and inner is not None else value
    return result


async def main(port: int) -> None:
    """Scan for ever."""
    scope = Microscope(shape=(256, 256))
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        for _ in range(3):
            scope.keep(data_dir)
            scope.new_scan()
        page = scope.page(data_dir, listen=f"127.0.0.1:{port}")
        url = await scope.serve(page)
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        scope.tell_settings()
        scope.hub.healthy(
            {
                "frames_per_second": 21834.0,
                "queue": {"blocks_free": 118, "blocks": 128, "dropped": 0},
                "lag_ms": 4.2,
                "memory_bytes": 412 * 2**20,
                "disk_free_bytes": 812 * 2**30,
                "last_frame_age_s": 0.01,
            }
        )
        while True:
            scope.new_scan()
            scope.hub.document(scope.pipeline, {"event": "started", "id": scope.acquisition.id})
            for line in range(4, 257, 2):
                scope.grow(line * 256)
                await asyncio.sleep(0.1)
            scope.hub.document(scope.pipeline, {"event": "finished", "id": scope.acquisition.id})
            scope.tell_state("waiting")
            await asyncio.sleep(3)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8440))
