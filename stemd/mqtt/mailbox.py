"""What waits to be published: small, bounded, the newest first where only the newest counts."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from stemd.mqtt.connection import Outgoing
from stemd.results import Result, Snapshot

MAX_DOCUMENTS = 1000
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
        """Memory of its pixels."""
        return self.result.image.nbytes


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

    def put_back(self, image: Image) -> None:
        """It could not be sent: a final keeps its place, a growing one yields to a newer one."""
        if image.snapshot.final:
            self._finals.appendleft(image)
            self._final_bytes += image.bytes
        elif image.key not in self._growing:
            self._growing[image.key] = image
            self._growing.move_to_end(image.key, last=False)


class Outbox:
    """Documents in the order in which they were left.

    `newest` replaces an unsent message on the same topic (states, settings, health); `queue`
    keeps every one (scan documents, replies, log lines) up to `limit`, then drops the oldest
    of those that may be dropped, counted.
    """

    def __init__(self, limit: int = MAX_DOCUMENTS) -> None:
        self.dropped = 0
        self._limit = limit
        self._next = 0
        self._waiting: OrderedDict[str | int, Outgoing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def newest(self, message: Outgoing) -> None:
        """Leave a message that makes an unsent one on its topic worthless."""
        self._waiting[message.topic] = message

    def queue(self, message: Outgoing) -> None:
        """Leave a message that is to be sent whatever comes after it."""
        self._waiting[self._next] = message
        self._next += 1
        if len(self._waiting) > self._limit:
            self._drop_one()

    def _drop_one(self) -> None:
        """The oldest of the least worth: log lines and replies (QoS 0) before scan documents."""
        queued = [key for key in self._waiting if isinstance(key, int)]
        cheap = (key for key in queued if self._waiting[key].qos == 0)
        del self._waiting[next(cheap, queued[0])]
        self.dropped += 1

    def peek(self) -> tuple[str | int, Outgoing] | None:
        """The oldest, which stays until `sent`."""
        return next(iter(self._waiting.items()), None)

    def sent(self, key: str | int, message: Outgoing) -> None:
        """It is out: forget it unless it was replaced meanwhile."""
        if self._waiting.get(key) is message:
            del self._waiting[key]
