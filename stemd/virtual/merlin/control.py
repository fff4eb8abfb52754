"""The control port of the virtual Merlin: what it knows, and what its commands do."""

from __future__ import annotations

import socket
import threading

from stemd.adapters.merlin.control import BUSY, OK, OUT_OF_RANGE, UNKNOWN, ControlServerProtocol
from stemd.virtual.merlin.frames import FrameSource

SOFT_TRIGGER = "5"
READ_ONLY = frozenset({"IMAGEX", "IMAGEY", "COUNTERDEPTH", "SOFTWAREVERSION"})
FRACTIONAL = frozenset(
    {"ACQUISITIONTIME", "ACQUISITIONPERIOD", "HVBIAS", "THRESHOLD0", "THRESHOLD1"}
)
_DEFAULTS = {
    "ACQUISITIONTIME": "1.0",
    "ACQUISITIONPERIOD": "1.0",
    "CONTINUOUSRW": "1",
    "TRIGGERSTART": "0",
    "TRIGGERSTOP": "0",
    "RUNHEADLESS": "0",
    "FILEFORMAT": "0",
    "FILEENABLE": "0",
    "NUMFRAMESPERTRIGGER": "0",
    "HVBIAS": "120",
    "THRESHOLD0": "20",
    "THRESHOLD1": "511",
    "SOFTWAREVERSION": "0.77",
}


class CameraControl:
    """Settings and commands, shared by the acquiring thread and the control clients.

    The acquiring thread calls `wait_for_start`, `begin`, `wait_for_trigger` and `end`, and watches
    `abort`. A free-running camera starts by itself until STOPACQUISITION; STARTACQUISITION sets
    it going again.
    """

    def __init__(self, source: FrameSource, *, free_running: bool) -> None:
        self.abort = threading.Event()
        self._free_running = free_running
        self._start = threading.Event()
        self._trigger = threading.Event()
        self._acquiring = False
        self._lock = threading.Lock()
        height, width = source.image_shape
        self._values = {
            **_DEFAULTS,
            "IMAGEX": str(width),
            "IMAGEY": str(height),
            "NUMFRAMESTOACQUIRE": str(source.frames),
            "COUNTERDEPTH": str(source.depth),
        }
        if free_running:
            self._start.set()

    def wait_for_start(self, timeout: float) -> bool:
        """Whether an acquisition is due, waiting for up to `timeout` seconds."""
        return self._start.wait(timeout)

    def begin(self) -> int:
        """An acquisition begins; how many frames it is to have (0: endless)."""
        with self._lock:
            self._acquiring = True
            if not self._free_running:
                self._start.clear()
            return int(self._values["NUMFRAMESTOACQUIRE"])

    def wait_for_trigger(self, timeout: float) -> bool:
        """Whether frames may follow, waiting for up to `timeout` seconds."""
        if self._values["TRIGGERSTART"] != SOFT_TRIGGER or self._free_running:
            return True
        return self._trigger.wait(timeout)

    def end(self, *, closing: bool) -> None:
        """The acquisition is over; `closing` keeps `abort` set."""
        with self._lock:
            self._acquiring = False
            self._trigger.clear()
            if not closing:
                self.abort.clear()

    def check(self, name: str, value: str) -> int:
        """The status with which a SET is answered."""
        if value == self._values[name]:
            return OK
        if name in READ_ONLY:
            return OUT_OF_RANGE
        if self._acquiring:
            return BUSY
        try:
            number = float(value)
        except ValueError:
            return OUT_OF_RANGE
        if not 0 <= number < 2**31:
            return OUT_OF_RANGE
        whole = name not in FRACTIONAL
        return OUT_OF_RANGE if whole and not value.isdigit() else OK

    def command(self, name: str) -> int:
        """Carry out a CMD; its status."""
        with self._lock:
            return self._command(name)

    def _command(self, name: str) -> int:
        if name == "STARTACQUISITION":
            if self._acquiring or (self._start.is_set() and not self._free_running):
                return BUSY
            self._start.set()
            return OK
        if name == "STOPACQUISITION":
            self._start.clear()
            if self._acquiring:
                self.abort.set()
            return OK
        if name == "SOFTTRIGGER":
            self._trigger.set()
            return OK
        return UNKNOWN

    def serve(self, client: socket.socket, stop: threading.Event) -> None:
        """Answer one control client until it goes or `stop`."""
        protocol = ControlServerProtocol(self._values, self.command, self.check)
        while not stop.is_set():
            try:
                received = client.recv(4096)
            except TimeoutError:
                continue
            if not received:
                return
            client.sendall(protocol.feed(received))
