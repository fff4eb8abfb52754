"""How long a scan takes, how fast it comes and how much it is, where nobody can mean it so."""

from __future__ import annotations

from collections.abc import Iterator

from stemd.acquisition import Scan
from stemd.adapters.frames.settings import FrameSettings
from stemd.config.resolved import PipelineConfig

MOST_FRAMES_PER_SECOND = 1e6
"""No camera that sends frames is near it."""
LONGEST_SCAN_S = 2 * 86400.0
MOST_IMAGE_BYTES_PER_SECOND = 1e9
"""Of all growing images together; what a broker takes is a tenth of it."""
LEAST_DWELL_US = 0.01
PUBLISHED_IMAGES = 4
"""As many as a pipeline usually has, where the config does not list them."""


def doubts(pipeline: PipelineConfig) -> list[str]:
    """Sentences about one pipeline, each with numbers."""
    scan = pipeline.adapter.scan
    if scan is None:
        return []
    return [
        *_time(pipeline, scan),
        *_lines(scan),
        *_kernels(pipeline, scan),
        *_sent(pipeline, scan),
    ]


def _time(pipeline: PipelineConfig, scan: Scan) -> Iterator[str]:
    dwell = scan.dwell_time_us
    if dwell is None:
        return
    frames = isinstance(pipeline.adapter, FrameSettings)
    if frames and 1e6 / dwell > MOST_FRAMES_PER_SECOND:
        yield (
            f"scan.dwell_time_us = {dwell:g} asks for {1e6 / dwell:,.0f} frames/s: "
            "no camera sends so many"
        )
    elif dwell < LEAST_DWELL_US:
        yield f"scan.dwell_time_us = {dwell:g} is shorter than what a camera can tell apart"
    taken_s = scan.line_frames * scan.lines * dwell / 1e6
    if taken_s > LONGEST_SCAN_S:
        yield (
            f"scan.dwell_time_us = {dwell:g}: a scan of {scan.size} takes "
            f"{taken_s / 86400:,.1f} days"
        )
    late_us = (pipeline.optics.acceptance_time_ns or 0.0) / 1e3
    if late_us > dwell:
        yield (
            f"optics.acceptance_time_ns = {late_us * 1e3:g} is longer than the dwell time of "
            f"{dwell * 1e3:g} ns: no electron is left out"
        )


def _lines(scan: Scan) -> Iterator[str]:
    ny, nx = scan.shape
    if scan.flyback_frames > nx:
        yield (
            f"scan.flyback = {scan.flyback_frames}: after each line of {nx} positions more frames "
            "are thrown away than it has"
        )
    if scan.leading > scan.positions:
        yield (
            f"scan.leading = {scan.leading}: more frames are left out before the scan than its "
            f"{scan.positions} positions"
        )
    if min(ny, nx) < 4 and max(ny, nx) > 1:
        what = "a line" if max(ny, nx) >= 4 else "a few positions"
        yield f"scan.shape = [{ny}, {nx}] is {what}, from which no image is integrated"


def _kernels(pipeline: PipelineConfig, scan: Scan) -> Iterator[str]:
    """riCOM's kernel and its band-pass, against the image they are laid on."""
    side = max(scan.shape)
    for engine in pipeline.engines:
        size = getattr(engine.settings, "kernel_size", None)
        if isinstance(size, int) and size > 2 * side:
            yield (
                f"engine {engine.name}: kernel_size = {size} is more than twice the scan of "
                f"{scan.shape[0]} x {scan.shape[1]}: it does the work of a kernel of {2 * side - 1}"
            )
        band = getattr(engine.settings, "band_pass", None)
        if band is not None and band[0] > side / 2**0.5:
            yield (
                f"engine {engine.name}: band_pass = [{band[0]:g}, {band[1]:g}] keeps nothing: "
                f"an image of {scan.shape[0]} x {scan.shape[1]} ends at {side / 2:g} waves a side"
            )


def _sent(pipeline: PipelineConfig, scan: Scan) -> Iterator[str]:
    images, rate = pipeline.publish.images, pipeline.publish.rate_hz
    count = PUBLISHED_IMAGES if images is None else len(images)
    size = 4 * scan.once.positions
    if rate * count * size > MOST_IMAGE_BYTES_PER_SECOND:
        yield (
            f"publish.rate_hz = {rate:g}: {count} images of {size / 1e6:,.0f} MB are "
            f"{rate * count * size / 1e9:,.1f} GB/s, of which a network takes the newest only; "
            "lower it, or list fewer publish.images"
        )
