"""A frame camera of somebody else: all that its contributor writes, here as a package of its own.

A Quicksilver is made up. Its messages are a header of 32 bytes, big-endian, and the pixels: words
of 16 bits, little-endian, row after row from the top. Frames of an acquisition count from 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.binary import BinaryCamera, BinarySettings, frame_camera
from stemd.adapters.frames.format import FrameLayout, plain_layout
from stemd.adapters.frames.settings import Port

NAME = "quicksilver"
HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("number", ">u4"),
        ("height", ">u2"),
        ("width", ">u2"),
        ("bits", ">u2"),
        ("reserved", ">u2"),
        ("time_ns", ">u8"),
        ("exposure_ns", ">u8"),
    ]
)


class QuicksilverSettings(BinarySettings):
    """The config table: `port` is where the camera sends its frames."""

    port: Port = 7707


def layout(header: np.void) -> FrameLayout:
    """What follows this header. Raises FormatError for a size that no frame has."""
    shape = int(header["height"]), int(header["width"])
    return plain_layout(HEADER.itemsize, shape, "u2", depth=int(header["bits"]), big_endian=False)


def encode(pattern: NDArray[np.unsignedinteger], index: int) -> bytes:
    """The message of frame `index` of an acquisition, from 0."""
    header = np.zeros(1, HEADER)
    header["magic"], header["number"], header["bits"] = b"QSF1", index + 1, 14
    header["height"], header["width"] = pattern.shape
    header["time_ns"], header["exposure_ns"] = 1_000_000 * index, 950_000
    return header.tobytes() + pattern.astype("<u2").tobytes()


CAMERA = BinaryCamera(
    name=NAME,
    header=HEADER,
    magic=b"QSF1",
    layout=layout,
    encode=encode,
    suffix=".qsf",
    varies=("time_ns",),
    first_number=1,
)
PLUGIN = frame_camera(CAMERA, QuicksilverSettings, "Quicksilver frame camera, and its .qsf files")
