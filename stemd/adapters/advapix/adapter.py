"""The live camera: the .t3p file that Pixet writes, followed while it grows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.advapix.records import RecordsFront
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.events.received import NO_SCAN, Received
from stemd.adapters.silence import Silence
from stemd.blocks import BlockPool, Link, Message
from stemd.errors import CameraError, ConfigError

LOOK_S = 0.01
"""How often a file that has been read to its end is looked at again."""


def make_front(settings: AdvapixSettings) -> RecordsFront:
    """The first half of the decoder as these settings want it."""
    return RecordsFront(
        settings.detector_layout,
        back_limit_us=settings.back_limit_ms * 1000.0,
        window_us=settings.reorder_window_us,
        clock_bits=settings.counter_bits,
        record_bytes=settings.record_bytes,
    )


class AdvapixAdapter:
    """Follows one file; a file that is made anew, or is shorter than before, begins again."""

    def __init__(self, settings: AdvapixSettings) -> None:
        if settings.path is None:
            raise ConfigError(
                "the advapix adapter needs the file that Pixet writes",
                "set path in the adapter's settings",
            )
        self._settings = settings
        self._path: Path = settings.path
        self._scan = settings.scan
        self._decoder: EventDecoder | None = None
        self._closing = threading.Event()
        self._received = Received()
        self.no_frames = NO_SCAN

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """See `adapters.base.Adapter`."""
        told = False
        while not (stop.is_set() or self._closing.is_set()):
            try:
                descriptor = os.open(self._path, os.O_RDONLY)
            except OSError as error:
                if not told:
                    told = True
                    yield Link(
                        False,
                        f"{self._path} cannot be read: {error.strerror}",
                        "stemd waits for Pixet to write it",
                    )
                stop.wait(0.2)
                continue
            told = False
            yield Link(True, f"following {self._path}")
            try:
                yield from self._follow(descriptor, pool, stop)
            finally:
                os.close(descriptor)
            yield Link(False, f"{self._path} has begun again or is gone")

    def _follow(self, descriptor: int, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        decoder = self._decoder = EventDecoder(
            self._settings,
            make_front(self._settings),
            pool,
            scan=self._scan,
            name="AdvaPix",
            source=str(self._path),
            raw_name="raw.t3p",
        )
        try:
            yield from self._decode(descriptor, decoder, stop)
        finally:
            decoder.close()

    def _decode(
        self, descriptor: int, decoder: EventDecoder, stop: threading.Event
    ) -> Iterator[Message]:
        position = 0
        self._received.began()
        silence = Silence(self._settings, "hit", stops=False)
        waiting = False
        while not (stop.is_set() or self._closing.is_set()):
            count = os.readv(descriptor, decoder.wants())
            if count:
                position += count
                silence.broken()
                waiting = True
                yield from decoder.fed(count, time.time_ns())
                self._received.came(count, decoder.garbage_bytes, decoder.scans)
                continue
            if waiting:
                yield from decoder.flush(time.time_ns(), eof=False)
                waiting = False
            scan = decoder.acquisition
            if (scan is not None or decoder.undecided) and (
                yield from silence.lasts(scan, at_the_end=decoder.at_the_end)
            ):
                yield from decoder.finish("idle", time.time_ns())
            if self._replaced(descriptor, position):
                yield from decoder.flush(time.time_ns(), eof=True)
                return
            stop.wait(LOOK_S)
        yield from decoder.flush(time.time_ns(), eof=False)
        yield from decoder.finish("stopped", time.time_ns())

    def _replaced(self, descriptor: int, position: int) -> bool:
        mine = os.fstat(descriptor)
        if mine.st_size < position:
            return True
        try:
            there = self._path.stat()
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    @property
    def received_bytes(self) -> int:
        """See `adapters.base.Receives`."""
        return self._received.bytes

    def set_scan(self, scan: Scan) -> None:
        """See `adapters.base.Adapter`."""
        self._scan = scan
        if self._decoder is not None:
            self._decoder.set_scan(scan)

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file cannot be commanded."""
        raise CameraError(
            f"the camera cannot be told to {name}: stemd only follows {self._path}",
            "start and stop the measurement in Pixet",
        )

    def close(self) -> None:
        """Wake a blocked `read`: it looks every 0.2 s."""
        self._closing.set()
