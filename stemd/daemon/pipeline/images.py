"""The images that a pipeline publishes: the newest while they grow, and all finished ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from stemd.config.live import LiveSettings
from stemd.daemon.pipeline.posting import Post
from stemd.events import Hub
from stemd.results import Snapshot


class PublishedImages:
    """Passes snapshots on to the hub, as many of their images as the settings ask for.

    Growing images come from the engines' threads and wait in one place for the event loop: a
    loop that is late gets only the newest. All else is called on the event loop.
    """

    def __init__(
        self, pipeline: str, hub: Hub, live: Callable[[], LiveSettings], post: Post
    ) -> None:
        self.newest: Snapshot | None = None
        """What `save` writes while a scan runs."""
        self.replaced = 0
        """Growing images that were replaced by newer ones before the event loop took them."""
        self._pipeline, self._hub, self._live, self._post = pipeline, hub, live, post
        self._growing = False
        self._waiting: Snapshot | None = None
        self._lock = threading.Lock()

    def offer(self, snapshot: Snapshot) -> None:
        """Growing images (engines' thread)."""
        with self._lock:
            waited = self._waiting is not None
            self._waiting = snapshot
            self.replaced += waited
        if not waited:
            self._post(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            snapshot, self._waiting = self._waiting, None
        if snapshot is not None:
            self.newest = snapshot
            self.publish(snapshot)

    def scan_began(self) -> None:
        """There are no images of the running scan yet."""
        self._growing, self.newest = True, None

    def scan_ended(self) -> None:
        """No scan is running; finished images may be the newest."""
        self._growing = False

    def keep(self, final: Snapshot) -> None:
        """These are the newest images, unless the next scan has begun."""
        if not self._growing:
            self.newest = final

    def publish_final(self, snapshot: Snapshot) -> None:
        """Publish finished images."""
        self.keep(snapshot)
        self.publish(snapshot)

    def publish(self, snapshot: Snapshot) -> None:
        """Publish images."""
        self._hub.snapshot(self._pipeline, self._chosen(snapshot))

    def completed(self, snapshot: Snapshot) -> None:
        """Publish images of a past scan that have been made again from its record."""
        self._hub.completed(self._pipeline, self._chosen(snapshot))

    def _chosen(self, snapshot: Snapshot) -> Snapshot:
        wanted = self._live().publish.images
        if wanted is None:
            return snapshot
        return replace(snapshot, results=[r for r in snapshot.results if r.name in wanted])
