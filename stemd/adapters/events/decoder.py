"""The decoder of a live event stream: bytes are received straight into pool buffers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.events.front import Front
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.stream import EventStream
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.silence import lacks_only_its_end
from stemd.blocks import BlockPool, EndReason, Message, Notice


class EventDecoder:
    """Pure decoder of one stream: `wants`, `fed`, `flush`; the same hits for any cut of it.

    Raises ConfigError without a scan: the bytes of event cameras do not tell its size.
    """

    def __init__(
        self,
        settings: EventSettings,
        front: Front,
        pool: BlockPool,
        *,
        scan: Scan | None = None,
        name: str,
        raw_name: str,
        source: str = "",
        start: SyncStart | None = None,
    ) -> None:
        self._stream = EventStream(
            settings,
            front,
            pool,
            scan=scan,
            name=name,
            raw_name=raw_name,
            source=source,
            start=start,
        )
        self._landing = self._stream.landing

    @property
    def acquisition(self) -> Acquisition | None:
        """The scan that is open, None between scans."""
        return self._stream.acquisition

    @property
    def at_the_end(self) -> bool:
        """The open scan lacks no more than its last line."""
        placer = self._stream.placer
        return lacks_only_its_end(placer.left, placer.scan.shape[1], placer.scan.positions)

    @property
    def undecided(self) -> bool:
        """Line pulses wait for others to tell what they are."""
        return self._stream.placer.sync.oldest_waiting is not None or self._stream.front.keeps

    @property
    def scans(self) -> int:
        """Scans that have begun."""
        return self._stream.placer.scans

    def set_scan(self, scan: Scan) -> None:
        """Geometry from the next scan on."""
        self._stream.next_scan = scan

    @property
    def change_waits(self) -> bool:
        """Another geometry waits for the end of a scan whose last position has been reached."""
        placer = self._stream.placer
        if self._stream.next_scan is None or placer.acquisition is None:
            return False
        return placer.left <= 1

    def wants(self) -> Sequence[memoryview]:
        """Where the next bytes are to land: the free end of a block."""
        return self._landing.wants()

    def fed(self, count: int, now_ns: int) -> Iterator[Message]:
        """`count` bytes have landed; decodes when the block is full."""
        if self._landing.landed(count):
            yield from self._landing.decode(self._stream.consume, now_ns)

    def flush(self, now_ns: int, *, eof: bool) -> Iterator[Message]:
        """Decode what is whole; at `eof` also end the scan."""
        if self._landing.whole:
            yield from self._landing.decode(self._stream.consume, now_ns)
        if eof:
            left = self._landing.forget()
            if left:
                yield Notice("cut_off", f"the stream ends {left} bytes into a record")
            yield from self._stream.finish("disconnected", now_ns, cut=True, torn=left > 0)

    def finish(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """No more bytes for now ("idle") or ever: end the scan with what has come."""
        yield from self._stream.finish(reason, now_ns)

    def close(self) -> None:
        """Give every block back; nothing more may be decoded."""
        self._stream.close()

    @property
    def skipped_bytes(self) -> int:
        """Bytes that were no words, of those that were told."""
        return self._stream.skipped_bytes

    @property
    def garbage_bytes(self) -> int:
        """Bytes of the stream that were none of this camera's."""
        front = self._stream.front
        return self._stream.skipped_bytes + front.record_bytes * front.foreign_records

    def counters(self) -> dict[str, int]:
        """Everything counted since the beginning of the stream."""
        return self._stream.counters()
