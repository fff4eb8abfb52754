"""The sink of `[mqtt]`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from stemd.config.mqtt import MqttSettings
from stemd.plugins import Plugin
from stemd.storage.files import STATE_FOLDER

if TYPE_CHECKING:
    from stemd.events import Host, Sink


def _build(settings: MqttSettings, host: Host) -> Sink:
    from stemd.mqtt.sink import MqttSink

    def images_of(pipeline: str) -> Collection[str] | None:
        config = host.config_of(pipeline)
        return None if config is None else config.images()

    state = host.data_dir / STATE_FOLDER
    return MqttSink(settings, host.instrument, host.hub, state, images_of)


PLUGIN = Plugin(
    name="mqtt",
    summary="states, documents and images to a broker (MQTT 5 and 3.1.1)",
    settings=MqttSettings,
    build=_build,
)
