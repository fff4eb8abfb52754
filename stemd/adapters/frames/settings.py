"""What every frame camera's table in the config has."""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from stemd.adapters.base import AdapterSettings, HostName

Port = Annotated[int, Field(ge=1, le=65535)]
LinkAddress = Annotated[str, Field(pattern=r"^[^\s:]+:0*[1-9][0-9]{0,4}$")]
"""A host and a port."""


class FrameSettings(AdapterSettings):
    """What every frame camera's config table has.

    `idle_timeout_s`: a scan that is at its end, but for its last line, and of which nothing has
    come for so long, is over. `pause_timeout_s`: the same for a scan in its middle, which may only
    pause. `receive_buffer` is the socket's, in bytes. `links`: addresses "host:port" of all links
    that bring frames of one scan, two or more, each frame by one of them.
    """

    host: HostName = "127.0.0.1"
    links: Annotated[tuple[LinkAddress, ...], Field(max_length=64)] = ()
    idle_timeout_s: Annotated[float, Field(gt=0.0, le=30 * 86400.0)] = 2.0
    pause_timeout_s: Annotated[float, Field(ge=0.0, le=30 * 86400.0)] = 30.0
    receive_buffer: Annotated[int, Field(ge=65536, le=1 << 30)] = 4 * 1024 * 1024

    @model_validator(mode="after")
    def _links_are_several(self) -> Self:
        if len(self.links) == 1:
            raise ValueError("links are two or more; of a single one give host and port instead")
        if len(set(self.links)) != len(self.links):
            raise ValueError("links has the same address twice")
        if self.links and self.scan is not None and self.scan.repeats > 1:
            raise ValueError("links and scan.repeats do not go together yet: leave one of them out")
        return self


_S = TypeVar("_S", bound=FrameSettings)


def each_link(settings: _S) -> list[tuple[_S, int]]:
    """The settings and the port of each of the links."""
    found = []
    for link in settings.links:
        host, port = link.rsplit(":", 1)
        found.append((settings.model_copy(update={"host": host, "links": ()}), int(port)))
    return found
