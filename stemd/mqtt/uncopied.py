"""Sending a large payload from where it is: paho puts a copy of it behind the packet's head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

UNCOPIED_BYTES = 1024 * 1024
"""Payloads from this size on are not copied; the copy of a smaller one costs nothing."""


class Packet:
    """A packet's head and its payload, one behind the other: what paho asks of a packet."""

    def __init__(self, head: bytes | bytearray, payload: bytes) -> None:
        self._head, self._payload = memoryview(head), memoryview(payload)

    def __len__(self) -> int:
        return len(self._head) + len(self._payload)

    def __getitem__(self, part: slice) -> memoryview:
        """From `part.start` on as far as one of the two goes: paho asks for the rest later.

        Slices of a view cost nothing; of bytes each would copy all that is still to be sent.
        """
        start = part.start or 0
        beyond = start - len(self._head)
        return self._head[start:] if beyond < 0 else self._payload[beyond:]


class _Elsewhere(bytes):
    """An empty payload that says how long the one is for which it stands."""

    size = 0

    def __len__(self) -> int:
        return self.size


class Uncopied:
    """Stands before a client's `_send_publish` and `_packet_queue`, of one event loop."""

    def __init__(self, publish: Callable[..., Any], queue: Callable[..., Any]) -> None:
        self._publish, self._queue = publish, queue
        self._payload = b""

    def send_publish(
        self, mid: int, topic: bytes, payload: bytes = b"", *rest: Any, **more: Any
    ) -> Any:
        """Have the head made, and the payload queued behind it."""
        if len(payload) < UNCOPIED_BYTES:
            return self._publish(mid, topic, payload, *rest, **more)
        elsewhere = _Elsewhere()
        elsewhere.size = len(payload)
        self._payload = payload
        try:
            return self._publish(mid, topic, elsewhere, *rest, **more)
        finally:
            self._payload = b""

    def packet_queue(self, command: int, packet: bytes, *rest: Any, **more: Any) -> Any:
        """Queue a packet, with the payload for which it was made."""
        payload, self._payload = self._payload, b""
        return self._queue(command, cast("bytes", Packet(packet, payload)), *rest, **more)
