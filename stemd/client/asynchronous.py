"""`AsyncClient`: stemd over MQTT for asyncio."""

from __future__ import annotations

import asyncio
import base64
import io
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, Self

from numpy.typing import ArrayLike

from stemd.client.address import Address
from stemd.client.commands import Commands
from stemd.client.errors import NotConnectedError, TimedOutError
from stemd.client.images import Image, decode_image
from stemd.client.link import Link
from stemd.client.messages import Optics, Reply, Scan, State
from stemd.client.news import ImageQueue, News
from stemd.client.replies import Replies
from stemd.client.told import Told

FOREVER_S = 1e9
OTHERS_S = 0.2
"""Where no instrument is named, others than the first have so long to tell of themselves: a command
must not go to a microscope by chance."""
RESTORE_S = 310.0
"""stemd itself gives a restoration up after 300 s."""
_DOCUMENTS = ("state", "settings", "optics", "session", "scan", "reply")


class AsyncClient(Told, Commands[Coroutine[Any, Any, Reply]]):
    """A client of one pipeline; `async with` connects and disconnects.

    `url` is the broker's, `mqtt://host:port` or `mqtts://host:port`. `instrument` and `pipeline`
    are those of stemd's config; they may be left out where there is one only. `timeout_s` is how
    long an answer may take. A connection that is lost is begun again.

    Raises UsageError for a url that is none, NotConnectedError where broker, daemon or pipeline
    are not there.
    """

    def __init__(
        self,
        url: str = "mqtt://127.0.0.1:1883",
        *,
        instrument: str | None = None,
        pipeline: str | None = None,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._address = Address.of(url, username, password, tls)
        self._instrument, self._pipeline = instrument, pipeline
        self._timeout_s = timeout_s
        self._news = News()

    async def __aenter__(self) -> Self:
        self._news = News()  # anew, where it is entered a second time
        self._replies = Replies()
        self._there: set[str] = set()
        self._link = Link(self._address, self._take, self._lost)
        try:
            await self._link.open(self._timeout_s)
            await self._find()
        except BaseException:
            await self._link.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()
        self._lost()

    # What stemd tells

    @property
    def instrument(self) -> str:
        """Name of the instrument."""
        return self._instrument or ""

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self._pipeline or ""

    @property
    def _heard(self) -> News:
        return self._news

    async def wait_for_state(self, *states: str, timeout_s: float = FOREVER_S) -> State:
        """Return when the pipeline is in one of these states. Raises TimedOutError."""

        def found() -> State | None:
            return self.state if self.state.state in states else None

        return await self._news.until(found, f"a state {' or '.join(states)}", timeout_s)

    async def wait_for_scan(self, timeout_s: float = FOREVER_S) -> Scan:
        """The next scan that is over. Raises TimedOutError.

        The first call waits for one that ends from now on, or since the last `start`; each
        further call gives the one after it, also if that has ended meanwhile.
        """
        news = self._news
        if news.scans is None:
            news.scans = deque()
        # another task may call `start` meanwhile
        return await news.until(
            lambda: news.scans.popleft() if news.scans else None, "the end of a scan", timeout_s
        )

    async def wait_for_optics(self, scan: str, timeout_s: float = 120.0) -> Optics:
        """The optics measured in the whole scan of this id; they come some seconds after its end.

        Raises TimedOutError.
        """

        def found() -> Optics | None:
            optics = self._news.optics
            if optics is None or optics.scan != scan or optics.preliminary:
                return None
            return optics

        return await self._news.until(found, f"the optics of scan {scan}", timeout_s)

    async def image(
        self, name: str, *, scan: str | None = None, timeout_s: float | None = None
    ) -> Image:
        """The last finished image of this name, or that of the `scan` of this id.

        Raises TimedOutError where there is none.
        """
        await self._hear(f"image/{name}/last")

        def found() -> Image | None:
            image = self._news.last.get(name)
            return image if image is not None and scan in (None, image.scan) else None

        of = f" of scan {scan}" if scan else ""
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        return await self._news.until(found, f"an image {name!r}{of}", wait_s)

    async def images(self, name: str = "+") -> AsyncGenerator[Image, None]:
        """Images of this name ("+": of all names) as they come, growing and finished, for ever.

        Who takes long for one gets the newest one next, and all finished ones (the newest 100).
        """
        await self._hear(f"image/{name}")
        queue = ImageQueue(name)
        self._news.queues.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._news.queues.remove(queue)

    async def preview(self, name: str, *, timeout_s: float | None = None) -> bytes:
        """The next small picture of the image of this name, as a PNG file, for a dashboard.

        At the first call the last finished one, if there is one. stemd makes them where
        `publish.preview` is on. Raises TimedOutError where none comes.
        """
        await self._hear(f"image/{name}/preview")
        self._news.previews.pop(name, None)
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        return await self._news.until(
            lambda: self._news.previews.get(name), f"a preview of {name!r}", wait_s
        )

    # What stemd can be told

    async def change(self, **sections: Mapping[str, Any]) -> Reply:
        """See `stemd.client.commands.Commands`."""
        return await self._ask("settings/set", dict(sections))

    async def start(
        self,
        scans: int = 1,
        *,
        scan: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Start the camera for so many scans (0: endless), with this geometry and settings."""
        self._news.scans, self._news.before = deque(), self.state.scan or ""
        more: dict[str, Any] = {"scan": scan, "settings": settings}
        given = {key: value for key, value in more.items() if value is not None}
        return await self.command("start", scans=scans, **given)

    async def restore(self, image: ArrayLike) -> dict[str, Image]:
        """An image (y, x) restored by a pipeline whose adapter is `images`, by its new names."""
        reply = await self.command("restore", timeout_s=RESTORE_S, tiff=_tiff(image))
        found = reply["tiffs"].items()
        return {name: decode_image(base64.b64decode(text)) for name, text in found}

    async def command(self, command: str, *, timeout_s: float | None = None, **args: Any) -> Reply:
        """See `stemd.client.commands.Commands`, as of all that is not here."""
        return await self._ask("command", {"command": command, "args": args}, timeout_s)

    async def _ask(
        self, topic: str, body: Mapping[str, Any], timeout_s: float | None = None
    ) -> Reply:
        if not self.online:
            raise NotConnectedError(
                f"stemd of instrument {self.instrument} does not run",
                "start it, and check its connection to the broker",
            )
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        return await self._replies.ask(
            body, lambda payload: self._link.publish(f"{self._base}/{topic}", payload), wait_s
        )

    # Messages

    @property
    def _base(self) -> str:
        return f"stemd/{self._instrument}/{self._pipeline}"

    async def _hear(self, *topics: str) -> None:
        await self._link.subscribe(*(f"{self._base}/{topic}" for topic in topics))

    async def _find(self) -> None:
        """Learn what instrument and pipeline there is; return when its state is known."""
        subscribe = self._link.subscribe
        await subscribe(f"stemd/{self._instrument or '+'}/availability")
        if self._instrument is None:
            there = lambda: bool(self._there) or None  # noqa: E731
            await self._found(there, "stemd")
            await asyncio.sleep(OTHERS_S)
            await self._found(there, "stemd")
            self._instrument = _only(self._there, "instrument")
            self._news.online = True
        await subscribe(f"stemd/{self._instrument}/daemon/state")
        who = f"stemd of instrument {self._instrument}"
        await self._found(lambda: self._news.daemon.get("pipelines") or None, who)
        pipelines = {str(name) for name in self._news.daemon["pipelines"]}
        if self._pipeline is None:
            self._pipeline = _only(pipelines, "pipeline")
        elif self._pipeline not in pipelines:
            raise NotConnectedError(
                f"{who} has no pipeline {self._pipeline!r}", f"one of: {', '.join(pipelines)}"
            )
        await self._hear(*_DOCUMENTS)
        news = self._news
        known = lambda: (bool(news.state and news.settings) and news.online) or None  # noqa: E731
        await self._found(known, f"the state of {self._base}")

    async def _found(self, condition: Any, who: str) -> None:
        try:
            await self._news.until(condition, who, self._timeout_s)
        except TimedOutError:
            raise NotConnectedError(
                f"{who} is not at the broker {self._address}",
                "start stemd, and check its mqtt.url; `stemd demo` prints its broker's address",
            ) from None

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        _, instrument, rest = topic.split("/", 2)
        if rest == "availability" and self._instrument is None:
            (self._there.add if payload == b"online" else self._there.discard)(instrument)
            self._news.changed()
            return
        if instrument != self._instrument:
            return
        what = rest.removeprefix(f"{self._pipeline}/")
        if what == "reply":
            self._replies.take(payload)
        elif not (retained and what == "scan"):
            self._news.take(what, payload)

    def _lost(self) -> None:
        self._replies.lost()
        self._news.forget_pipeline()


def _only(names: set[str], what: str) -> str:
    if len(names) == 1:
        return next(iter(names))
    listed = ", ".join(sorted(names))
    raise NotConnectedError(
        f"there are {len(names)} {what}s: {listed}", f"name one of them: {what}={min(names)!r}"
    )


def _tiff(image: ArrayLike) -> str:
    import numpy as np
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(image, np.float32))
    return base64.b64encode(file.getvalue()).decode()
