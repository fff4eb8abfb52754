"""A camera whose frames come by several links: one thread a link, one scan out of all of them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.base import Apart, CameraReading, TakeApart
from stemd.adapters.frames.adapter import StreamAdapter
from stemd.adapters.frames.control import Control
from stemd.adapters.frames.linked.ends import waited_for, why_over
from stemd.adapters.frames.linked.kernels import warm_up
from stemd.adapters.frames.linked.link import Item, LinkThread
from stemd.adapters.frames.linked.order import InOrder
from stemd.adapters.frames.linked.scan import (
    Began,
    Came,
    JoinedScan,
    Late,
    LinkPart,
    Over,
    PartEnded,
)
from stemd.adapters.frames.linked.together import Together, prepared
from stemd.adapters.frames.settings import FrameSettings
from stemd.adapters.frames.told import announced
from stemd.adapters.tally import Tallies
from stemd.blocks import (
    POOL_BYTES,
    BlockPool,
    Ended,
    EndReason,
    FrameBlock,
    Link,
    Message,
    Notice,
    PoolClosedError,
    Started,
)
from stemd.errors import CameraError

_TICK_S = 0.05
_CLOSE_S = 1.0
_STOP_S = 0.5
_MOST_ITEMS = 64
"""That are taken in between two looks at what is in order."""


def _in_order(block: FrameBlock, link: int) -> Apart:
    return Apart.NOT_TAKEN


class LinkedAdapter:
    """Implements adapters.base.Adapter and ReadsApart over the adapters of the links.

    Each link is an adapter of its own that knows nothing of the others: it sees holes where the
    others' frames are. A scan begins with the first link that begins one; it is over when all of
    its frames are here, or when no link that is there has more of it. Links that are silent for
    `idle_timeout_s` are not waited for where another is at its end, or has begun the next scan.
    """

    def __init__(
        self,
        settings: FrameSettings,
        title: str,
        links: Sequence[StreamAdapter],
        *,
        control: Control | None = None,
        no_control: str = "start and stop at the camera",
    ) -> None:
        self.settings = settings
        self.no_frames = links[0].no_frames
        self._title, self._adapters = title, tuple(links)
        self._control, self._no_control = control, no_control
        self._scan_set = settings.scan
        self._closing = threading.Event()
        self._threads: list[LinkThread] = []
        self._items: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
        self._later: deque[tuple[int, Item]] = deque()
        """Posted, and to be looked at before what is in `_items`."""
        self._scan: JoinedScan | None = None
        self._order: InOrder | None = None
        self._tallies = Tallies()
        self._together = Together(self._threads)
        for adapter in links:
            adapter.of_several()

    # Any thread

    @property
    def received_bytes(self) -> int:
        """See `adapters.base.Receives`."""
        return sum(adapter.received_bytes for adapter in self._adapters)

    @property
    def commands(self) -> frozenset[str]:
        """See `adapters.base.Commanded`."""
        return self._control.commands if self._control is not None else frozenset()

    @property
    def camera_status(self) -> Sequence[CameraReading]:
        """See `adapters.base.Instrumented`."""
        return self._control.status if self._control is not None else ()

    def set_scan(self, scan: Scan) -> None:
        """See `Adapter`."""
        self._scan_set = scan
        for adapter in self._adapters:
            adapter.set_scan(scan)

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Adapter`: over the one control port. Raises CameraError."""
        if self._control is None:
            raise CameraError(
                f"the {self._title} at {self.settings.host} cannot be told to {name}",
                self._no_control,
            )
        try:
            return self._control.command(name, args, self._scan_set)
        finally:
            if name in ("stop", "abort"):
                for adapter in self._adapters:
                    adapter.end_scan()

    def reconnect(self) -> None:
        """See `adapters.base.Reconnects`: all links."""
        for adapter in self._adapters:
            adapter.reconnect()

    def close(self) -> None:
        """See `Adapter`."""
        self._closing.set()
        for thread in self._threads:
            thread.close()
        if self._control is not None:
            self._control.close()

    # The reader's thread

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Messages of the camera until `stop`, the frames of each scan in order."""
        yield from self.read_apart(pool, stop, _in_order)

    def read_apart(
        self, pool: BlockPool, stop: threading.Event, take: TakeApart
    ) -> Iterator[Message]:
        """See `adapters.base.ReadsApart`."""
        warm_up()
        self._order = InOrder(pool)
        own = POOL_BYTES if len(self._adapters) < 4 else POOL_BYTES // 2
        self._threads[:] = [
            LinkThread(number, adapter, BlockPool(own), self._post, take)
            for number, adapter in enumerate(self._adapters)
        ]
        try:
            for thread in self._threads:
                thread.start()
            while not (stop.is_set() or self._closing.is_set()):
                yield from self._step()
            yield from self._last_items()
            yield from self._close_scan("stopped")
        except PoolClosedError:
            return
        finally:
            self._end()

    def _post(self, link: int, item: Item) -> None:
        self._items.put((link, item))

    def _end(self) -> None:
        if self._scan is not None:
            self._scan.closed = True
        for thread in self._threads:
            thread.close()
        until = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with contextlib.suppress(queue.Empty):
            while True:
                _, item = self._next_item(0.0)
                if isinstance(item, Came) and item.block is not None:
                    item.block.release()
        if self._order is not None:
            self._order.drop()
        self._scan = None

    def _last_items(self) -> Iterator[Message]:
        """Stop the links, and take in what they still had."""
        for thread in self._threads:
            thread.stopping.set()
        until = time.monotonic() + _STOP_S
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                link, item = self._next_item(_TICK_S)
                yield from self._take_in(self._threads[link], item)
            if self._items.empty() and not any(each.is_alive() for each in self._threads):
                return

    def _next_item(self, wait_s: float) -> tuple[int, Item]:
        """What a link has posted, in its order. Raises queue.Empty."""
        if self._later:
            return self._later.popleft()
        return self._items.get(timeout=wait_s) if wait_s else self._items.get_nowait()

    def _step(self) -> Iterator[Message]:
        """Take what the links have posted, give on what is in order, end what is over."""
        with contextlib.suppress(queue.Empty):
            wait_s = _TICK_S
            for _ in range(_MOST_ITEMS):
                link, item = self._next_item(wait_s)
                yield from self._take_in(self._threads[link], item)
                wait_s = 0.0
        now = time.monotonic()
        for thread in self._threads:
            thread.listen(now)
        yield from self._give_on(now)
        scan = self._scan
        if scan is not None and (why := why_over(self._threads, scan, now, self.settings)):
            yield from self._close_scan(why)
        for thread in self._threads:  # those that waited for the end of a scan
            if thread.waits is not None:
                yield from self._answer(thread, thread.waits)

    def _take_in(self, thread: LinkThread, item: Item) -> Iterator[Message]:
        match item:
            case Came():
                if item.scan is self._scan:
                    item.scan.came(thread.number, item.last, item.frames, item.positions)
                    if item.block is not None:
                        assert self._order is not None
                        self._order.add(item.block)
                elif item.block is not None:
                    item.block.release()
            case Began():
                yield from self._answer(thread, item)
            case PartEnded():
                item.scan.parts[thread.number].ended = item.reason
            case Late():
                text = f"{{count}} frames of {thread.adapter.source} came after their scan was over"
                yield from self._tallies.add("late_frames", text, item.frames)
            case Notice():
                yield from self._noticed(thread, item)
            case Link():
                yield from self._linked(thread, item)
            case Over():
                if item.error is not None:
                    raise item.error

    def _answer(self, thread: LinkThread, asks: Began) -> Iterator[Message]:
        scan = self._scan
        if scan is None:
            scan = self._scan = JoinedScan(asks.acquisition, asks.number, time.monotonic())
            yield Started(scan.acquisition, scan.number)
        takes = scan.takes(thread.number, asks.number, asks.first)
        if takes is False:
            thread.waits = asks
            return
        thread.waits = None
        if takes:
            part = scan.parts.setdefault(thread.number, LinkPart())
            part.ended = None
            asks.scan = scan
        asks.answered.set()

    def _give_on(self, now: float) -> Iterator[Message]:
        scan, order = self._scan, self._order
        if scan is None or order is None or not order.holds:
            return
        limit_s = self.settings.idle_timeout_s
        expected = [
            thread.number
            for thread in waited_for(self._threads, scan, now, limit_s)
            if now - max(thread.heard, scan.began) <= limit_s
        ]
        yield from order.ready(scan.until(expected))

    def _close_scan(self, why: EndReason) -> Iterator[Message]:
        scan, order = self._scan, self._order
        if scan is None or order is None:
            return
        scan.closed = True
        for thread in self._threads:
            with thread.working:  # what is being reduced belongs to the scan
                pass
        yield from self._posted_of(scan)
        yield from order.ready(scan.acquisition.scan.frames)
        order.drop()
        self._scan = None
        if holes := scan.holes():
            lost = f"; lost meanwhile: {', '.join(scan.lost)}" if scan.lost else ""
            yield Notice("missing_frames", f"{holes} frames did not come{lost}", count=holes)
        yield from self._tallies.rest()
        reason = scan.reason(why)
        if reason == "restarted":
            yield announced()
        yield Ended(scan.acquisition, reason)

    def _posted_of(self, scan: JoinedScan) -> Iterator[Message]:
        """Blocks that were taken for the scan before it was closed, and are on their way."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._later.append(self._items.get_nowait())
        waiting, self._later = self._later, deque()
        for link, item in waiting:
            if isinstance(item, Came) and item.scan is scan:
                yield from self._take_in(self._threads[link], item)
            else:
                self._later.append((link, item))

    def _noticed(self, thread: LinkThread, notice: Notice) -> Iterator[Message]:
        """What a link has to say of its part, but for what is so only because it is a part."""
        if notice.kind in ("missing_frames", "restarted"):
            return
        if notice.kind == "pause":
            now = time.monotonic()
            if self._scan is None or any(
                now - other.heard < self.settings.idle_timeout_s for other in self._threads
            ):
                return
        notice.text = f"{thread.adapter.source}: {notice.text}"
        yield notice

    def _linked(self, thread: LinkThread, link: Link) -> Iterator[Message]:
        yield from self._together.linked(thread, link, self._scan)
        if self._control is not None and self._scan is None and self._together.all_here:
            yield from prepared(self._control, self._scan_set)
