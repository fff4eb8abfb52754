"""Which images have a picture sent beside them, and how often: no scan must become slower by it."""

from __future__ import annotations

import time

from stemd.events import Json
from stemd.mqtt.mailbox import Image

PERIOD_S = 1.0
"""Between two pictures of one growing image."""
SHARE = 0.1
"""Which part of a core the pictures of growing images take, at most."""


class Previews:
    """Pictures of pipelines that ask for them by `publish.preview`.

    A finished image always has its picture, which the broker keeps for whoever comes later.
    """

    def __init__(self) -> None:
        self._kept: set[tuple[str, str]] = set()
        self._wanted: set[str] = set()
        self._next: dict[tuple[str, str], float] = {}
        self._rests_until = 0.0

    def on_settings(self, pipeline: str, settings: Json) -> set[tuple[str, str]]:
        """A pipeline's live settings; returns the images whose kept pictures nobody wants more."""
        if (settings.get("publish") or {}).get("preview"):
            self._wanted.add(pipeline)
            return set()
        return self.forget(pipeline)

    def forget(self, pipeline: str) -> set[tuple[str, str]]:
        """The pipeline is gone; returns the images whose pictures the broker keeps."""
        self._wanted.discard(pipeline)
        self._next = {key: at for key, at in self._next.items() if key[0] != pipeline}
        kept = {key for key in self._kept if key[0] == pipeline}
        self._kept -= kept
        return kept

    def wanted(self, pipeline: str) -> bool:
        """Whether its images have pictures."""
        return pipeline in self._wanted

    def due(self, image: Image) -> bool:
        """Whether this image is to have a picture now."""
        if image.pipeline not in self._wanted:
            return False
        now = time.monotonic()
        return image.snapshot.final or now >= max(self._rests_until, self._next.get(image.key, 0.0))

    def made(self, image: Image, seconds: float) -> None:
        """It has been made, which took so long."""
        now = time.monotonic()
        if image.snapshot.final:
            self._kept.add(image.key)
        self._next[image.key] = now + PERIOD_S
        self._rests_until = now + seconds * (1.0 / SHARE - 1.0)
