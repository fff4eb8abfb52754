"""The live DECTRIS camera: images from its stream, commands to its control unit."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stemd.acquisition import Scan
from stemd.adapters.dectris import legacy, stream2, zmtp
from stemd.adapters.dectris.control import DectrisControl
from stemd.adapters.dectris.decoder import StreamDecoder
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.kernels import table
from stemd.adapters.dectris.kernels.joining import copy_messages
from stemd.adapters.dectris.pulling import PullTogether
from stemd.adapters.dectris.simplon import Simplon
from stemd.adapters.frames.adapter import LiveDecoder, StreamAdapter
from stemd.adapters.frames.settings import FrameSettings, Port, each_link
from stemd.adapters.sockets import Receiver
from stemd.blocks import BlockPool, FrameBlock, Message

STREAM2_PORT = 31001


class DectrisSettings(FrameSettings):
    """The config table of a DECTRIS camera.

    `host` is the detector control unit. `data_port`: 31001 of stream2, 9999 of the legacy stream;
    both are understood on any port. `channel`: of several thresholds, the one to use, e.g.
    "threshold_2" (default: the first). `control_port` is SIMPLON's, 80: omit to only listen.
    `api_version` is SIMPLON's. `camera` are parameters of the detector by SIMPLON's names, e.g.
    trigger_mode = "exts", set whenever the camera has been connected and before each start, and
    `stream_format` is the kind of stream that is switched on then. `start`: "camera" waits for
    series that are armed there, or by the `start` command; "connect" also arms one whenever the
    camera has been connected. `decode_threads`: cores that expand images, for large ones; one
    expands those of an ARINA. `connections`: of ours to the stream, for a control unit that does
    not send all through one. `links`: addresses of several control units that share a series; the
    images of all are joined as those of several connections. `idle_timeout_s`, `pause_timeout_s`,
    `receive_buffer`: as for every frame camera.
    """

    data_port: Port = STREAM2_PORT
    channel: Annotated[str, Field(max_length=64)] = ""
    control_port: Port | None = None
    api_version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+){1,3}$")] = "1.8.0"
    camera: dict[str, int | float | str | bool] = Field(default_factory=dict)
    stream_format: Literal["cbor", "legacy"] = "cbor"
    start: Literal["camera", "connect"] = "camera"
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 1
    connections: Annotated[int, Field(ge=1, le=16)] = 1


def warm_up() -> None:
    """Compile the kernels before a camera needs them; takes seconds where the cache is empty."""
    image = np.zeros((4, 4), np.uint16)
    data = {"threshold_1": stream2.encode_array(image, "bslz4")}
    decoder = StreamDecoder(BlockPool(1, 1), Scan(shape=(1, 2), flyback=0), greets=False)
    for message in (
        zmtp.message(stream2.encode_image(1, 0, data)),
        zmtp.message(*legacy.encode_image(1, 1, image, "lz4")),
    ):
        view = decoder.wants()[0]
        view[: len(message)] = message
        for item in decoder.fed(len(message), 0):
            if isinstance(item, FrameBlock):
                item.release()
    rows, places = np.zeros((0, table.COLUMNS), np.int64), np.zeros(0, np.int64)
    copy_messages(np.zeros(1, np.uint8), rows, places, np.zeros(1, np.uint8))


class DectrisAdapter(StreamAdapter):
    """A DECTRIS camera; the "start" command takes `scans`, how many in one series."""

    def __init__(self, settings: DectrisSettings) -> None:
        control = None
        if settings.control_port is not None:
            simplon = Simplon(settings.host, settings.control_port, settings.api_version)
            control = DectrisControl(settings, simplon)
        port, others = settings.data_port, [""] * (settings.connections - 1)
        if settings.links:
            others = [*settings.links[1:]]
            settings, port = each_link(settings)[0]
        super().__init__(
            settings,
            port,
            "DECTRIS camera",
            control=control,
            no_control="set control_port = 80, or arm and disarm at the control unit",
        )
        self._channel = settings.channel
        self._others = others
        self._expander = Expander(settings.decode_threads)

    def new_decoder(self, pool: BlockPool, scan: Scan | None, source: str) -> LiveDecoder:
        """See `StreamAdapter`."""
        warm_up()
        return StreamDecoder(pool, scan, source, self._channel, expander=self._expander)

    def receiver(self, connected: socket.socket, stop: threading.Event) -> Receiver:
        """See `StreamAdapter`: one socket, or several that pull together."""
        if not self._others:
            return super().receiver(connected, stop)
        others: list[socket.socket] = []
        try:
            for address in self._others:
                others += [self._connection.another(stop, address)]
            return PullTogether(connected, others)
        except OSError:
            for each in others:
                each.close()
            raise

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """See `StreamAdapter`."""
        try:
            yield from super().read(pool, stop)
        finally:
            self._expander.close()

    @property
    def received_bytes(self) -> int:
        """See `adapters.base.Receives`: a series begins when it is armed, its images may wait."""
        decoder = self._decoder
        alone = decoder.series_bytes if isinstance(decoder, StreamDecoder) else 0
        return self._received_bytes - alone

    def answer(self, connected: socket.socket, decoder: LiveDecoder) -> None:
        """See `StreamAdapter`: ZeroMQ's handshake."""
        assert isinstance(decoder, StreamDecoder)
        data = decoder.outgoing()
        if data and not self._others:  # several answer for themselves
            connected.sendall(data)
