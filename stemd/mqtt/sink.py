"""The MQTT sink: everything the daemon has to tell goes out, requests come in.

Nothing here ever waits for the broker on behalf of a pipeline: messages are left in bounded
mailboxes, and the tasks of two connections carry them away.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError
from stemd.events import Hub, Sink
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.documents import Documents
from stemd.mqtt.ghosts import Ghosts
from stemd.mqtt.images import ImagePublisher
from stemd.mqtt.inbound import Gate
from stemd.mqtt.link import Line
from stemd.mqtt.mailbox import Image
from stemd.mqtt.requests import RequestDesk
from stemd.mqtt.retained import Images, RetainedImages, nobody_knows
from stemd.mqtt.rival import Rival
from stemd.mqtt.sessions import ControlSession, ImageSession
from stemd.mqtt.status import MqttStatus
from stemd.mqtt.topics import Topics, document
from stemd.results import Snapshot
from stemd.tasks import end_all

Json = dict[str, Any]

STOP_SECONDS = 0.9


class MqttSink(Sink):
    """States, documents and images to a broker. `run` until `stop`, on one event loop.

    Ids of commands are kept in `state_dir`, so that none is carried out twice after a restart, and
    which images the broker keeps; `images_of`: those that a pipeline makes by its config.
    Raises SinkError on construction when the url is still "embedded": start an EmbeddedBroker
    first and pass `settings.at_embedded(broker.url)`.
    """

    def __init__(
        self,
        settings: MqttSettings,
        instrument: str,
        hub: Hub,
        state_dir: Path | None = None,
        images_of: Images = nobody_knows,
    ) -> None:
        if settings.embedded:
            raise SinkError(
                'mqtt.url "embedded" has no address yet', "start the embedded broker first"
            )
        self._hub = hub
        self._topics = topics = Topics(instrument)
        self._status = status = MqttStatus(settings.url)
        complaints = Complaints(status, hub)
        self._documents = documents = Documents(topics, settings, status, complaints)
        kept = state_dir / f"retained-{instrument}.json" if state_dir is not None else None
        self._images = ImagePublisher(
            topics, settings, complaints.not_delivered, RetainedImages(kept, images_of)
        )
        ids = state_dir / f"requests-{instrument}.jsonl" if state_dir is not None else None
        self._desk = RequestDesk(topics, hub, documents.reply, Gate(ids))
        self._ghosts = Ghosts(topics, hub, documents.clear, documents.keeps)
        self._line = line = Line(settings, complaints)
        name = settings.client_id or f"stemd-{instrument}"
        self._control = ControlSession(
            line,
            topics,
            documents,
            self._desk,
            self._ghosts,
            Rival(line, topics, hub, complaints, name),
            status,
            complaints,
            name,
        )
        self._carrier = ImageSession(line, self._images, status, self._control, f"{name}-images")
        self._stopped = asyncio.Event()

    @property
    def status(self) -> MqttStatus:
        """State of the connections and counters, as of now."""
        self._status.counters = {
            **self._images.counters,
            **self._documents.counters,
            "requests_refused": self._desk.refused,
        }
        return self._status

    async def start(self) -> None:
        """Take over the finished images of before, for the retained topics, and clear others'."""
        for pipeline, view in self._hub.views.items():
            if (snapshot := view.last_final) is not None:
                self._images.remember(Image.each_of(pipeline, snapshot))
        for topic in self._images.left_behind(self._hub.names) if self._hub.expected else ():
            self._documents.clear(topic)

    async def run(self) -> None:
        """Publish and listen, connecting again for as long as it takes, until `stop`."""
        self._stopped.clear()
        works = {
            "mqtt-requests": self._desk.run(self._line.stopping),
            "mqtt-documents": self._line.keep(self._control.hold),
            "mqtt-images": self._line.keep(self._carrier.hold),
        }
        tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._line.stopping.is_set():
                await asyncio.wait(tasks)
        finally:
            try:
                await end_all(tasks)
            finally:
                self._stopped.set()
        for task in tasks:
            if not task.cancelled():
                task.result()
        if not self._line.stopping.is_set():
            raise SinkError("a task of MQTT has ended", "it is begun again; see the daemon's log")

    async def stop(self) -> None:
        """Send what waits, say offline and goodbye; within a second whatever the broker does."""
        self._line.stopping.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), STOP_SECONDS + 0.1)

    # what the hub tells

    def on_daemon_state(self, state: Json) -> None:
        """The daemon's own state document (retained)."""
        self._documents.retain("daemon", "state", state)

    def on_health(self, health: Json) -> None:
        """Rates, queues, memory, disk; every 5 s."""
        self._documents.newest("daemon", "health", health)

    def on_state(self, pipeline: str, state: Json) -> None:
        """A pipeline's state document (retained)."""
        self._documents.retain(pipeline, "state", state)

    def on_settings(self, pipeline: str, settings: Json) -> None:
        """Every live setting of a pipeline as now in force (retained)."""
        self._documents.retain(pipeline, "settings", settings)
        for topic in self._images.on_settings(pipeline, settings):
            self._documents.clear(topic)

    def on_optics(self, pipeline: str, optics: Json) -> None:
        """The optics that the data of the last scan have (retained)."""
        self._documents.retain(pipeline, "optics", optics)

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Images of a running or just finished scan."""
        for image in Image.each_of(pipeline, snapshot):
            self._images.put(image)

    def on_document(self, pipeline: str, document_: Json) -> None:
        """A scan document: `started`, `finished`, `aborted`; or a session's (retained)."""
        if document_.get("event") == "session":
            over = document_.get("finished") is not None
            self._documents.retain(pipeline, "session", document_, last=over)
        else:
            topic = self._topics.of(pipeline, "scan")
            self._documents.queue(document(topic, document_, qos=1))

    def on_log(self, pipeline: str, entry: Json) -> None:
        """A warning or an error."""
        self._documents.queue(document(self._topics.of(pipeline, "log"), entry), "log")

    def on_removed(self, pipeline: str) -> None:
        """The pipeline is gone: so is what the broker keeps of it."""
        self._documents.forget(pipeline)
        for topic in self._images.forget(pipeline):
            self._documents.clear(topic)
        self._ghosts.removed(pipeline)
