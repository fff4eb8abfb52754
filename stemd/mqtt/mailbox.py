"""What waits to be published: small, bounded, the newest first where only the newest counts."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

from stemd.mqtt.connection import Outgoing
from stemd.results import Result, Snapshot

MAX_DOCUMENTS = 1000
"""Messages that may wait in each lane."""
Lane = Literal["documents", "replies", "log"]
LANES: tuple[Lane, ...] = ("documents", "replies", "log")
Key = str | int
"""A topic of which only the newest message counts, or the number of a message."""
FINAL_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a pipeline's snapshot, not yet encoded."""

    pipeline: str
    result: Result
    snapshot: Snapshot

    @property
    def key(self) -> tuple[str, str]:
        """What a newer image of the same kind shares with it."""
        return self.pipeline, self.result.name

    @property
    def bytes(self) -> int:
        """Of its pixels, in a message."""
        return self.result.nbytes


class ImageMailbox:
    """One place per growing image, where only the newest waits; a queue for finished ones.

    Finished images go first, in order. They are dropped, the oldest first and counted, only
    when more than `final_bytes` of them wait, that is after a long time without a broker.
    """

    def __init__(self, final_bytes: int = FINAL_BYTES) -> None:
        self.replaced = 0
        self.finals_dropped = 0
        self._growing: OrderedDict[tuple[str, str], Image] = OrderedDict()
        self._finals: deque[Image] = deque()
        self._final_bytes = 0
        self._limit = final_bytes

    def __len__(self) -> int:
        return len(self._growing) + len(self._finals)

    def put(self, image: Image) -> int:
        """Leave an image; returns how many finished ones had to go for it."""
        if not image.snapshot.final:
            self.replaced += image.key in self._growing
            self._growing[image.key] = image
            return 0
        self._growing.pop(image.key, None)  # older than its own final
        self._finals.append(image)
        self._final_bytes += image.bytes
        dropped = 0
        while self._final_bytes > self._limit and len(self._finals) > 1:
            self._final_bytes -= self._finals.popleft().bytes
            dropped += 1
        self.finals_dropped += dropped
        return dropped

    def take(self) -> Image | None:
        """The next to send: a finished one, else the growing one that has waited longest."""
        if self._finals:
            image = self._finals.popleft()
            self._final_bytes -= image.bytes
            return image
        return self._growing.popitem(last=False)[1] if self._growing else None

    def forget(self, pipeline: str) -> None:
        """Drop the images of a pipeline that is gone."""
        self._finals = deque(image for image in self._finals if image.pipeline != pipeline)
        self._final_bytes = sum(image.bytes for image in self._finals)
        for key in [key for key in self._growing if key[0] == pipeline]:
            del self._growing[key]

    def put_back(self, image: Image) -> None:
        """It could not be sent: a final keeps its place, a growing one yields to a newer one."""
        if image.snapshot.final:
            self._finals.appendleft(image)
            self._final_bytes += image.bytes
        elif image.key not in self._growing:
            self._growing[image.key] = image
            self._growing.move_to_end(image.key, last=False)


class Outbox:
    """Documents that wait, in three lanes that never push each other out.

    First states (`newest`: one that waits is replaced) and scan documents (`queue`), in the order
    in which they came; then replies; then log lines. Beyond `limit` a lane drops its oldest
    message, counted; a state is never dropped.
    """

    def __init__(self, limit: int = MAX_DOCUMENTS) -> None:
        self._limit = limit
        self._next = 0
        self.dropped: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._lanes: dict[Lane, OrderedDict[Key, Outgoing]] = {
            lane: OrderedDict() for lane in LANES
        }

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._lanes.values())

    def newest(self, message: Outgoing) -> None:
        """Leave a message that makes an unsent one on its topic worthless."""
        self._lanes["documents"][message.topic] = message

    def queue(self, message: Outgoing, lane: Lane = "documents") -> None:
        """Leave a message that is to be sent whatever comes after it."""
        waiting = self._lanes[lane]
        waiting[self._next] = message
        self._next += 1
        if len(waiting) > self._limit:
            oldest = next(key for key in waiting if isinstance(key, int))
            del waiting[oldest]
            self.dropped[lane] += 1

    def last(self, message: Outgoing) -> None:
        """Leave a message that ends those on its topic: none that comes later replaces it."""
        self._lanes["documents"].pop(message.topic, None)
        self.queue(message)

    def peek(self) -> tuple[Key, Outgoing] | None:
        """The next to be sent, which stays until `sent`."""
        for waiting in self._lanes.values():
            if waiting:
                return next(iter(waiting.items()))
        return None

    def sent(self, key: Key, message: Outgoing) -> None:
        """It is out: forget it unless it was replaced meanwhile."""
        for waiting in self._lanes.values():
            if waiting.get(key) is message:
                del waiting[key]
