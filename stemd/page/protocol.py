"""What a viewer may say to the page, pure: small JSON messages in.

What goes out are JSON texts and the image frames of `stemd.image_frames`. docs/page.md describes
every message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stemd.typed import Table

MAX_INBOUND_BYTES = 320 * 1024
"""Longest message a viewer may send: the text of the longest config file, escaped."""

Name = Annotated[str, Field(min_length=1, max_length=80)]
Side = Annotated[int, Field(ge=0, le=65536)]


class _Inbound(Table):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Watch(_Inbound):
    """The images a viewer wants from now on, all of them: {pipeline: {image: longest side}}.

    The side is in pixels: a larger image is sent reduced by a power of two; 0 sends every pixel.
    With `bundle` the viewer takes thumbnails together, several frames in one binary message,
    with `short` pixels of 16 bits, half the bytes.
    """

    type: Literal["watch"]
    images: Annotated[
        dict[Name, Annotated[dict[Name, Side], Field(max_length=64)]], Field(max_length=64)
    ]
    bundle: bool = False
    short: bool = False


class Drawn(_Inbound):
    """Images have been drawn: the viewer is ready for newer ones of these names."""

    type: Literal["drawn"]
    pipeline: Name
    name: Name | Annotated[list[Name], Field(min_length=1, max_length=128)]

    @property
    def names(self) -> list[str]:
        """The names, also where only one was sent."""
        return [self.name] if isinstance(self.name, str) else self.name


class Token(_Inbound):
    """The operator's token: from now on this viewer may change settings."""

    type: Literal["token"]
    token: Annotated[str, Field(max_length=1024)]


class Request(_Inbound):
    """A settings change or a command for a pipeline; `request` as on MQTT.

    Of the kind "config" it is about the daemon's config file, and the pipeline is `daemon`.
    """

    type: Literal["request"]
    pipeline: Name
    kind: Literal["settings", "command", "config"]
    request: dict[str, Any]


class Replay(_Inbound):
    """A past scan is to grow again from its record, for this viewer alone.

    `seconds` is how long the whole scan takes. "pace" changes the running replay: other seconds,
    paused or not, or `again` from the first line.
    """

    type: Literal["replay"]
    action: Literal["start", "pace", "stop"]
    scan: Annotated[str, Field(max_length=80)] = ""
    seconds: Annotated[float, Field(ge=1.0, le=86400.0)] = 20.0
    paused: bool = False
    again: bool = False


Inbound = Watch | Drawn | Token | Request | Replay
_DRAWN = '{"type":"drawn"'
_inbound: TypeAdapter[Inbound] = TypeAdapter(Annotated[Inbound, Field(discriminator="type")])


def parse(text: str) -> Inbound:
    """One message of a viewer. Raises ValueError with one readable line."""
    # most messages are these few, word for word, from every viewer
    return _parse_often(text) if text.startswith(_DRAWN) else _parse(text)


@lru_cache(maxsize=256)
def _parse_often(text: str) -> Inbound:
    return _parse(text)


def _parse(text: str) -> Inbound:
    try:
        return _inbound.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise ValueError(f"{where}: {first['msg']}") from error
