"""Viewers of few instructions, in a process of their own: `python -m benchmarks.page look PORT N`.

The process reads orders, one a line: `on` and `off` open and close all sockets, `count` answers
with images, messages and processor seconds since the start.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from typing import Any

THUMBNAILS = ("com_y", "com_x", "field_magnitude", "field_direction", "bf", "adf", "pacbed")
"""What the page asks for beside the large image, at 128 pixels."""


WAIT_S = 0.12
"""As drawn.js: an image that no other follows is said to be drawn so late."""


class LightViewer:
    """A WebSocket client: reads images, says `drawn` as a browser does, looks at no pixel."""

    def __init__(self, port: int, *, thumbnails: bool = False, pipeline: str = "bench") -> None:
        self.pipeline = pipeline
        self.images = 0
        self.messages = 0
        self.due = 0.0
        self._drawn: list[str] = []
        self._buffer = bytearray(1 << 20)
        self._filled = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n" % port
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.socket.recv(1)
        small = dict.fromkeys(THUMBNAILS if thumbnails else (), 128)
        images = {pipeline: {"ricom": 2048, **small}}
        self.say({"type": "watch", "images": images, "bundle": True, "short": True})

    def tell(self) -> None:
        """Say what has been drawn."""
        self.say({"type": "drawn", "pipeline": self.pipeline, "name": self._drawn})
        self._drawn, self.due = [], 0.0

    def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.socket.sendall(_frame(json.dumps(message, separators=(",", ":")).encode()))

    def read(self) -> None:
        """Take what has come."""
        view = memoryview(self._buffer)
        count = self.socket.recv_into(view[self._filled :])
        if count == 0:
            raise ConnectionError("the page has closed the socket")
        self._filled += count
        start = 0
        while (end := self._message(start)) is not None:
            start = end
        if start:
            rest = self._filled - start
            view[:rest] = bytes(view[start : self._filled])
            self._filled = rest
        elif self._filled > len(view) // 2:
            view.release()
            self._buffer += bytes(len(self._buffer))

    def _message(self, start: int) -> int | None:
        """Where the message that begins here ends, None while it is not all there."""
        buffer = self._buffer
        if self._filled - start < 10:
            return None
        length, body = buffer[start + 1] & 0x7F, start + 2
        if length == 126:
            length, body = int.from_bytes(buffer[start + 2 : start + 4], "big"), start + 4
        elif length == 127:
            length, body = int.from_bytes(buffer[start + 2 : start + 10], "big"), start + 10
        if self._filled < body + length:
            return None
        if buffer[start] & 0x0F == 2:
            self.messages += 1
            names, frame = [], body
            while frame < body + length:
                size = int.from_bytes(buffer[frame + 8 : frame + 12], "little")
                pixels = int.from_bytes(buffer[frame + 12 : frame + 16], "little")
                names.append(json.loads(buffer[frame + 16 : frame + 16 + size])["name"])
                frame += 16 + size + pixels
            self.images += len(names)
            self._drawn += names
            if len(set(self._drawn)) < len(self._drawn):
                self.tell()
            elif not self.due:
                self.due = time.monotonic() + WAIT_S
        return body + length


def _frame(text: bytes) -> bytes:
    """A client's text frame; a mask of zeros leaves the text as it is."""
    if len(text) < 126:
        head = bytes((0x81, 0x80 | len(text)))
    else:
        head = bytes((0x81, 0x80 | 126)) + len(text).to_bytes(2, "big")
    return head + bytes(4) + text


def look(port: int, viewers: int, *, thumbnails: bool) -> None:
    """Obey the orders on the standard input until it is closed."""
    os.nice(19)
    looking: list[LightViewer] = []
    images = messages = 0
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            ready = [key.data for key, _ in selector.select(WAIT_S / 4)]
            now = time.monotonic()
            for viewer in looking:
                if 0.0 < viewer.due < now:
                    viewer.tell()
            for viewer in ready:
                if viewer is not None:
                    viewer.read()
            if None not in ready:
                continue
            order = sys.stdin.readline().strip()
            if order == "":
                return
            if order == "on" and not looking:
                looking = [LightViewer(port, thumbnails=thumbnails) for _ in range(viewers)]
                for viewer in looking:
                    selector.register(viewer.socket, selectors.EVENT_READ, viewer)
            elif order == "off":
                for viewer in looking:
                    selector.unregister(viewer.socket)
                    viewer.socket.close()
                    images, messages = images + viewer.images, messages + viewer.messages
                looking = []
            all_images = images + sum(viewer.images for viewer in looking)
            all_messages = messages + sum(viewer.messages for viewer in looking)
            sys.stdout.write(f"{all_images} {all_messages} {time.process_time()}\n")
            sys.stdout.flush()


class Viewers:
    """The process, from outside."""

    def __init__(self, port: int, viewers: int, *, thumbnails: bool) -> None:
        self.viewers = viewers
        more = ["--thumbnails"] if thumbnails else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.page", "look", str(port), str(viewers), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, order: str) -> tuple[int, int, float]:
        """Have an order carried out; (images, messages, processor seconds) since the start."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        images, messages, cpu = self._process.stdout.readline().split()
        return int(images), int(messages), float(cpu)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
