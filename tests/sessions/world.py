"""A microscope room in one process and in virtual time: disk, broker, camera, and daemons that die.

Real are the decisions, sessions, their files, the hub, the owner of the pipelines and the whole
MQTT sink. Not real are the broker's socket, and a pipeline's reader, engines and writers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiomqtt import Message, MqttError, Topic

from stemd.acquisition import iso_utc, new_scan_id
from stemd.config.file import parse
from stemd.config.live import LiveSettings
from stemd.config.mqtt import MqttSettings
from stemd.config.resolved import Config, PipelineConfig
from stemd.config.session_plan import SessionPlan
from stemd.daemon.pipelines import Pipelines
from stemd.daemon.sessions.files import SessionFiles
from stemd.daemon.sessions.sessions import Sessions
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.mqtt.connection import Outgoing
from stemd.mqtt.sink import MqttSink
from stemd.storage.store import Store
from tests.sessions.virtual_time import VirtualLoop

EPOCH_S = 1_790_000_000
SCAN_S = 5.0
RECOVER_S = 2.0
BASE = "stemd/room"
NAMES = ("cam", "eels")
HEAD = '[daemon]\ninstrument = "room"\n'
PIPELINE = """
[[pipeline]]
name = "{}"
[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
idle_timeout_s = {}
scan = {{ shape = [4, 5] }}
[[pipeline.engine]]
type = "ricom"
kernel_size = 3
"""


@cache
def config_of(pipelines: tuple[tuple[str, int], ...], sessions: tuple[str, ...]) -> Config:
    """Pipelines by name and variant, sessions as TOML."""
    tables = [PIPELINE.format(name, 5 + variant) for name, variant in pipelines]
    return parse(HEAD + "".join(tables) + "".join(sessions))


class Broker:
    """Keeps what is retained; daemons come and go."""

    def __init__(self) -> None:
        self.up = True
        self.retained: dict[str, bytes] = {}
        self.connections: list[Connection] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)

    def go(self) -> None:
        self.up = False
        for connection in list(self.connections):
            connection.hang_up()

    def pipelines(self) -> set[str]:
        """Whose topics are retained."""
        topics = (topic.split("/") for topic in self.retained)
        return {parts[2] for parts in topics if len(parts) > 3} - {"daemon"}


class Connection:
    """What `stemd.mqtt` uses of a connection."""

    max_packet_bytes = None
    version5 = True

    def __init__(self, broker: Broker, will: Any) -> None:
        self.inbox: Callable[[Message], None] = lambda message: None
        self.lost: BaseException | None = None
        self.cut = False
        self._broker, self._will, self._over = broker, will, asyncio.Event()
        broker.connections.append(self)

    async def send(self, message: Outgoing) -> None:
        await asyncio.sleep(0)
        if self._over.is_set():
            raise MqttError("the broker has gone")
        self._broker.publish(message.topic, message.payload, retain=message.retain)

    async def listen(self, topics: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for topic, payload in list(self._broker.retained.items()):
            if not self.cut and any(Topic(topic).matches(wanted) for wanted in topics):
                self.inbox(Message(topic, payload, 1, True, 1, None))

    async def unsubscribe(self, topic: str) -> None:
        await asyncio.sleep(0)

    async def ended(self) -> None:
        await self._over.wait()
        raise MqttError("the broker has gone")

    async def close(self, seconds: float) -> None:
        self._will = None
        self.hang_up()

    def hang_up(self) -> None:
        if not self._over.is_set():
            self.lost = MqttError("gone")
            self._over.set()
            self._broker.connections.remove(self)
            if self._will is not None:
                self._broker.publish(self._will.topic, self._will.payload, retain=True)


@dataclass
class Camera:
    """A camera, and what it has truly done."""

    there: bool = True
    scan: str | None = None
    started: int = 0


@dataclass
class Truth:
    """A scan as it truly was."""

    id: str
    pipeline: str
    session: str | None
    status: str = "acquiring"


class Bench:
    """The parts of a pipeline beside its sessions, and the host of these."""

    def __init__(self, room: Room, life: Life, config: PipelineConfig, hub: Hub, store: Store):
        self.config, self.name = config, config.name
        self.live = LiveSettings.of(config)
        self.linked = False
        self.refused: dict[str, str] = {}
        self._room, self._life, self._hub = room, life, hub
        self._stopped = False
        self.sessions = Sessions(
            self.name,
            self,
            SessionFiles(store),
            partial(hub.document, self.name),
            now_ns=room.now_ns,
            boot_id=life.boot_id,
        )

    def start(self, plans: Sequence[SessionPlan] = ()) -> None:
        self._publish("waiting")
        self._hub.settings(self.name, self.live.as_json())
        self.sessions.start(plans)
        asyncio.get_running_loop().call_later(0.5, self.look)

    async def stop(self) -> None:
        await self.sessions.suspend()
        self._stopped = True
        await asyncio.sleep(0.1)
        self.end_scan("aborted")
        await asyncio.sleep(0.1)
        await self.sessions.close()
        self._publish("stopped")

    def _publish(self, state: str) -> None:
        self._room.told_sessions.append(self.sessions.current)
        self._hub.state(self.name, {"state": state, "session": self.sessions.current})

    def look(self) -> None:
        """Find out whether the camera is there."""
        there = self._room.cameras[self.name].there
        if self._stopped or self._life.dead or (self.linked and there):
            return
        self.linked = there
        self.sessions.there("camera", there=there)
        if not there:
            self.end_scan("aborted")

    async def camera(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        await asyncio.sleep(0.01)
        camera = self._room.cameras[self.name]
        if not camera.there:
            raise StemdError("no answer", "switch it on")
        if camera.scan is not None:
            raise StemdError("busy", "wait")
        camera.started += 1
        self.begin_scan()
        return {}

    def begin_scan(self) -> None:
        """The camera begins a scan, and somebody listens."""
        loop, camera = asyncio.get_running_loop(), self._room.cameras[self.name]
        scan = new_scan_id(self._room.now_ns())
        truth = Truth(scan, self.name, self.sessions.current)
        self._room.scans[scan] = truth
        camera.scan = scan
        self._room.write_scan(truth)
        loop.call_soon(self._told, self.sessions.scan_began, truth.session, scan)
        loop.call_later(SCAN_S, self.end_scan, "complete", scan)

    def end_scan(self, status: str, scan: str | None = None) -> None:
        camera = self._room.cameras[self.name]
        if self._life.dead or camera.scan is None or scan not in (None, camera.scan):
            return
        truth = self._room.scans[camera.scan]
        camera.scan = None
        truth.status = status
        document = self._room.write_scan(truth)
        asyncio.get_running_loop().call_soon(self._told, self.sessions.scan_finished, document)

    def _told(self, call: Callable[..., None], *what: Any) -> None:
        if not self._life.dead:
            call(*what)

    async def read_mask(self) -> None:
        """Nobody has a mask file here."""

    async def prepare(self, request: Mapping[str, Any]) -> None:
        """Nor does a change of settings."""

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        self.live = self.live.changed(request)
        return self.live

    def state_changed(self) -> None:
        self._publish("waiting")

    def session_refused(self, name: str, error: StemdError | None) -> None:
        self.refused[name] = str(error)


@dataclass
class Life:
    """One run of a daemon."""

    boot_id: str
    store: Store
    hub: Hub
    pipelines: Pipelines
    sink: MqttSink
    works: list[asyncio.Future[Any]] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    dead: bool = False


class Room:
    """Everything that outlives a daemon. Every method is called while the loop stands still."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.loop = VirtualLoop(1000.0)
        self.broker = Broker()
        self.cameras = {name: Camera() for name in NAMES}
        self.scans: dict[str, Truth] = {}
        self.life: Life | None = None
        self.told_sessions: list[str | None] = []
        """The session of each state that a pipeline has published."""
        self.lives = 0
        self._patch(patch)

    def now_ns(self) -> int:
        return (EPOCH_S * 1_000_000 + round(self.loop.now * 1e6)) * 1000

    @property
    def now_s(self) -> float:
        """Seconds since the epoch."""
        return EPOCH_S + self.loop.now

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        async def beside(work: Any, *arguments: Any, **more: Any) -> Any:
            life = self.life
            await asyncio.sleep(0)
            if life is None or life.dead:
                await asyncio.Event().wait()
            result = work(*arguments)
            await asyncio.sleep(0)
            return result

        async def dial(dialer: Any, client_id: str, keepalive_s: int, will: Any = None) -> Any:
            await asyncio.sleep(0.01)
            if not self.broker.up:
                raise OSError("refused")
            return Connection(self.broker, will)

        clock = SimpleNamespace(monotonic=self.loop.time, time_ns=self.now_ns, time=self.loop.time)
        for module in ("sessions.kept", "sessions.course", "sessions.taken_up", "sessions.removed"):
            patch.setattr(f"stemd.daemon.{module}.beside", beside)
        for module in ("mqtt.link", "mqtt.sessions", "daemon.sessions.removed", "tasks"):
            patch.setattr(f"stemd.{module}.time", clock)
        patch.setattr("stemd.daemon.warming.steps", lambda pipeline: ())
        patch.setattr("stemd.mqtt.link.Dialer.dial", dial)
        ids = (f"{number:04x}" for number in itertools.count())
        patch.setattr("stemd.acquisition.secrets", SimpleNamespace(token_hex=lambda _: next(ids)))
        patch.setattr("os.fsync", lambda fd: None)

    def do(self, work: Awaitable[Any]) -> Any:
        """Let something be done, in virtual time."""
        return self.loop.run_until_complete(cast(Any, work))

    # A daemon

    def start(self, config: Config) -> None:
        self.do(self._start(config))

    async def _start(self, config: Config) -> None:
        self.lives += 1
        store, hub = Store(self.folder, "room", reserve_bytes=0), Hub()
        mqtt = MqttSettings(url="mqtt://127.0.0.1:1", version="5")
        sink = MqttSink(mqtt, "room", hub)
        life = Life(f"boot-{self.lives}", store, hub, cast(Any, None), sink)
        self.life = life

        def make(pipeline: PipelineConfig, hub: Hub, store: Store, *_: Any) -> Any:
            return Bench(self, life, pipeline, hub, store)

        life.pipelines = Pipelines(hub, make=make, boot_id=life.boot_id)
        hub.expect(pipeline.name for pipeline in config.pipelines)
        hub.daemon({"boot_id": life.boot_id})
        await sink.start()
        hub.add(sink, "mqtt")
        life.works = [asyncio.ensure_future(sink.run()), asyncio.ensure_future(self._watch(life))]
        await life.pipelines.start(config, store, cast(Any, None))
        self.loop.call_later(RECOVER_S, self._recover, life)

    async def _watch(self, life: Life) -> None:
        while True:
            life.pipelines.broker(life.sink.status.as_json())
            await asyncio.sleep(0.5)

    def _recover(self, life: Life) -> None:
        """Scans that were cut off are closed: every second of them was whole on the disk."""
        for scan in self.scans.values():
            ours = self.cameras[scan.pipeline].scan == scan.id
            if not life.dead and scan.status == "acquiring" and not ours:
                scan.status = "complete" if int(scan.id[-1], 16) % 2 else "aborted"
                self.write_scan(scan)

    def reload(self, config: Config, rounds: int | None) -> None:
        """SIGHUP; waited for where no number of rounds is given."""
        life = self.life
        assert life is not None

        async def apply() -> None:
            async with life.lock:
                await life.pipelines.apply(config)

        work = self.loop.create_task(apply())
        life.works.append(work)
        if rounds is None:
            self.do(work)
        else:
            self.loop.rounds(rounds)

    def kill(self, rounds: int = 0) -> None:
        """SIGKILL, after some rounds."""
        self.loop.rounds(rounds)
        life = self.life
        assert life is not None
        life.dead = True
        for connection in list(self.broker.connections):
            connection.cut = True
            connection.hang_up()
        for camera in self.cameras.values():
            camera.scan = None
        for bench in cast("dict[str, Bench]", life.pipelines.running).values():
            bench.sessions.tasks._stopping = True  # a dead process begins nothing again
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.rounds(3)
        self._gone(life)

    def stop(self) -> None:
        """SIGTERM."""
        life = self.life
        assert life is not None

        async def end() -> None:
            async with life.lock:
                await life.pipelines.stop()
            await life.sink.stop()
            for work in life.works:
                work.cancel()
            await asyncio.gather(*life.works, return_exceptions=True)

        self.do(end())
        life.dead = True
        self._gone(life)

    def _gone(self, life: Life) -> None:
        life.store.rows.settled(5.0)
        life.store.close()
        self.life = None

    # The room

    def bench(self, name: str) -> Bench | None:
        """A pipeline that runs."""
        if self.life is None:
            return None
        return cast("Bench | None", self.life.pipelines.running.get(name))

    def camera_goes(self, name: str) -> None:
        self.cameras[name].there = False
        self._look(name)

    def camera_comes(self, name: str) -> None:
        self.cameras[name].there = True
        self._look(name)

    def _look(self, name: str) -> None:
        if (bench := self.bench(name)) is not None:
            self._call(bench.look)

    def _call(self, call: Callable[[], object]) -> None:
        async def go() -> None:
            call()

        self.do(go())

    def microscope_scans(self, name: str) -> None:
        """Somebody starts a scan at the microscope."""
        bench, camera = self.bench(name), self.cameras[name]
        if bench is not None and bench.linked and camera.there and camera.scan is None:
            self._call(bench.begin_scan)

    def write_scan(self, scan: Truth) -> Json:
        """scan.json as it would stand on the disk."""
        now = self.now_ns()
        document: Json = {
            "id": scan.id,
            "status": scan.status,
            "pipeline": scan.pipeline,
            "instrument": "room",
            "session": scan.session,
            "positions_done": 20,
            "missing": 0 if scan.status == "complete" else 3,
            "counters": {"counts_per_position": 1.0},
            "started_ns": now,
            "finished": iso_utc(now),
        }
        folder = self.folder / f"{scan.id[:4]}-{scan.id[4:6]}-{scan.id[6:8]}" / scan.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scan.json").write_text(json.dumps(document))
        return document

    def books(self) -> list[Json]:
        """Every session.json."""
        paths = sorted(self.folder.glob("sessions/*/session.json"))
        return [json.loads(path.read_text()) for path in paths]

    def retained_session(self, name: str) -> Json | None:
        """What the broker keeps of a pipeline's session."""
        payload = self.broker.retained.get(f"{BASE}/{name}/session")
        return None if payload is None else json.loads(payload)
