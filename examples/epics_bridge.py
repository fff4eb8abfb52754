"""stemd as EPICS PVs over PVAccess: state, defocus, live images, and a PV that starts scans.

pip install p4p
python examples/epics_bridge.py mqtt://127.0.0.1:1883 STEM:
pvget STEM:state ; pvput STEM:start 1 ; pvmonitor STEM:defocus_nm
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from p4p.nt import NTNDArray, NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

from stemd.client import Client
from stemd.errors import StemdError


class Start:
    """What a put to the PV `start` does: so many scans."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, pv: Any, operation: Any) -> None:
        """Start, and answer with stemd's own words where it refuses."""
        scans = int(operation.value())
        try:
            self.client.start(scans=scans)
        except StemdError as error:
            operation.done(error=error.message)
            return
        pv.post(scans)
        operation.done()


class Bridge:
    """The PVs of one pipeline under a prefix."""

    def __init__(self, client: Client, prefix: str, images: tuple[str, ...] = ("ricom",)) -> None:
        self.client = client
        self.pvs: dict[str, SharedPV] = {
            f"{prefix}state": SharedPV(nt=NTScalar("s"), initial=client.state.state),
            f"{prefix}scan": SharedPV(nt=NTScalar("s"), initial=client.state.scan or ""),
            f"{prefix}defocus_nm": SharedPV(nt=NTScalar("d"), initial=float("nan")),
            f"{prefix}start": SharedPV(nt=NTScalar("i"), initial=0, handler=Start(client)),
        }
        self.pvs |= {f"{prefix}{name}": SharedPV(nt=NTNDArray()) for name in images}
        self.prefix, self.images = prefix, images
        self._told: dict[str, Any] = {}

    def post(self, image: Any) -> None:
        """A new image of stemd, with the time at which it was made."""
        if image.name in self.images:
            pv = self.pvs[f"{self.prefix}{image.name}"]
            (pv.post if pv.isOpen() else pv.open)(image.image, timestamp=image.time_ns / 1e9)

    def tell(self) -> None:
        """State, scan and defocus, where they have changed."""
        state, optics = self.client.state, self.client.optics
        now: dict[str, Any] = {"state": state.state, "scan": state.scan or ""}
        if optics is not None and optics.defocus_nm is not None:
            now["defocus_nm"] = optics.defocus_nm.value
        for name, value in now.items():
            if self._told.get(name) != value:
                self.pvs[f"{self.prefix}{name}"].post(value, timestamp=time.time())
        self._told = now

    def follow(self, over: threading.Event) -> None:
        """Tell them until it is over: they change between images, and after the last one."""
        while not over.wait(0.1):
            self.tell()


def main(
    url: str = "mqtt://127.0.0.1:1883",
    prefix: str = "STEM:",
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until Ctrl-C."""
    with Client(url) as client:
        bridge = Bridge(client, prefix)
        with Server(providers=[bridge.pvs]):
            over = threading.Event()
            threading.Thread(target=bridge.follow, args=(over,), daemon=True).start()
            ready()
            try:
                for image in client.images():
                    bridge.post(image)
            finally:
                over.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
