"""The virtual microscope's lens drives, moved by MQTT as control software moves a real one's."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from stemd.aberrations import Aberrations
from stemd.documents import from_json
from stemd.errors import FormatError, UsageError
from stemd.logs import get_logger

TOPIC = "virtual-microscope"
AXES = {
    "defocus_nm": "defocus",
    "stigmator_x_nm": "astigmatism_x",
    "stigmator_y_nm": "astigmatism_y",
}
"""What can be moved, and which aberration it moves."""
MOST_NM = 10_000.0

log = get_logger()


def move_of(payload: bytes) -> Aberrations:
    """By how much a message moves the lens. Raises ValueError with one readable line."""
    try:
        asked = from_json(payload)
    except FormatError as error:
        raise ValueError(f"it {error.message}") from error
    if not isinstance(asked, dict) or not asked or not asked.keys() <= AXES.keys():
        raise ValueError(f"an object with any of {', '.join(AXES)} is needed")
    parts: dict[str, float] = {}
    for key, value in asked.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or abs(value) > MOST_NM:
            raise ValueError(f"{key} = {value!r} is no length in nm up to {MOST_NM:g}")
        parts[AXES[key]] = 10.0 * value
    return Aberrations(**parts)


class Drives:
    """Listens at `<topic>/move` and tells at `<topic>/state` how far it has been moved.

    A move is relative, as JSON: {"defocus_nm": -12.3, "stigmator_x_nm": 0.4}. `move` is called by
    a thread of MQTT's.
    """

    def __init__(self, url: str, move: Callable[[Aberrations], None], topic: str = TOPIC) -> None:
        address = urlsplit(url)
        if address.scheme != "mqtt" or not address.hostname:
            raise UsageError(f"--drives {url} is no address", "for example mqtt://127.0.0.1:1883")
        self._move, self._topic = move, topic
        self._moved, self._lock = Aberrations(), threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._connected
        self._client.on_message = self._heard
        self._client.reconnect_delay_set(1, 2)
        self._client.connect_async(address.hostname, address.port or 1883)

    def start(self) -> None:
        """Connect, for as long as it takes, in a thread of its own."""
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(f"{self._topic}/move", 1)
        self._tell()

    def _heard(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.retain:
            return
        try:
            change = move_of(bytes(message.payload))
        except ValueError as error:
            log.warning("a move of the drives is refused", reason=str(error))
            return
        with self._lock:
            self._moved = self._moved.plus(change)
        self._move(change)
        self._tell()

    def _tell(self) -> None:
        moved = {key: getattr(self._moved, name) / 10 for key, name in AXES.items()}
        self._client.publish(f"{self._topic}/state", json.dumps({"moved": moved}), 1, retain=True)


@contextmanager
def driven(url: str | None, move: Callable[[Aberrations], None]) -> Iterator[None]:
    """Drives for as long as this lasts; none without an address. Raises UsageError."""
    if url is None:
        yield
        return
    drives = Drives(url, move)
    drives.start()
    try:
        yield
    finally:
        drives.stop()
