"""The live settings in force: changed as a whole, told to everybody, noted in the scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from stemd.acquisition import Scan, iso_utc
from stemd.adapters.recordings.mask_file import REMEDY
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.problems import Problem
from stemd.config.resolved import PipelineConfig
from stemd.daemon.pipeline.kept_settings import KeptSettings
from stemd.daemon.pipeline.mask_files import MaskFiles
from stemd.events import Hub, Json
from stemd.logs import get_logger
from stemd.scan.doubts import doubts_of

log = get_logger(__name__)


class SettingsInForce:
    """Owner of a pipeline's live settings.

    Changed on the event loop only; `live` is an immutable object that any thread may read.
    `set_scan` tells the adapter, `note` gets an entry for the running scan's history. What was
    changed is `kept` for the next start, until `reset`. `doubted` is told what no experiment says
    of new settings, of a detector of `detector_shape` where that is known.
    """

    def __init__(
        self,
        config: PipelineConfig,
        hub: Hub,
        set_scan: Callable[[Scan], None],
        note: Callable[[Json], None],
        kept: KeptSettings,
        doubted: Callable[[str], None] = lambda doubt: None,
        detector_shape: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        before, self._refused = LiveSettings.of(config).as_far_as_allowed(kept.read())
        self.live = before.renumbered(1)
        self.masks = MaskFiles()
        self._config, self._hub, self._kept = config, hub, kept
        self._set_scan, self._note = set_scan, note
        self._doubted, self._detector_shape = doubted, detector_shape

    async def prepare(self, request: Mapping[str, Any]) -> None:
        """Read the mask file that a change asks for. Raises RefusedError where there is none."""
        await self.masks.read_for(request, self.live.engines.optics)

    async def prepare_reset(self) -> None:
        """The same for the config's settings."""
        optics = LiveSettings.of(self._config).engines.optics
        if not self.masks.knows(optics):
            await self.masks.read(optics, self.live.engines.optics)

    async def read_mask(self) -> RefusedError | None:
        """Read the mask file of the settings in force, unless it is kept; why that is refused."""
        optics = self.live.engines.optics
        if not self.masks.knows(optics):
            try:
                await self.masks.read(optics)
            except RefusedError as error:
                return error
        return None

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change settings as a whole. Raises RefusedError; nothing is changed then.

        A mask file must have been read before, see `prepare`.
        """
        live = self.live.changed(request)
        self._refuse_unread(live)
        self._put_in_force(live, {key: value for key, value in request.items() if key != "id"})
        return live

    def _refuse_unread(self, live: LiveSettings) -> None:
        new = live.engines.optics
        if new.mask != self.live.engines.optics.mask and not self.masks.knows(new):
            raise RefusedError(
                Problem(("optics", "mask"), "the file has not been read", "", REMEDY)
            )

    def new_doubts(self, before: LiveSettings, after: LiveSettings) -> list[str]:
        """What is to be doubted of `after`, and was not of `before`."""
        shape = self._detector_shape()
        old = doubts_of(before.engines, shape)
        return [doubt for doubt in doubts_of(after.engines, shape) if doubt not in old]

    def left_out(self) -> list[tuple[str, str, str]]:
        """What was kept and is not in force: its key, what is to be said, and a remedy.

        The config of today does not allow it, or it is another camera's ("" for the key).
        """
        found = [
            (
                key,
                f"{key} was changed live, and is not any more: {error.message}",
                error.remedy or "set it again, or `reset`",
            )
            for key, error in self._refused.items()
        ]
        if foreign := self._kept.foreign:
            found.append(("", foreign, "set them again if they are right for this camera"))
        return found

    def reset(self) -> None:
        """The config's settings again, under a new revision."""
        live = LiveSettings.of(self._config).renumbered(self.live.revision + 1)
        self._put_in_force(live, {"reset": True})

    @property
    def changed(self) -> Json:
        """What is not as in the config, as {"section.key": value}."""
        return self.live.differences(LiveSettings.of(self._config))

    def begin(self) -> None:
        """The adapter is there: tell it, and everybody, what is in force."""
        if (changed := self.changed) and self.live.engines.scan is not None:
            self._set_scan(self.live.engines.scan)
        if changed:
            log.info(
                "settings that were changed live are in force again",
                pipeline=self._config.name,
                changed=list(changed),
            )
        self.publish()

    def now_of(self, config: PipelineConfig) -> None:
        """The settings in force have been written into the config, which is this one now."""
        self._config = config
        self._kept.keep(self.changed)
        self.publish()

    async def close(self) -> None:
        """Write down what is to be kept."""
        await self._kept.close()

    def publish(self) -> None:
        """Tell what is in force, and what of it is not as in the config."""
        document = {**self.live.as_json(), "changed": list(self.changed)}
        self._hub.settings(self._config.name, document)

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
        for doubt in self.new_doubts(self.live, live):
            self._doubted(doubt)
        self.live = live
        self._kept.keep(self.changed)
        self.publish()
