"""What waits to be published: small, bounded, the newest first where only the newest counts."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
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
"""Memory that waiting finals may hold which are not the newest of their kind."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a pipeline's snapshot, not yet encoded. `snapshot` is without the others."""

    pipeline: str
    result: Result
    snapshot: Snapshot

    @classmethod
    def each_of(cls, pipeline: str, snapshot: Snapshot) -> list[Image]:
        """The images of a snapshot. One that waits keeps no other in memory."""
        alone = replace(snapshot, results=())
        return [cls(pipeline, result, alone) for result in snapshot.results]

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

    Finished images go first, in order. The newest of each kind is never dropped: it is kept for
    the retained topic in any case, so that to drop it would free nothing. Those before it are
    dropped, the oldest first and counted, when they hold more than `final_bytes`, that is after
    scans without a broker.
    """

    def __init__(self, final_bytes: int = FINAL_BYTES) -> None:
        self.replaced = 0
        self.finals_dropped = 0
        self._growing: OrderedDict[tuple[str, str], Image] = OrderedDict()
        self._finals: deque[Image] = deque()
        self._newest: dict[tuple[str, str], Image] = {}  # of the finals that wait
        self._held_bytes = 0  # by the others
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
        before = self._newest.get(image.key)
        self._held_bytes += before.result.held_bytes if before is not None else 0
        self._newest[image.key] = image
        dropped = 0
        while self._held_bytes > self._limit:
            self._drop_oldest()
            dropped += 1
        self.finals_dropped += dropped
        return dropped

    def _drop_oldest(self) -> None:
        at = next(k for k, each in enumerate(self._finals) if self._newest[each.key] is not each)
        self._held_bytes -= self._finals[at].result.held_bytes
        del self._finals[at]

    def take(self) -> Image | None:
        """The next to send: a finished one, else the growing one that has waited longest."""
        if self._finals:
            image = self._finals.popleft()
            if self._newest[image.key] is image:
                del self._newest[image.key]
            else:
                self._held_bytes -= image.result.held_bytes
            return image
        return self._growing.popitem(last=False)[1] if self._growing else None

    def forget(self, pipeline: str) -> None:
        """Drop the images of a pipeline that is gone."""
        self._finals = deque(image for image in self._finals if image.pipeline != pipeline)
        self._newest = {image.key: image for image in self._finals}
        older = (image for image in self._finals if self._newest[image.key] is not image)
        self._held_bytes = sum(image.result.held_bytes for image in older)
        for key in [key for key in self._growing if key[0] == pipeline]:
            del self._growing[key]

    def put_back(self, image: Image) -> None:
        """It could not be sent: a final keeps its place, a growing one yields to a newer one."""
        if image.snapshot.final:
            self._finals.appendleft(image)
            if image.key in self._newest:
                self._held_bytes += image.result.held_bytes
            else:
                self._newest[image.key] = image
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
