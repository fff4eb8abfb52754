"""What is wrong with the broker or the connection to it: logged once, kept until it is over."""

from __future__ import annotations

from stemd.documents import error_document
from stemd.errors import SinkError, StemdError
from stemd.events import Hub
from stemd.logs import get_logger
from stemd.mqtt.status import MqttStatus

log = get_logger()


class Complaints:
    """The newest error is in `status`; each is logged once until the next good connection."""

    def __init__(self, status: MqttStatus, hub: Hub) -> None:
        self._status = status
        self._hub = hub
        self._reported: set[tuple[str, str]] = set()

    def tell(self, about: str, error: StemdError) -> None:
        """Something went wrong."""
        self._status.error = error
        if (about, error.message) not in self._reported:
            self._reported.add((about, error.message))
            log.warning(error.message, remedy=error.remedy)

    def not_delivered(self, pipeline: str, error: StemdError) -> None:
        """An image was not delivered: say it on the pipeline's log topic, too."""
        known = (pipeline, error.message) in self._reported
        self.tell(pipeline, error)
        if not known:
            self._hub.log(pipeline, {"level": "error", **error_document(error)})

    def mistake(self, about: str, error: Exception) -> SinkError:
        """A mistake of stemd itself: counted, and in the log with its place in the code, once."""
        self._status.failures += 1
        found = SinkError(
            f"MQTT: {about} failed: {type(error).__name__}: {error}",
            "it is tried again; report the traceback in the daemon's log",
        )
        if (about, found.message) not in self._reported:
            self._reported.add((about, found.message))
            log.error(found.message, remedy=found.remedy, exc_info=error)
        return found

    def over(self) -> None:
        """The connection is good: what comes from now on is news again."""
        self._status.error = None
        self._reported.clear()
