"""Compiling the live decoder's kernels before a camera's first frame needs them."""

from __future__ import annotations

from stemd.acquisition import Scan
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.frames.format import FrameFormat
from stemd.blocks import BlockPool, FrameBlock


def warm_up(camera: FrameFormat) -> None:
    """Decode the samples of a format; takes seconds where numba's cache is empty."""
    for sample in camera.samples():
        data = memoryview(sample)
        decoder = FrameDecoder(camera, BlockPool(1, 1), Scan(shape=(1, 1), flyback=0))
        while data:
            view = decoder.wants()[0]
            size = min(len(view), len(data))
            view[:size] = data[:size]
            data = data[size:]
            for item in decoder.fed(size, 0):
                if isinstance(item, FrameBlock):
                    item.release()
        decoder.reset()
