"""`stemd run` on a Merlin camera that is a piece of memory: no other process, no other copy.

`python -m benchmarks.page daemon CONFIG`. The adapter, its decoder and all behind them are
those of a real camera; only the socket is replaced. `preadv` from a file in memory does what
`recvmsg_into` does: the kernel copies into the same views while the interpreter's lock is free.
What it does not do is wait, so the reader's thread is always busy: the hardest case for whatever
else wants the interpreter.

The reader's thread has the first processor for itself; the event loop, the engines and, since
they are started with the same mask, the viewers have the second one.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stemd.adapters import connection
from stemd.adapters.frames import adapter
from stemd.adapters.merlin.encoder import Batch, Camera, encode_hdr, message
from stemd.adapters.sockets import Receiver
from stemd.config.file import load
from stemd.daemon.supervisor import Daemon
from stemd.logs import set_up_logs
from stemd.scan import run as scan_run

READER, OTHERS = {0}, {1}
"""Processors of the reader's thread, and of everything else."""
LAP_FRAMES = 64
"""Different patterns: 8 MiB of them do not stay in the second-level cache."""


class MemoryCamera(Receiver):
    """Endless acquisitions of `frames` frames; nothing comes by the socket that is connected."""

    def __init__(self, connected: socket.socket, frames: int, side: int) -> None:
        super().__init__(connected)
        self.patient = True
        self._frames = frames
        self._camera = Camera((side, side))
        batch = self._batch = Batch(self._camera, LAP_FRAMES)
        rng = np.random.default_rng(1)
        middle = (side - 1) / 2
        y, x = np.mgrid[0:side, 0:side] - middle
        for index in range(LAP_FRAMES):
            angle = 2 * np.pi * index / LAP_FRAMES
            disc = np.hypot(y - 4 * np.sin(angle), x - 4 * np.cos(angle)) < side * 0.16
            batch.put(index, rng.poisson(2.0 + 20.0 * disc).astype(np.uint16))
        self._file = os.memfd_create("lap")
        os.ftruncate(self._file, batch.bytes.size)
        lap = np.frombuffer(mmap.mmap(self._file, batch.bytes.size), np.uint8)
        lap[:] = batch.bytes
        batch.bytes = lap  # from now on frames are numbered where they are read from
        self._hdr = b""
        self._first = frames  # frame of the acquisition that the lap begins with
        self._at = batch.bytes.size
        os.sched_setaffinity(0, READER)
        sys.stdout.write(json.dumps({"reader": threading.get_native_id()}) + "\n")
        sys.stdout.flush()

    def wait(self) -> bool:
        """There is always something to read."""
        return True

    def receive(self, views: Sequence[memoryview]) -> int:
        """Bytes received into `views` in order, at most to the end of the lap."""
        if self._hdr:
            part, self._hdr = self._hdr[: len(views[0])], self._hdr[len(views[0]) :]
            views[0][: len(part)] = part
            return len(part)
        if self._at == self._batch.bytes.size:
            self._at = 0
            if self._first >= self._frames:
                self._first = 0
                self._hdr = message(encode_hdr(self._camera, self._frames))
            self._batch.stamp(np.arange(self._first, self._first + LAP_FRAMES) + 1)
            self._first += LAP_FRAMES
            if self._hdr:
                return self.receive(views)
        count = os.preadv(self._file, views, self._at)
        self._at += count
        return count


def elsewhere(work: Callable[..., object]) -> Callable[..., object]:
    """`work` on the processor of the others, though the reader's thread has started it."""

    def run(*args: object, **named: object) -> object:
        os.sched_setaffinity(0, OTHERS)
        return work(*args, **named)

    return run


def run(config_file: Path) -> None:
    """Be the daemon until SIGTERM."""
    config = load(config_file)
    set_up_logs("error")
    (pipeline,) = config.pipelines
    scan = pipeline.adapter.scan
    assert scan is not None
    side = int(os.environ["STEMD_BENCH_SIDE"])
    pair = socket.socketpair()
    connection.connect = lambda *_: pair[0]  # type: ignore[attr-defined]
    adapter.StreamAdapter.receiver = lambda _, connected, __: MemoryCamera(  # type: ignore[assignment,method-assign]
        connected, scan.frames, side
    )
    scan_run.ScanRun.serve = elsewhere(scan_run.ScanRun.serve)  # type: ignore[assignment,method-assign]
    os.sched_setaffinity(0, OTHERS)

    async def serve() -> None:
        await Daemon(config, lambda: load(config_file)).run()

    asyncio.run(serve())
    sys.stdout.flush()
    os._exit(0)
