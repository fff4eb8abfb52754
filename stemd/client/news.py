"""What a client knows of stemd, and whoever waits for it to change."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stemd.client.errors import TimedOutError
from stemd.client.images import Image, decode_image
from stemd.client.messages import Optics, Scan, State, optics_of, read, scan_of, state_of
from stemd.documents import Json
from stemd.errors import FormatError

T = TypeVar("T")
KEPT_SCANS, KEPT_IMAGES = 1000, 100
"""What waits for a slow program; memory ends somewhere."""

log = logging.getLogger("stemd.client")


class ImageQueue:
    """Images for one reader: of those that grow the newest only, finished ones all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._waiting: deque[Image] = deque()
        self._there = asyncio.Event()

    def put(self, image: Image) -> None:
        """An image that has come."""
        if self.name not in (image.name, "+"):
            return
        for old in [old for old in self._waiting if old.name == image.name and not old.final]:
            self._waiting.remove(old)
        self._waiting.append(image)
        if len(self._waiting) > KEPT_IMAGES:
            gone = self._waiting.popleft()
            log.warning("image %s of scan %s was not taken in time", gone.name, gone.scan)
        self._there.set()

    async def get(self) -> Image:
        """The next image; waits for it."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        return self._waiting.popleft()


class News:
    """The newest of every document of one pipeline. On one event loop.

    `online`: whether stemd says that it runs; `daemon`, `settings` and `session` are documents of
    docs/asyncapi.yaml, {} while there is none.
    """

    def __init__(self) -> None:
        self.online = False
        self.daemon: Mapping[str, Any] = {}
        self.state: State | None = None
        self.settings: Mapping[str, Any] = {}
        self.optics: Optics | None = None
        self.session: Mapping[str, Any] = {}
        self.last: dict[str, Image] = {}
        self.previews: dict[str, bytes] = {}
        self.scans: deque[Scan] | None = None
        """Scans that are over, for `wait_for_scan`; None while nobody has asked for them."""
        self.before = ""
        """The scan that ran or was the last one at the last `start`: ids grow with time."""
        self.queues: list[ImageQueue] = []
        self._changed = asyncio.Event()
        self._complained: set[str] = set()

    def take(self, what: str, payload: bytes) -> None:
        """A message of the topic `stemd/<instrument>/<what>`, or `.../<pipeline>/<what>`."""
        try:
            self._take(what, payload)
        except FormatError as error:
            if what not in self._complained:  # once, not ten times a second
                self._complained.add(what)
                log.warning("a message is ignored: %s", error)
            return
        self.changed()

    def _take(self, what: str, payload: bytes) -> None:
        if what == "availability":
            self.online = payload == b"online"
        elif what == "daemon/state":
            self.daemon = read(payload, dict, "the daemon's state")
        elif what == "state" and payload:
            self.state = read(payload, state_of, "a state")
        elif what == "settings" and payload:
            self.settings = read(payload, dict, "the settings")
        elif what == "optics" and payload:
            self.optics = read(payload, optics_of, "the measured optics")
        elif what == "session":
            self.session = read(payload, dict, "a session") if payload else {}
        elif what == "scan":
            self._scan(read(payload, dict, "a scan"), payload)
        elif what.startswith("image/") and what.endswith("/preview"):
            self.previews[what.split("/")[1]] = payload
        elif what.startswith("image/") and payload:
            self._image(decode_image(payload), last=what.endswith("/last"))

    def _scan(self, document: Json, payload: bytes) -> None:
        if document.get("event") in ("finished", "aborted") and self.scans is not None:
            scan = read(payload, scan_of, "a scan")
            if scan.id > self.before:
                self.scans.append(scan)
            while len(self.scans) > KEPT_SCANS:
                gone = self.scans.popleft()
                log.warning("scan %s was never taken by wait_for_scan and is forgotten", gone.id)

    def _image(self, image: Image, *, last: bool) -> None:
        if last:
            self.last[image.name] = image
            return
        for queue in self.queues:
            queue.put(image)

    def changed(self) -> None:
        """Wake whoever waits."""
        self._changed.set()

    async def until(self, condition: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """What the condition gives, as soon as that is not None. Raises TimedOutError."""
        try:
            async with asyncio.timeout(timeout_s):
                while (found := condition()) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimedOutError(
                f"{what} has not come within {timeout_s:g} s", "wait longer with timeout_s"
            ) from None
        return found

    def forget_pipeline(self) -> None:
        """The connection is lost: nobody knows now whether stemd runs."""
        self.online = False
        self.changed()
