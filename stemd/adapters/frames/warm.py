"""Compiling the live decoder's kernels before a camera's first frame needs them."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.frames.decoder import MerlinDecoder
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from stemd.blocks import BlockPool, FrameBlock


def warm_up() -> None:
    """Decode a one-frame scan, plain and packed; seconds where numba's cache is empty."""
    for camera in (Camera((2, 2), 12), Camera((1, 256), 1, raw=True)):
        dark = np.zeros(camera.shape, np.uint32)
        data = memoryview(message(encode_hdr(camera, 1)) + message(encode_frame(dark, camera, 1)))
        decoder = MerlinDecoder(BlockPool(1, 1), Scan(shape=(1, 1), flyback=0))
        while data:
            view = decoder.wants()[0]
            size = min(len(view), len(data))
            view[:size] = data[:size]
            data = data[size:]
            for item in decoder.fed(size, 0):
                if isinstance(item, FrameBlock):
                    item.release()
