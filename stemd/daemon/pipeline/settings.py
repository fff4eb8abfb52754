"""The live settings in force: changed as a whole, told to everybody, noted in the scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from stemd.acquisition import Scan, iso_utc
from stemd.config.live import LiveSettings
from stemd.config.resolved import PipelineConfig
from stemd.events import Hub, Json


class SettingsInForce:
    """Owner of a pipeline's live settings.

    Changed on the event loop only; `live` is an immutable object that any thread may read.
    `set_scan` tells the adapter, `note` gets an entry for the running scan's history.
    """

    def __init__(
        self,
        config: PipelineConfig,
        hub: Hub,
        set_scan: Callable[[Scan], None],
        note: Callable[[Json], None],
    ) -> None:
        self.live = LiveSettings.of(config)
        self._config, self._hub = config, hub
        self._set_scan, self._note = set_scan, note

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change settings as a whole. Raises RefusedError; nothing is changed then."""
        live = self.live.changed(request)
        self._put_in_force(live, {key: value for key, value in request.items() if key != "id"})
        return live

    def reset(self) -> None:
        """The config's settings again, under a new revision."""
        live = LiveSettings.of(self._config).renumbered(self.live.revision + 1)
        self._put_in_force(live, {"reset": True})

    def publish(self) -> None:
        """Tell what is in force."""
        self._hub.settings(self._config.name, self.live.as_json())

    def _put_in_force(self, live: LiveSettings, changes: Mapping[str, Any]) -> None:
        scan = live.engines.scan
        if scan is not None and scan != self.live.engines.scan:
            self._set_scan(scan)
        now = time.time_ns()
        self._note(
            {
                "revision": live.revision,
                "time": iso_utc(now),
                "time_ns": now,
                "changes": dict(changes),
            }
        )
        self.live = live
        self.publish()
