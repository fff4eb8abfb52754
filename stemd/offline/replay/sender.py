"""What a replay has to say: texts in order, and of each image that is looked at the newest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import IO, Any

from stemd import image_frames
from stemd.documents import compact_json
from stemd.offline.replay.wire import IMAGE, PIPELINE, TEXT, packed
from stemd.results import Result, Snapshot

BYTES_PER_S = 40e6
"""Of images to the daemon, which hands them on: a large image comes less often."""


class Sender:
    """Filled from any thread; `drain` writes in a thread of its own, at the viewer's pace."""

    def __init__(self, out: IO[bytes], scan_id: str) -> None:
        self._out = out
        self.scan_id = scan_id
        self._ready = threading.Condition()
        self._texts: deque[tuple[str, str]] = deque()
        self._newest: dict[str, tuple[Snapshot, Result, int]] = {}
        self._due: dict[str, None] = {}
        self._watched: Mapping[str, int] = {}
        self._known: dict[str, dict[str, Any]] = {}
        self._closed = False

    def text(self, kind: str, document: Mapping[str, Any]) -> None:
        """A document of the page's protocol."""
        text = compact_json({"type": kind, "pipeline": PIPELINE, "document": document})
        with self._ready:
            self._texts.append((kind, text))
            self._ready.notify()

    def watch(self, images: Mapping[str, int]) -> None:
        """The images wanted from now on, with their longest side in pixels."""
        with self._ready:
            for name, side in images.items():
                if self._watched.get(name) != side and name in self._newest:
                    self._due[name] = None
            self._watched = images
            self._ready.notify()

    def show(self, snapshot: Snapshot, reached: int) -> None:
        """New images; the beam has come to flat position `reached`."""
        about = {
            result.name: {
                "name": result.name,
                "units": result.units,
                "axes": result.axes,
                "shape": list(result.shape),
            }
            for result in snapshot.results
        }
        if any(self._known.get(name) != now for name, now in about.items()):
            self._known |= about
            self.text("images", {"images": list(self._known.values())})
        with self._ready:
            for result in snapshot.results:
                self._newest[result.name] = (snapshot, result, reached)
                self._due[result.name] = None
            self._ready.notify()

    def close(self) -> None:
        """Nothing more will come: `drain` writes what waits and returns."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def drain(self) -> None:
        """Write until closed. Raises OSError when nobody reads any more."""
        while (message := self._next()) is not None:
            kind, name, body = message
            for part in packed(kind, name, body):
                self._write(part)
            if kind == IMAGE:
                time.sleep(len(body) / BYTES_PER_S)

    def _write(self, part: bytes) -> None:
        left = memoryview(part)
        while left:
            left = left[self._out.write(left) :]

    def _next(self) -> tuple[int, str, bytes] | None:
        with self._ready:
            while True:
                if self._texts:
                    kind, text = self._texts.popleft()
                    return TEXT, kind, text.encode()
                name = next((name for name in self._due if name in self._watched), None)
                if name is not None:
                    del self._due[name]
                    found, side = self._newest[name], self._watched[name]
                    break
                if self._closed:
                    return None
                self._ready.wait()
        return IMAGE, name, self._frame(*found, side)

    def _frame(self, snapshot: Snapshot, result: Result, reached: int, side: int) -> bytes:
        step = image_frames.reduction(result.shape, side)
        meta = image_frames.image_meta(PIPELINE, snapshot, result, step)
        meta |= {"scan": self.scan_id, "reached": reached}
        image = image_frames.ReducedImage(step).of(result)
        return image_frames.encode_image(meta, image, final=snapshot.final)
