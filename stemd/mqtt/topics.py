"""Topics and payloads of the contract, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from stemd.documents import jsonable, stamped, to_json
from stemd.mqtt.connection import Outgoing
from stemd.mqtt.mailbox import Image
from stemd.storage.png import encode_preview
from stemd.storage.tiff import describe, encode_tiff

Inbound = Literal["settings", "command"]
_INBOUND_SUFFIX: dict[str, Inbound] = {"settings/set": "settings", "command": "command"}
_PIPELINE = r"[^/+#\x00]{1,100}"


class Topics:
    """The topics of one instrument."""

    def __init__(self, instrument: str) -> None:
        self.base = f"stemd/{instrument}"
        self.availability = f"{self.base}/availability"
        self.inbound = tuple(f"{self.base}/+/{suffix}" for suffix in _INBOUND_SUFFIX)
        suffixes = "|".join(_INBOUND_SUFFIX)
        self._inbound = re.compile(f"{re.escape(self.base)}/({_PIPELINE})/({suffixes})")
        self._any = re.compile(f"{re.escape(self.base)}/({_PIPELINE})/.+")

    def of(self, pipeline: str, what: str) -> str:
        """`stemd/<instrument>/<pipeline>/<what>`; the daemon's own pipeline is `daemon`."""
        return f"{self.base}/{pipeline}/{what}"

    def parse(self, topic: str) -> tuple[str, Inbound] | None:
        """(pipeline, kind) of an inbound topic, None for any other."""
        found = self._inbound.fullmatch(topic)
        return (found[1], _INBOUND_SUFFIX[found[2]]) if found else None

    def pipeline_of(self, topic: str) -> str | None:
        """The pipeline that any topic of this instrument belongs to, None for another topic."""
        found = self._any.fullmatch(topic)
        return found[1] if found else None

    def may_answer_at(self, topic: str) -> bool:
        """Whether a requester's response topic is not one that stemd itself speaks or obeys."""
        ours = topic == self.base or topic.startswith(f"{self.base}/")
        return bool(topic) and not ours and topic[0] != "$" and not set(topic) & set("+#\0")


def document(
    topic: str,
    fields: Mapping[str, Any],
    *,
    qos: int = 0,
    retain: bool = False,
    correlation: bytes | None = None,
) -> Outgoing:
    """A JSON message with `time` and `time_ns`."""
    payload = to_json(stamped(fields)).encode()
    return Outgoing(topic, payload, qos, retain, "application/json", correlation=correlation)


def images(topics: Topics, image: Image) -> list[Outgoing]:
    """The message of a growing image, or the two of a finished one: live and retained."""
    topic = topics.of(image.pipeline, f"image/{image.result.name}")
    live = _image(topic, image, retain=False)
    if not image.snapshot.final:
        return [live]
    return [live, Outgoing(f"{topic}/last", live.payload, 1, True, live.content_type, live.user)]


def last_image(topics: Topics, image: Image) -> Outgoing:
    """The retained message of a finished image alone, for a broker that has forgotten it."""
    topic = topics.of(image.pipeline, f"image/{image.result.name}/last")
    return _image(topic, image, retain=True)


def preview(topics: Topics, image: Image) -> Outgoing:
    """The message with a picture of an image, for dashboards; of a finished one it is retained."""
    picture, final = encode_preview(image.result, image.snapshot), image.snapshot.final
    topic = preview_topic(topics, image.key)
    return Outgoing(topic, picture, _qos(image), final, "image/png", _properties(image))


def preview_topic(topics: Topics, key: tuple[str, str]) -> str:
    """Where the pictures of an image go; `key` is its pipeline and its name."""
    return topics.of(key[0], f"image/{key[1]}/preview")


def _image(topic: str, image: Image, *, retain: bool) -> Outgoing:
    payload = encode_tiff(image.result, image.snapshot)
    return Outgoing(topic, payload, _qos(image), retain, "image/tiff", _properties(image))


def _qos(image: Image) -> int:
    """A finished image must arrive, and only an acknowledgement says that it was not too large."""
    return 1 if image.snapshot.final else 0


def _properties(image: Image) -> tuple[tuple[str, str], ...]:
    fields = describe(image.result, image.snapshot)
    return tuple((key, _as_text(value)) for key, value in fields.items())


def _as_text(value: Any) -> str:
    plain = jsonable(value)
    return plain if isinstance(plain, str) else to_json(plain)
