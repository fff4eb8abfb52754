"""The sink of `[mqtt]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemd.config.mqtt import MqttSettings
from stemd.plugins import Plugin
from stemd.storage.files import STATE_FOLDER

if TYPE_CHECKING:
    from stemd.events import Host, Sink


def _build(settings: MqttSettings, host: Host) -> Sink:
    from stemd.mqtt.sink import MqttSink

    return MqttSink(settings, host.instrument, host.hub, host.data_dir / STATE_FOLDER)


PLUGIN = Plugin(
    name="mqtt",
    summary="states, documents and images to a broker (MQTT 5 and 3.1.1)",
    settings=MqttSettings,
    build=_build,
)
