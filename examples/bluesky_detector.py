"""stemd as a detector of Bluesky: one scan for each trigger, also among ophyd-async devices.

    stemd demo
    python examples/bluesky_detector.py

A device of Bluesky is whatever has these methods, so this needs bluesky only where a RunEngine
runs it. Each event has the scan's id, under which stemd keeps everything on its disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from stemd.client import Client, Scan


class ScanStatus:
    """Whether the triggered scan is over, in Bluesky's words."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.done = self.success = False
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[ScanStatus], None]] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
            self.success = True
        except Exception as error:
            self._error = error
        with self._lock:
            self.done = True
            callbacks, self._callbacks = self._callbacks, []
        self._over.set()
        for callback in callbacks:
            callback(self)

    def add_callback(self, callback: Callable[[ScanStatus], None]) -> None:
        """Call this when it is over, or now."""
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """What went wrong, None where nothing did."""
        if not self._over.wait(timeout):
            raise TimeoutError("the scan is not over")
        return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Return when it is over. Raises what went wrong."""
        if error := self.exception(timeout):
            raise error


class StemdDetector:
    """Triggers scans of a connected client, and reads their image, dose and defocus."""

    parent = None

    def __init__(self, client: Client, name: str = "stemd", image: str = "ricom") -> None:
        self.client, self.name, self.image = client, name, image
        self.scan: Scan | None = None

    def trigger(self) -> ScanStatus:
        """Start a scan; done when it is over."""
        return ScanStatus(self._one_scan)

    def _one_scan(self) -> None:
        self.client.start(scans=1)
        self.scan = self.client.wait_for_scan()

    def _key(self, key: str) -> str:
        return f"{self.name}_{key}"

    def describe(self) -> dict[str, dict[str, Any]]:
        """What each event has."""
        y, x = self.client.settings["scan"]["shape"]
        source = f"stemd:{self.client.instrument}/{self.client.pipeline}"
        return {
            self._key("scan"): {"source": source, "dtype": "string", "shape": []},
            self._key("missing"): {"source": source, "dtype": "integer", "shape": []},
            self._key(self.image): {"source": source, "dtype": "array", "shape": [y, x]},
        }

    def read(self) -> dict[str, dict[str, Any]]:
        """Of the scan that was triggered last."""
        assert self.scan is not None, "trigger first"
        image = self.client.image(self.image, scan=self.scan.id)
        values = {"scan": self.scan.id, "missing": self.scan.missing, self.image: image.image}
        now = time.time()
        return {self._key(key): {"value": v, "timestamp": now} for key, v in values.items()}

    def read_configuration(self) -> dict[str, dict[str, Any]]:
        """Nothing: the settings of each scan stand in its own scan.json."""
        return {}

    def describe_configuration(self) -> dict[str, dict[str, Any]]:
        """See `read_configuration`."""
        return {}


def main() -> None:
    """Five scans in a row, as Bluesky counts."""
    from bluesky import RunEngine
    from bluesky.plans import count

    with Client() as client:
        RunEngine()(count([StemdDetector(client)], num=5), lambda name, document: print(name))


if __name__ == "__main__":
    main()
