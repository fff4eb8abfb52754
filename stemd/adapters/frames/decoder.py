"""From the bytes of a frame camera to scans and blocks of frames: pure, no socket, no clock.

Frames of a known size are received where they stay: their message prefixes, where there are any,
into a small side array, headers and pixels one after the other into a pool buffer, which so holds
what a recorded file would. Once per block compiled kernels check all of it and place the frames.
Where a check fails the bytes from there on are put back into one line and go through the careful
parser, the format's `next_message`, until frames follow each other again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

from stemd.acquisition import Scan
from stemd.adapters.frames.following import ScanFollower
from stemd.adapters.frames.format import Begin, FrameFormat, FrameStart, Garbage, Need
from stemd.adapters.frames.odd import GoesOn, LeftOut, judged, number_of
from stemd.adapters.frames.slots import Slots
from stemd.adapters.frames.told import announced, changed, left_out
from stemd.blocks import BlockPool, EndReason, Message, Notice

_SEARCH_BYTES = 4096


class FrameDecoder(ScanFollower):
    """Implements adapters.base.Decoder for one connection to a frame camera.

    `scan` is the configured geometry (None: told by the camera) and can be set at any time; it
    counts from the next scan on. `fed` and `flush` return iterables that must be used up before
    the next call; they may wait for a free block. They raise FormatError when the size of the
    scan is neither configured nor told.
    """

    def __init__(
        self, camera: FrameFormat, pool: BlockPool, scan: Scan | None = None, source: str = ""
    ) -> None:
        super().__init__(camera, scan, source)
        self._format = camera
        self._pool = pool
        self._slots: Slots | None = None
        self._landing = False  # bytes land in slots, not in `_scratch`
        self._scratch = memoryview(bytearray(_SEARCH_BYTES))
        self._linear = bytearray()
        self._needed = 0
        self._skipped = 0
        self.garbage_bytes = 0
        """Bytes of this connection that belonged to no message."""
        self.broken = False
        """Never: the next message is found in any bytes."""
        self._announced = 0  # bytes of announcements since the last frame

    @property
    def useless_bytes(self) -> int:
        """Bytes of this connection that no frame can come of: garbage, and headers alone."""
        return self.garbage_bytes + self._announced

    def wants(self) -> Sequence[memoryview]:
        """Where the next bytes are to land. Waits for a free block where one is needed."""
        slots = self._slots
        if slots is None or not self._landing:
            size = max(1, self._needed - len(self._linear))
            return (self._scratch[: _SEARCH_BYTES if self._skipped else size],)
        if slots.buffer is None:
            # A block ends with its scan, so that the end is noticed as its last byte arrives.
            slots.take(self._tracker.remaining)
        return slots.wants()

    def fed(self, count: int, now_ns: int) -> Iterable[Message]:
        """`count` bytes have landed at `now_ns` (UTC)."""
        slots = self._slots
        if slots is not None and self._landing:
            slots.at += count
            if slots.at < slots.full:
                return ()
            found = self._placer.whole_block(slots, now_ns)
            return self._drive(now_ns, found) if isinstance(found, tuple) else (found,)
        self._linear += self._scratch[:count]
        return self._drive(now_ns)

    def flush(self, now_ns: int, *, eof: bool) -> Iterable[Message]:
        """Give out what is whole. At `eof` what is not whole is counted and dropped."""
        if self._landing and self._slots is not None and self._slots.partial:
            return self._flush(now_ns, eof)
        return self._drop_partial() if eof else ()

    def end(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """End the scan under way, if any, after giving out what is whole.

        The reason becomes "complete" when nothing but trailing flyback is missing.
        """
        yield from self.flush(now_ns, eof=False)
        yield from self._placer.close(reason)

    def reset(self) -> None:
        """Forget everything of the connection; the next byte is the first of a new one."""
        if self._slots is not None:
            self._slots.drop()
        self._linear.clear()
        self._careful()
        self._skipped = self.garbage_bytes = self._announced = 0
        self._format.reset()
        self._placer.forget()
        self._tracker.new_acquisition(None)

    def _landed(self) -> Slots | None:
        """Where bytes land now, None while they go through the careful parser."""
        return self._slots if self._landing else None

    def _careful(self) -> None:
        """The next bytes go through the careful parser."""
        self._landing = False
        self._needed = 0

    def _drive(self, now_ns: int, stopped: tuple[int, int] | None = None) -> Iterator[Message]:
        """Work until more bytes are needed. `stopped`: a check that `_place` is to go on from."""
        while True:
            slots = self._landed()
            if slots is None:
                if not (yield from self._parse()):
                    return
                continue
            if self._linear:
                if slots.buffer is None:
                    slots.take(self._tracker.remaining)
                slots.put(self._linear)
            if slots.buffer is None or slots.at < slots.full:
                return
            yield from self._place(slots, slots.capacity, now_ns, stopped)
            stopped = None

    def _parse(self) -> Generator[Message, None, bool]:
        """One step of the careful parser; returns whether another step is possible."""
        step = self._format.next_message(self._linear)
        if isinstance(step, Need):
            # A message that waits for more than fits is read in pieces, looked through each time.
            self._needed = min(step.total, len(self._linear) + _SEARCH_BYTES)
            return False
        if isinstance(step, Garbage):
            del self._linear[: step.size]
            self._skipped += step.size
            self.garbage_bytes += step.size
            if step.error is not None:
                yield from self._tallies.add(
                    "bad_header", step.error.message, remedy=step.error.remedy
                )
        elif isinstance(step, FrameStart):
            if (found := self._odd(step)) is not None:
                return (yield from self._not_yet(step, found))
            if step.forgives == self._skipped:
                self._skipped = 0
            yield from self._bad_length(step.bad_length)
            yield from self._tell_between()
            yield from self._begin_frames(step)
        else:
            yield from self._tell_between()
            yield from self._bad_length(step.bad_length)
            yield from self._begin_acquisition(step)
        return True

    def _odd(self, step: FrameStart) -> Need | LeftOut | None:
        """What is known of a frame unlike those of its acquisition, None where it is taken."""
        slots = self._slots
        if slots is None or step.layout == slots.layout or not self._tracker.planned:
            return None
        if number_of(self._linear, self._format, step) == self._format.first_number:
            return None  # another acquisition, of a camera that does not announce them
        found = judged(self._linear, self._format, slots.layout, step)
        return None if isinstance(found, GoesOn) else found

    def _not_yet(self, step: FrameStart, found: Need | LeftOut) -> Generator[Message, None, bool]:
        """Wait for what follows an odd frame, or leave it out; returns as `_parse`."""
        assert self._slots is not None
        if isinstance(found, Need):
            self._needed = min(found.total, len(self._linear) + _SEARCH_BYTES)
            return False
        number = number_of(self._linear, self._format, step)
        del self._linear[: found.size]
        self._tracker.counters.skipped_bytes += found.size
        yield from self._tallies.add(*left_out(number, step.layout, self._slots.layout))
        return True

    def _drop_odd(self) -> Iterator[Message]:
        """The source has ended: frames of another kind, too few of them to be believed."""
        while self._linear and self._landed() is None:
            step = self._format.next_message(self._linear)
            if not isinstance(step, FrameStart) or not isinstance(self._odd(step), Need):
                return
            size = self._format.prefix_bytes + step.layout.frame_bytes
            if len(self._linear) < size:
                return
            yield from self._not_yet(step, LeftOut(size))

    def _bad_length(self, text: str) -> Iterator[Message]:
        if text:
            yield from self._tallies.add("bad_length", text)

    def _tell_between(self) -> Iterator[Message]:
        self._tracker.counters.skipped_bytes += self._skipped
        yield from self._tell_skipped("bytes between two messages were not part of any")

    def _tell_skipped(self, text: str) -> Iterator[Message]:
        skipped, self._skipped = self._skipped, 0
        if skipped:
            yield from self._tallies.add("skipped_bytes", f"{skipped} {text}", skipped)

    def _begin_acquisition(self, step: Begin) -> Iterator[Message]:
        """An acquisition begins: the scan under way is over, frames count from the first again."""
        del self._linear[: step.size]
        self._announced += step.size
        if self._slots is not None:
            self._slots.drop()
        yield from self._placer.close("restarted", announced())
        yield from self._tallies.rest()
        self._tracker.new_acquisition(step.announcement)

    def _begin_frames(self, step: FrameStart) -> Iterator[Message]:
        """The next bytes of `_linear` are a frame: expect frames like it from now on."""
        self._announced = 0
        if self._slots is None or step.layout != self._slots.layout:
            if self._slots is not None and self._tracker.planned:
                ended, begun = changed(self._slots.layout, step.layout)
                if self._tracker.acquisition is not None:
                    self._tracker.say_of_next(begun)
                yield from self._placer.close("restarted", ended)
                self._tracker.renumber()
            if self._slots is not None:
                self._slots.drop()
            self._slots = Slots(self._pool, self._format, step.layout)
        if not self._tracker.planned:
            self._tracker.make_plan()
        self._placer.expect(step, self._format.prefix_bytes)
        self._landing = True

    def _place(
        self, slots: Slots, stop: int, now_ns: int, stopped: tuple[int, int] | None = None
    ) -> Iterator[Message]:
        if not (yield from self._placer.place(slots, stop, now_ns, stopped)):
            self._linear[:0] = slots.straighten()
            self._careful()
        elif self._tracker.exhausted and not slots.partial:
            self._careful()  # another acquisition is due

    def _flush(self, now_ns: int, eof: bool) -> Iterator[Message]:
        while (slots := self._landed()) is not None:
            whole = slots.at // slots.stride
            if whole > slots.done:
                yield from self._place(slots, whole, now_ns)
            # What has come of the next message may show already that it is not a frame.
            if self._landed() is not None and slots.unlike(self._placer.opening):
                self._linear[:0] = slots.straighten()
                self._careful()
            if self._landed() is not None:
                break
            yield from self._drive(now_ns)
        if eof:
            yield from self._drop_partial()

    def _drop_partial(self) -> Iterator[Message]:
        """The source has ended: count and drop what is not whole."""
        yield from self._drop_odd()
        left = len(self._linear)
        if self._slots is not None:
            left += self._slots.partial if self._landing else 0
            self._slots.drop()
        if self._linear and not self._format.begins(self._linear):
            self._skipped, left = self._skipped + left, 0
        if left:
            yield Notice("partial_frame", f"the last {left} bytes are not a whole message")
        yield from self._tell_skipped("bytes were not part of any message")
        yield from self._tallies.rest()
        self._linear.clear()
        self._careful()
