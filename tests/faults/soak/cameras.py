"""The cameras of the soak: a Merlin and a Timepix3 that scan slowly and remember what they sent."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from dataclasses import dataclass

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import TDC1_RISE
from stemd.adapters.merlin.encoder import Camera as MerlinKind
from stemd.adapters.merlin.encoder import encode_frame, encode_hdr, message
from stemd.adapters.timepix3.words import tdc_words
from tests.timepix3.streams import Camera as Chips
from tests.timepix3.streams import electrons

NY = NX = 32
POSITIONS = NY * NX
KIND = MerlinKind((32, 32), 12)
HITS = 20_000
CLOCK_STEP = 2_560_000_000
"""Ticks of the Timepix3's clock from one scan to the next: 4 s."""
OFF_S = 2.0
"""How long a camera that was killed is away."""


@dataclass
class Sent:
    """One scan as it left a camera; `lost`: the connection broke, nobody knows what arrived."""

    camera: str
    number: int
    began_ns: int
    pieces: int = 0
    whole: bool = False
    lost: bool = False


class SlowCamera:
    """Sends a scan every `period_s` to whoever is connected, until `close`."""

    name = ""

    def __init__(self, period_s: float, seed: int) -> None:
        self.sent: list[Sent] = []
        self.period_s = period_s
        self._pick = random.Random(seed)
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._client: socket.socket | None = None
        self._stop, self._kill, self._garbage = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._loop, name=self.name, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """Cut off whatever is sent, and be away for a moment."""
        self._kill.set()

    def garbage(self) -> None:
        """Send nonsense before the next scan."""
        self._garbage.set()

    def close(self) -> None:
        """No more scans; the connection stays until the last one has been read."""
        self._stop.set()
        self._thread.join(30.0)

    def hang_up(self) -> None:
        """Close what is open."""
        for opened in (self._client, self._listener):
            if opened is not None:
                opened.close()

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(0.2)
        return listener

    def _loop(self) -> None:
        while not self._stop.is_set():
            if self._kill.is_set():
                self._go_and_come()
            client = self._there()
            if client is None:
                continue
            sent = Sent(self.name, len(self.sent), time.time_ns())
            try:
                if self._garbage.is_set():
                    self._garbage.clear()
                    self._send_garbage(client)
                sent.began_ns = time.time_ns()
                self.sent.append(sent)
                for piece in self._scan(sent.number):
                    if self._kill.is_set():
                        break
                    client.sendall(piece)
                    sent.pieces += 1
                    time.sleep(self.period_s / 80)
                else:
                    sent.whole = True
                time.sleep(0.2)
                if not self._kill.is_set():
                    self._look(client)
            except OSError:
                sent.lost = True
                self._drop()
            self._wait(self.period_s * self._pick.uniform(0.3, 0.8))

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (self._stop.is_set() or self._kill.is_set()):
            time.sleep(0.05)

    def _there(self) -> socket.socket | None:
        """Whoever is connected, None when nobody is or comes within a moment."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._look(self._client)
                return self._client
            self._drop()
        try:
            self._client, _ = self._listener.accept()
        except OSError:
            return None
        self._client.settimeout(60.0)
        return self._client

    @staticmethod
    def _look(client: socket.socket) -> None:
        """Raises OSError when the other side has gone."""
        readable = select.select([client], [], [], 0.0)[0]
        if readable and client.recv(1) == b"":
            raise ConnectionResetError("the other side has gone")

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _go_and_come(self) -> None:
        self._drop()
        self._listener.close()
        time.sleep(OFF_S)
        self._listener = self._listen(self.port)
        self._kill.clear()

    def _send_garbage(self, client: socket.socket) -> None:
        """A burst, or a stream that lasts until it is given up."""
        junk = self._pick.randbytes(20_000).replace(b"M", b"m").replace(b"T", b"t")
        for _ in range(self._pick.choice((3, 120))):
            client.sendall(junk)
            time.sleep(0.1)

    def _scan(self, number: int) -> list[bytes]:
        raise NotImplementedError(number)


class Merlin(SlowCamera):
    """Frames whose first two pixels are the number of their scan."""

    name = "merlin"

    def __init__(self, period_s: float, seed: int = 1) -> None:
        random_ = np.random.default_rng(seed)
        y, x = np.mgrid[:32, :32]
        frames = []
        for index in range(POSITIONS):
            cy, cx = 15.5 + random_.normal(scale=0.3, size=2)
            counts = random_.poisson(20.0, (32, 32)) * (np.hypot(y - cy, x - cx) < 8)
            frames.append(encode_frame(counts.astype(np.uint16), KIND, index + 1))
        self._frames = frames
        super().__init__(period_s, seed)

    def frames(self, number: int) -> list[bytes]:
        """The frames of a scan, as they stand in its record."""
        at, mark = KIND_HEADER, number_mark(number)
        return [frame[:at] + mark + frame[at + 4 :] for frame in self._frames]

    def _scan(self, number: int) -> list[bytes]:
        frames = [message(frame) for frame in self.frames(number)]
        pieces = [b"".join(frames[line * NX : (line + 1) * NX]) for line in range(NY)]
        return [message(encode_hdr(KIND, POSITIONS)), *pieces]


KIND_HEADER = 384


def number_mark(number: int) -> bytes:
    """A scan's number as two pixels of 12 bits."""
    return (number // 4000).to_bytes(2, "big") + (number % 4000).to_bytes(2, "big")


def marked_number(record: bytes) -> int | None:
    """The number that stands in a record, None where it is too short."""
    if len(record) < KIND_HEADER + 4:
        return None
    high, low = record[KIND_HEADER : KIND_HEADER + 2], record[KIND_HEADER + 2 : KIND_HEADER + 4]
    return int.from_bytes(high, "big") * 4000 + int.from_bytes(low, "big")


class Timepix3(SlowCamera):
    """Hits and line pulses of a single chip; a scan is known by the word of its first pulse."""

    name = "timepix"

    def __init__(self, period_s: float, seed: int = 2) -> None:
        self._chips = Chips(layout=Layout("single"))
        self.signatures: dict[bytes, int] = {}
        self.hits: dict[int, int] = {}
        """By scan: hits that belong to a position."""
        super().__init__(period_s, seed)

    def _scan(self, number: int) -> list[bytes]:
        scan = Scan(shape=(NY, NX), flyback=3, dwell_time_us=1.0)
        start = 1_000_000 + number * CLOCK_STEP
        made = electrons(scan, HITS, layout=self._chips.layout, start=start, seed=number)
        word = tdc_words(made.line_starts[0], self._chips.counter, TDC1_RISE)
        self.signatures[np.asarray(word, np.uint64).tobytes()] = number
        self.hits[number] = made.counted.time.size
        chunks = self._chips.chunks(made)
        step = -(-len(chunks) // NY)
        return [b"".join(chunks[at : at + step]) for at in range(0, len(chunks), step)]
