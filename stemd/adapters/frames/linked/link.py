"""One of several links to a camera: a thread that receives, decodes and reduces its frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stemd.adapters.base import Apart, TakeApart
from stemd.adapters.frames.adapter import StreamAdapter
from stemd.adapters.frames.linked.scan import Began, Came, JoinedScan, Late, Over, PartEnded
from stemd.blocks import (
    BlockPool,
    Ended,
    FrameBlock,
    Link,
    Message,
    Notice,
    PoolClosedError,
    Started,
)

Item = Began | Came | PartEnded | Late | Over | Notice | Link
Post = Callable[[int, Item], None]


class LinkThread(threading.Thread):
    """Reads one link's adapter as if it were the only one, and tells the reader what has come.

    Its blocks are in a pool of its own: where they wait for another link, this link alone waits.
    """

    def __init__(
        self, number: int, adapter: StreamAdapter, pool: BlockPool, post: Post, take: TakeApart
    ) -> None:
        super().__init__(name=f"link-{number + 1}", daemon=True)
        self.number, self.adapter, self.pool = number, adapter, pool
        self.stopping = threading.Event()
        self.working = threading.Lock()
        """Held while a block is claimed, reduced and posted: see `JoinedScan.closed`."""
        self.connected = False
        self.gone_since = self.heard = time.monotonic()
        self.waits: Began | None = None
        """For the reader's thread: it waits to be told of its next scan."""
        self.trouble: Link | None = None
        self._received = 0
        self._post, self._take = post, take
        self._begun: Started | None = None
        self._decided = False
        self._scan: JoinedScan | None = None

    def listen(self, now: float) -> None:
        """Notice whether bytes have come (reader's thread)."""
        if self.adapter.received_bytes != self._received:
            self._received = self.adapter.received_bytes
            self.heard = now

    def close(self) -> None:
        """End the thread soon. From any thread."""
        self.stopping.set()
        self.pool.close()
        self.adapter.close()

    def run(self) -> None:
        """Until `close`."""
        error: BaseException | None = None
        try:
            for message in self.adapter.read(self.pool, self.stopping):
                self._handle(message)
        except PoolClosedError:
            pass
        except BaseException as failed:  # whatever it is: the reader hears of it
            error = failed
        self._post(self.number, Over(error))

    def _handle(self, message: Message) -> None:
        match message:
            case FrameBlock():
                self._block(message)
            case Started():
                self._begun, self._decided, self._scan = message, False, None
            case Ended():
                if self._scan is not None:
                    self._post(self.number, PartEnded(self._scan, message.reason))
                self._begun = self._scan = None
            case Notice() | Link():
                self._post(self.number, message)

    def _block(self, block: FrameBlock) -> None:
        begun = self._begun
        if begun is not None and not self._decided:
            try:
                self._scan = self._asked(begun, int(block.sequence[0]))
            except PoolClosedError:
                block.release()
                raise
            self._decided = True
        with self.working:
            came = self._taken(block)
            self._post(self.number, came)
        if isinstance(came, Late) or came.block is None:
            block.release()

    def _asked(self, begun: Started, first: int) -> JoinedScan | None:
        asks = Began(begun.acquisition, begun.number, first)
        self._post(self.number, asks)
        while not asks.answered.wait(0.1):
            if self.stopping.is_set():
                raise PoolClosedError
        return asks.scan

    def _taken(self, block: FrameBlock) -> Came | Late:
        scan = self._scan
        if scan is None or scan.closed:
            return Late(block.count)
        frames, positions = scan.claim(block)
        taken = self._take(block, self.number)
        block.reduced = taken is not Apart.NOT_TAKEN
        last = int(block.sequence.max())
        return Came(scan, None if taken is Apart.REDUCED else block, last, frames, positions)
