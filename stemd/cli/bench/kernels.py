"""Kernels alone, on data that comes from memory: moments, unpacking, riCOM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import BLOCK_BYTES, FrameBlock, aligned
from stemd.cli.bench.harness import Case, Context, Row, repeat
from stemd.cli.bench.limits import PARTS, memory_read, memory_reader
from stemd.engines.base import PositionMaps
from stemd.engines.kernels.ricom import add_positions, padded, ricom_kernel
from stemd.engines.reduction import Reducer

MOMENT_BYTES = 256 * 1024**2
HEADER = 384

KINDS = {
    "u8": ("u1", False),
    "u16-native": ("u2", False),
    "u16-big-endian": ("u2", True),
    "u32-big-endian": ("u4", True),
}
DETECTORS = {
    0: {},
    1: {"adf": (0.17, 0.47)},
    4: {"bf": (0.0, 0.16), "abf": (0.08, 0.16), "adf": (0.17, 0.3), "haadf": (0.3, 0.47)},
}


def block_of(dtype: str, big_endian: bool, size: int, total_bytes: int) -> FrameBlock:
    """One block of Merlin-like frames, `total_bytes` of memory, Poisson counts."""
    frame_bytes = size * size * int(dtype[1])
    stride = HEADER + frame_bytes
    count = max(4, total_bytes // stride)
    order = ">" if big_endian else "<"
    pattern = np.random.default_rng(1).poisson(9.0, size * size).astype(order + dtype)
    wire = aligned(count * stride)
    wire[:] = 0
    wire.reshape(count, stride)[:, HEADER:] = pattern.view(np.uint8)
    acquisition = Acquisition(Scan(shape=(1, count)), Detector("b", (size, size), dtype, 0))
    return FrameBlock(
        acquisition=acquisition,
        pixels=wire,
        pixel_offset=HEADER,
        stride=stride,
        count=count,
        shape=(size, size),
        dtype=dtype,  # type: ignore[arg-type]
        big_endian=big_endian,
        sequence=np.arange(count),
        probe=np.arange(count),
        wire=wire,
        received_ns=0,
    )


def moments(kind: str, size: int, detectors: int, context: Context) -> Iterator[Row]:
    """The reduction over a block much larger than the caches, one thread."""
    dtype, big_endian = KINDS[kind]
    blocks = [block_of(dtype, big_endian, size, MOMENT_BYTES // PARTS) for _ in range(PARTS)]
    block = blocks[0]
    radii = {name: (a * size, b * size) for name, (a, b) in DETECTORS[detectors].items()}
    maps = PositionMaps(block.acquisition, tuple(radii))
    center = ((size - 1) / 2, (size - 1) / 2)
    reducer = Reducer(block.acquisition, Optics(center=center), maps, radii)
    timing, limit = memory_reader(context).beside(
        lambda part: reducer.reduce(blocks[part]), context.seconds, PARTS
    )
    frame_bytes = size * size * int(dtype[1])
    name = f"moments/{kind}/{size}" + (f"+{detectors}-detectors" if detectors else "")
    yield Row.timed(name, block.count, "frames/s", timing, limit / frame_bytes, "memory/read")


def unpack(depth: int, context: Context) -> Iterator[Row]:
    """R64 raw frames of a single chip into pixels, one thread, in blocks as they come."""
    from stemd.adapters.merlin.encoder import Camera, encode_frame
    from stemd.adapters.merlin.packing import unpack_frames

    kind = Camera(shape=(256, 256), depth=depth, raw=True)
    geometry = kind.geometry()
    top = min(2**depth - 1, 4095)
    pattern = np.random.default_rng(2).integers(0, top, (256, 256), endpoint=True)
    frame = np.frombuffer(encode_frame(pattern.astype(np.uint16), kind, 1), np.uint8)
    count = max(1, BLOCK_BYTES // (geometry.frame_bytes + geometry.unpacked_bytes))
    parts = MOMENT_BYTES // (count * frame.size) // 2
    wires = np.tile(frame, (parts, count)).reshape(parts, -1)
    out = np.zeros(count * geometry.unpacked_bytes, np.uint8)
    timing = repeat(
        lambda part: unpack_frames(wires[part], geometry, count, out), context.seconds, parts
    )
    traffic = geometry.frame_bytes + geometry.unpacked_bytes
    limit = memory_read(context) / traffic
    name = f"unpack/r64-{depth}/256"
    what = "memory/read of packed and unpacked bytes"
    yield Row.timed(name, count, "frames/s", timing, limit, what)


def ricom(size: int, context: Context) -> Iterator[Row]:
    """Adding positions to a 256 x 256 image, one thread."""
    shape = (256, 256)
    kernel_y, kernel_x = (padded(part) for part in ricom_kernel(size))
    vectors = np.random.default_rng(0).normal(size=(2, shape[0] * shape[1])).astype(np.float32)
    image = np.zeros(shape, np.float32)
    first, stop = 120 * 256, 136 * 256

    def call(part: int) -> None:
        add_positions(
            image,
            kernel_y,
            kernel_x,
            first,
            stop,
            vectors[0, first:stop],
            vectors[1, first:stop],
        )

    timing = repeat(call, context.seconds)
    yield Row.timed(f"ricom/{size}", stop - first, "positions/s", timing)


def cases() -> dict[str, Case]:
    """All kernel cases by name."""
    found: dict[str, Case] = {}

    def add(name: str, call: Callable[[Context], Iterator[Row]]) -> None:
        found[name] = call

    for kind in KINDS:
        for size in (256, 512):
            for detectors in DETECTORS:
                suffix = f"+{detectors}-detectors" if detectors else ""
                add(f"moments/{kind}/{size}{suffix}", partial(moments, kind, size, detectors))
    for depth in (1, 6, 12, 24):
        add(f"unpack/r64-{depth}/256", partial(unpack, depth))
    for size in (21, 61, 101):
        add(f"ricom/{size}", partial(ricom, size))
    return found
