"""One pipeline: builds its parts, joins them, and is what the rest of the daemon talks to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stemd.config.live import LiveSettings
from stemd.config.resolved import PipelineConfig
from stemd.config.save import save_settings
from stemd.config.session_plan import SessionPlan
from stemd.daemon.pipeline.building import watch_building
from stemd.daemon.pipeline.camera_control import CameraControl
from stemd.daemon.pipeline.commands import Commands
from stemd.daemon.pipeline.disk_side import DiskSide
from stemd.daemon.pipeline.events import Completions, Events
from stemd.daemon.pipeline.finishing import Finishing
from stemd.daemon.pipeline.fruitless import watch_stream
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.kept_settings import KeptSettings
from stemd.daemon.pipeline.mask_watch import read_mask, watch_mask
from stemd.daemon.pipeline.posting import posting
from stemd.daemon.pipeline.reader import Reader
from stemd.daemon.pipeline.reader_side import ReaderSide
from stemd.daemon.pipeline.report import Report
from stemd.daemon.pipeline.scans import Scans
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.daemon.pipeline.status import State, Status, watch
from stemd.daemon.pipeline.troubles import Troubles
from stemd.daemon.sessions.files import SessionFiles
from stemd.daemon.sessions.sessions import Sessions
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.logs import get_logger
from stemd.request_queue import is_urgent
from stemd.results import Snapshot
from stemd.storage.description import describe
from stemd.storage.files import FileRecord
from stemd.storage.store import Store
from stemd.tasks import Tasks

JOIN_S, WRITE_S = 1.0, 18.0

log = get_logger(__name__)


class Pipeline:
    """Adapter, engines and sinks of one camera. All methods are called on the event loop.

    The work is done by the parts, each of which owns what it changes: `docs/adr/0013` says which
    part owns what, and which thread calls it. `left_out` are engines that are not ready, and why.
    """

    def __init__(
        self,
        config: PipelineConfig,
        hub: Hub,
        store: Store,
        past: Completions,
        config_file: Path | None = None,
        left_out: Mapping[str, StemdError] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.name = config.name
        self.commanding = asyncio.Lock()
        """Held by whoever changes what is kept of finished scans."""
        post = posting(asyncio.get_running_loop(), config.name)
        self.troubles = Troubles(config.name, hub)
        self.status = Status(
            config.name, hub, self.troubles, lambda: self._scans.activity, self.document
        )
        self.settings = SettingsInForce(
            config,
            hub,
            lambda scan: self.reader.adapter.set_scan(scan),
            lambda entry: self._scans.note_change(entry),
            KeptSettings(store.data_dir, store.instrument, config.name, config.adapter_plugin.name),
            lambda doubt: self.troubles.tell("warning", doubt, "", "settings"),
            lambda: self._scans.detector_shape or config.adapter.detector_shape(),
        )
        self._config_file = config_file
        self.sessions = Sessions(
            config.name, self, SessionFiles(store), partial(hub.document, config.name)
        )
        self.disk = DiskSide(
            self.troubles, self.sessions, lambda: self._scans.not_kept, self.status.update
        )
        self._events = Events(
            config.name,
            hub,
            self.settings,
            self.troubles,
            self.status,
            self.sessions,
            past,
            self.disk,
            self._use_measured,
        )
        images = PublishedImages(config.name, hub, lambda: self.live, post)
        self._finishing = Finishing(config.name, self.settings, images, self._events)
        self._scans = Scans(
            config, store, self.settings, images, self._finishing, self._events, post, left_out
        )
        self.reader = Reader(
            config.name,
            partial(config.adapter_plugin.build, config.adapter),
            ReaderSide(self.settings, self._scans, self._events, post),
        )
        self._camera = CameraControl(config.name, self.reader.adapter.command)
        self.report = Report(
            self.reader,
            self._scans,
            self._finishing,
            images,
            self.status,
            self.troubles,
            self.disk,
            lambda: self.sessions.current,
            partial(past.document, config.name),
        )
        self._commands = Commands(
            config,
            self.settings,
            self._scans,
            self._finishing,
            images,
            self.sessions,
            camera=self.camera,
            reconnect=self.reader.reconnect,
            reset=self.reset,
            save_settings=self._save_settings,
            complete=past.offer,
            describe=partial(describe, store, config.name),
        )
        self.tasks = Tasks()

    async def read_mask(self) -> None:
        """Read the mask file of the settings in force, before the first scan."""
        await read_mask(self.settings, self.troubles)

    def start(self, plans: Sequence[SessionPlan] = ()) -> None:
        """Begin to read the camera, and go on with sessions."""
        self.status.start()
        self.settings.begin()
        for key, text, remedy in self.settings.left_out():
            self.troubles.tell("warning", text, remedy, "settings", of=key)
        self.reader.start()
        self.tasks.keep(
            lambda: watch(
                self.name,
                self.status,
                self.troubles,
                self.report.stalled,
                self._revive,
                self.report.camera_status,
            ),
            f"state-{self.name}",
        )
        self.tasks.keep(
            lambda: watch_stream(self.reader, self.status, self.troubles), f"stream-{self.name}"
        )
        self.tasks.keep(
            lambda: watch_mask(self.settings, self.troubles, self.state_changed),
            f"mask-{self.name}",
        )
        kind = self.config.adapter_plugin.name
        self.tasks.keep(
            lambda: watch_building(self.reader.adapter, kind, self.status, self.troubles),
            f"build-{self.name}",
        )
        self.sessions.start(plans)

    async def stop(self) -> None:
        """End the running scan, write what there is, end the threads."""
        await self.sessions.suspend()
        self._scans.close()
        self.reader.close()
        if not await asyncio.to_thread(self.reader.join, JOIN_S):
            log.error("the reader is stuck and is abandoned", pipeline=self.name)
        await asyncio.sleep(0)  # what the reader's thread posted last
        self._scans.abandon_all("stemd was stopped")
        self.status.update()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.status.idle.wait(), WRITE_S)
        await self.sessions.close()
        await self.tasks.stop()
        await self.settings.close()
        self.status.stop()

    # What others ask for

    @property
    def live(self) -> LiveSettings:
        """The live settings in force."""
        return self.settings.live

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change live settings as a whole. Raises RefusedError."""
        return self.settings.change(request)

    async def prepare(self, request: Mapping[str, Any]) -> None:
        """Read what a change of settings names on the disk. Raises RefusedError."""
        await self.settings.prepare(request)

    async def changed(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change them, and return when the camera's adapter knows. Raises RefusedError."""
        await self.prepare(request)
        live = self.change(request)
        await self.reader.adapter.asking.told()
        return live

    async def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry a command out. Raises StemdError.

        What ends something touches nothing of finished scans: it waits for no other command.
        """
        if is_urgent(name, args):
            result = await self._commands.carry_out(name, args)
        else:
            async with self.commanding:
                result = await self._commands.carry_out(name, args)
                await self.reader.adapter.asking.told()
        self.state_changed()
        return result

    async def camera(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """A camera command through the adapter. Raises StemdError."""
        return await self._camera(name, args)

    def reset(self) -> None:
        """The config's settings, no error, and another try for an adapter that has failed."""
        self.settings.reset()
        self.troubles.over()
        self.reader.restarts.retry()
        self.state_changed()

    # What others look at

    @property
    def state(self) -> State:
        """The state that people see."""
        return self.status.state

    @property
    def linked(self) -> bool:
        """Whether the camera is connected."""
        return self.status.linked

    @property
    def dead(self) -> bool:
        """Whether the reader's thread has died."""
        return self.reader.dead

    def document(self) -> Json:
        """The state document of A3."""
        return self.report.state()

    # What others tell

    def state_changed(self) -> None:
        """Publish the state that follows from what is going on."""
        self.status.update()

    def session_refused(self, name: str, error: StemdError | None) -> None:
        """Why a session of the config cannot begin; None: that is over."""
        if error is None:
            self.troubles.over("session", of=name)
        else:
            text = f"the session {name!r} cannot begin: {error.message}"
            if self.troubles.message("session", name) == text:
                return
            self.troubles.error(StemdError(text, error.remedy), "session", of=name)
        self.state_changed()

    def completed(self, snapshot: Snapshot, files: Sequence[FileRecord], completion: Json) -> None:
        """Images of a past scan have been made again from its record, and written."""
        self._finishing.completed(snapshot, files, completion)
        self._events.completed()

    def not_completed(self, scan_id: str, completion: Json) -> None:
        """Images of a past scan stay as they were when it ended."""
        self._finishing.not_completed(scan_id, completion)

    async def _save_settings(self) -> list[str]:
        """Write the settings in force into the config file; returns which. Raises StemdError."""
        if self._config_file is None:
            raise StemdError(
                "this daemon was started without a config file", "write one, and stemd run it"
            )
        live, changed = self.live, list(self.settings.changed)
        self.config = await asyncio.to_thread(save_settings, self._config_file, self.config, live)
        self.settings.now_of(self.config)
        return changed

    def _use_measured(self, scan: str, optics: Json) -> None:
        """See `Commands.use_measured`; returns at once."""
        self.tasks.start(self._used(scan, optics), f"measured-optics-{self.name}")

    async def _used(self, scan: str, optics: Json) -> None:
        try:
            async with self.commanding:
                await self._commands.use_measured(scan, optics)
        except StemdError as error:
            text = f"the measured optics cannot be used: {error.message}"
            self.troubles.tell("warning", text, error.remedy, "optics")

    def _revive(self) -> None:
        """Begin threads again that have died."""
        if self.reader.revive():
            self.status.linked = False
            self.sessions.there("camera", there=False)
            self.troubles.tell(
                "error",
                f"the reader's thread of {self.name} has died and is begun again",
                "see the daemon's log",
                "adapter",
            )
            self.state_changed()
        for run in self._scans.revive():
            text = f"scan {run.acquisition.id}: its engines' thread has died"
            self._events.scan_not_finished(run, StemdError(text, "see the daemon's log"))
