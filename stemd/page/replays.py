"""Replays on the page: who may have one of which scan, one at a time for each pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from stemd.config.resolved import PipelineConfig
from stemd.documents import compact_json
from stemd.installation import ReplacedError
from stemd.logs import get_logger
from stemd.offline.idle import spare_memory
from stemd.offline.replay.player import Player
from stemd.offline.replay.wire import PIPELINE, ReplayJob
from stemd.page import protocol
from stemd.page.access import Access
from stemd.page.viewer import Viewer
from stemd.storage.archive import Archive, Record

Json = dict[str, Any]
ConfigOf = Callable[[str], PipelineConfig | None]

IMAGES_ONLY = "its finished images can be replayed"

log = get_logger(__name__)


class Replays:
    """Starts and ends replays for viewers; a viewer has one at most."""

    def __init__(self, archive: Archive, config_of: ConfigOf, access: Access) -> None:
        self._archive = archive
        self._config_of = config_of
        self._access = access
        self._players: dict[Viewer, Player] = {}
        self._taken: dict[str, Viewer] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def hear(self, viewer: Viewer, message: protocol.Replay) -> None:
        """Start, change or end a viewer's replay."""
        player = self._players.get(viewer)
        if message.action == "stop":
            await self.leave(viewer)
        elif not viewer.operator:
            _refuse(viewer, message.scan, self._access.refusal, IMAGES_ONLY)
        elif message.action == "start":
            await self.leave(viewer)
            await self._start(viewer, message)
        elif player is not None:
            player.ask("pace", seconds=message.seconds, paused=message.paused, again=message.again)

    def request(self, viewer: Viewer, message: protocol.Request) -> bool:
        """A settings change or a command for a viewer's replay; the replay sends the reply."""
        player = self._players.get(viewer)
        return player is not None and player.ask(message.kind, request=message.request)

    def watch(self, viewer: Viewer) -> None:
        """The viewer wants other images."""
        if (player := self._players.get(viewer)) is not None:
            player.watch(_watched(viewer))

    async def leave(self, viewer: Viewer) -> None:
        """End a viewer's replay, if there is one."""
        player = self._players.pop(viewer, None)
        if player is not None:
            # the page may close while a viewer's socket is closing: its process is waited for
            ending = asyncio.create_task(player.end(), name="end of a replay")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)
        for pipeline in [name for name, owner in self._taken.items() if owner is viewer]:
            del self._taken[pipeline]

    async def close(self) -> None:
        """End all; returns when every process has gone."""
        await asyncio.gather(*(self.leave(viewer) for viewer in list(self._players)))
        await asyncio.gather(*self._ending)

    async def _start(self, viewer: Viewer, message: protocol.Replay) -> None:
        record = await asyncio.to_thread(self._archive.record, message.scan)
        if record is None:
            _refuse(viewer, message.scan, "no record of this scan has been kept", IMAGES_ONLY)
            return
        config = self._config_of(record.pipeline)
        if config is None:
            text = f"there is no pipeline {record.pipeline!r} any more to replay the record with"
            _refuse(viewer, message.scan, text, IMAGES_ONLY)
            return
        owner = self._taken.get(config.name)
        if owner is not None and (other := self._players.get(owner)) and not other.over.is_set():
            text = f"another viewer replays a scan of {config.name}"
            _refuse(viewer, message.scan, text, f"try again later; meanwhile {IMAGES_ONLY}")
            return
        self._taken[config.name] = viewer
        self._players[viewer] = player = self._player(viewer, record, config, message.seconds)
        log.info("a past scan is replayed", scan=message.scan, pipeline=config.name)
        try:
            await player.start()
        except ReplacedError as error:
            del self._players[viewer], self._taken[config.name]
            _refuse(viewer, message.scan, error.message, f"{error.remedy}; {IMAGES_ONLY}")
            return
        player.watch(_watched(viewer))

    def _player(
        self, viewer: Viewer, record: Record, config: PipelineConfig, seconds: float
    ) -> Player:
        job = ReplayJob(
            config=config,
            scan_id=record.scan_id,
            record=record.path,
            scan=record.scan,
            settings=record.settings,
            seconds=seconds,
            memory_bytes=spare_memory(),
            camera=record.camera,
        )

        def told(kind: str, text: str) -> None:
            if kind == "reply":
                viewer.reply(text)
            else:
                viewer.retain(kind, PIPELINE, text)

        async def shown(name: str, frame: bytes) -> None:
            await viewer.give((PIPELINE, name), frame)

        return Player(job, told, shown)


def _watched(viewer: Viewer) -> dict[str, int]:
    return {name: side for (pipeline, name), side in viewer.watched.items() if pipeline == PIPELINE}


def _refuse(viewer: Viewer, scan: str, message: str, remedy: str) -> None:
    document = {"state": "refused", "scan": scan, "message": message, "remedy": remedy}
    viewer.retain(
        "replay",
        PIPELINE,
        compact_json({"type": "replay", "pipeline": PIPELINE, "document": document}),
    )
