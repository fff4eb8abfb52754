"""Cameras whose frames have a binary header: what is said of the header is all that they bring.

A contributor describes the header as a NumPy structured type, says with a pure function what the
pixels behind it are, and writes the encoder that the virtual camera and the tests speak with. Live
reception, recorded files, blocks, scans and `stemd virtual` follow from that: see `frame_camera`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings
from stemd.adapters.frames.adapter import FrameAdapter
from stemd.adapters.frames.format import Bytes, FrameLayout, FrameStart, Garbage, Need, Step
from stemd.adapters.frames.linked.adapter import LinkedAdapter
from stemd.adapters.frames.recording import FrameRecording
from stemd.adapters.frames.settings import FrameSettings, Port, each_link
from stemd.adapters.frames.warm import warm_up
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Message
from stemd.compilation import njit
from stemd.errors import ConfigError, FormatError
from stemd.plugins import Plugin


class BinarySettings(FrameSettings):
    """The config table of a camera that only sends: `port` is the TCP port it sends from."""

    port: Port


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryCamera:
    """One camera's frames: a header of the type `header`, then the pixels.

    Every header begins with `magic`. `layout` says from a header what follows it, see
    `plain_layout`; it raises FormatError for what cannot be. The field `number` counts frames of
    an acquisition from `first_number`; it and the fields that `varies` names may differ from frame
    to frame, all others are the same, or another acquisition has begun. `encode(pattern, index)`
    is the message of frame `index` (from 0) with this pattern (height, width).
    """

    name: str
    header: np.dtype[np.void]
    magic: bytes
    layout: Callable[[np.void], FrameLayout]
    encode: Callable[[NDArray[np.unsignedinteger], int], bytes]
    suffix: str
    number: str = "number"
    varies: tuple[str, ...] = ()
    first_number: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for a camera that cannot be read so, with the field's name."""
        fields = getattr(self.header, "fields", None)
        if not isinstance(self.header, np.dtype) or not fields:
            raise self._wrong("header", "must be a structured numpy.dtype")
        if not isinstance(self.magic, bytes) or not 0 < len(self.magic) <= self.header.itemsize:
            raise self._wrong("magic", "must be bytes, the first ones of every header")
        varies: Any = self.varies
        if isinstance(varies, str):
            raise self._wrong("varies", f"must be a tuple of names, such as ({varies!r},)")
        for key, names in (("number", (self.number,)), ("varies", self.varies)):
            for name in names:
                if name not in fields:
                    raise self._wrong(
                        key, f"{name!r} is no field of the header: {', '.join(fields)}"
                    )
        if fields[self.number][0].kind not in "ui":
            raise self._wrong("number", f"the field {self.number!r} must be a whole number")
        if not isinstance(self.suffix, str) or not re.fullmatch(r"\.[a-z0-9]+", self.suffix):
            raise self._wrong("suffix", f"must be like '.abc', in lower case, not {self.suffix!r}")

    def _wrong(self, key: str, why: str) -> ConfigError:
        return ConfigError(
            f"camera {self.name}: {key}: {why}", f"correct {key} of the BinaryCamera"
        )

    def layout_of(self, header: np.void) -> FrameLayout:
        """What follows this header. Raises FormatError, whatever `layout` does wrong."""
        remedy = "check that this is the right camera, port or file, or correct the camera's layout"
        try:
            layout = self.layout(header)
        except FormatError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise FormatError(
                f"a header that the camera {self.name} does not know: layout failed: {text}", remedy
            ) from error
        if not isinstance(layout, FrameLayout) or layout.header_bytes != self.header.itemsize:
            found = (
                f"header_bytes={layout.header_bytes}"
                if isinstance(layout, FrameLayout)
                else f"a {type(layout).__name__}"
            )
            raise FormatError(
                f"layout of the camera {self.name} gave {found}, not a FrameLayout behind a header "
                f"of {self.header.itemsize} bytes",
                "correct the camera's layout: return plain_layout(header.itemsize, ...)",
            )
        if layout.packed:
            raise self.packed()
        return layout

    def packed(self) -> FormatError:
        """The error for pixels that would have to be unpacked."""
        return FormatError(
            f"layout of the camera {self.name} gave packed pixels, which nobody unpacks",
            "correct the camera's layout: return plain_layout(...), or write a FrameFormat of its "
            "own with an unpack, as stemd/adapters/merlin/stream.py does",
        )


@njit(nogil=True, cache=True)
def _read_fields(
    data: NDArray[np.uint8],
    stride: int,
    indices: NDArray[np.int64],
    reference: NDArray[np.uint8],
    same: NDArray[np.uint8],
    at: int,
    step: int,
    size: int,
    out: NDArray[np.int64],
) -> None:
    """The number of each frame, whose bytes begin at `at` (the highest) and go on by `step`.

    -1 where a byte that `same` marks is not that of `reference`.
    """
    for i in range(indices.size):
        start = indices[i] * stride
        value = np.int64(0)
        for k in range(reference.size):
            if same[k] != 0 and data[start + k] != reference[k]:
                value = np.int64(-1)
                break
        if value == 0:
            for k in range(size):
                value = value << 8 | np.int64(data[start + at + k * step])
        out[i] = value


class BinaryFormat:
    """Implements adapters.frames.format.FrameFormat for a BinaryCamera."""

    prefix_bytes = 0

    def __init__(self, camera: BinaryCamera) -> None:
        self.name = camera.name
        self.raw_name = f"raw{camera.suffix}"
        self.first_number = camera.first_number
        self.head_bytes = camera.header.itemsize
        self.file_opening = camera.magic
        self._camera = camera
        fields: Any = camera.header.fields
        kind, at = fields[camera.number][:2]
        little = kind.newbyteorder("<") == kind
        self._size, self._step = kind.itemsize, -1 if little else 1
        self._at = at + kind.itemsize - 1 if little else at
        self.turn = 1 << 8 * kind.itemsize if kind.itemsize < 8 else 0
        self._same = np.ones(camera.header.itemsize, np.uint8)
        for name in (camera.number, *camera.varies):
            kind, at = fields[name][:2]
            self._same[at : at + kind.itemsize] = 0

    def reset(self) -> None:
        """See `FrameFormat`: nothing is remembered."""

    def next_message(self, data: bytes | bytearray) -> Step:
        """See `FrameFormat`."""
        if len(data) < len(self._camera.magic):
            return Need(len(self._camera.magic))
        if not data.startswith(self._camera.magic):
            return Garbage(self._next_start(data))
        if len(data) < self.head_bytes:
            return Need(self.head_bytes)
        try:
            return self.file_frame(bytes(data[: self.head_bytes]))
        except FormatError as error:
            return Garbage(self._next_start(data), error)

    def _next_start(self, data: bytes | bytearray) -> int:
        """Bytes to skip to the next magic, or to what may turn out to be one."""
        magic = self._camera.magic
        found = data.find(magic, 1)
        return found if found > 0 else max(1, len(data) - len(magic) + 1)

    def begins(self, data: bytes | bytearray) -> bool:
        """See `FrameFormat`."""
        magic = self._camera.magic
        return data.startswith(magic) or magic.startswith(bytes(data))

    def file_frame(self, data: bytes) -> FrameStart:
        """See `FrameFormat`."""
        magic = self._camera.magic
        if not data.startswith(magic) or len(data) < self.head_bytes:
            raise FormatError(
                f"a frame of {self.name} begins with {magic!r} and has a header of "
                f"{self.head_bytes} bytes, here are {data[: len(magic)]!r} and {len(data)} bytes",
                "check that this is the right camera, port or file",
            )
        header = np.frombuffer(data, self._camera.header, 1)[0]
        reference = np.frombuffer(bytearray(data[: self.head_bytes]), np.uint8)
        return FrameStart(self._camera.layout_of(header), magic, reference)

    def number_bytes(self, start: FrameStart) -> int:
        """See `FrameFormat`."""
        return self.head_bytes

    def read_numbers(
        self,
        data: Bytes,
        stride: int,
        indices: NDArray[np.int64],
        reference: Bytes,
        out: NDArray[np.int64],
    ) -> None:
        """See `FrameFormat`."""
        _read_fields(
            data, stride, indices, reference, self._same, self._at, self._step, self._size, out
        )

    def unpack(self, wire: Bytes, layout: FrameLayout, count: int, out: Bytes) -> None:
        """See `FrameFormat`. Raises FormatError: a BinaryCamera's frames are not packed."""
        raise self._camera.packed()

    def samples(self) -> Iterable[bytes]:
        """See `FrameFormat`."""
        yield self._camera.encode(np.zeros((2, 2), np.uint16), 0)


def _check_message(camera: BinaryCamera, message: bytes, shape: tuple[int, ...]) -> None:
    """Raises ConfigError for a first message that would not be understood."""

    def wrong(why: str) -> ConfigError:
        return ConfigError(f"encode of the camera {camera.name}: {why}", "correct its encode")

    if not isinstance(message, bytes):
        raise wrong(f"it gave a {type(message).__name__}, not bytes")
    try:
        layout = BinaryFormat(camera).file_frame(message).layout
    except FormatError as error:
        raise wrong(f"its message is not understood: {error.message}") from error
    number = int(np.frombuffer(message, camera.header, 1)[0][camera.number])
    if layout.shape != shape:
        raise wrong(f"its header says {layout.shape} pixels, the pattern has {shape}")
    if len(message) != layout.frame_bytes:
        raise wrong(f"a message has {len(message)} bytes, its header says {layout.frame_bytes}")
    if number != camera.first_number:
        raise wrong(f"the first frame has the number {number}, first_number={camera.first_number}")


def frame_camera(camera: BinaryCamera, settings: type[BinarySettings], summary: str) -> Plugin:
    """The plugin of a camera: live over TCP, recorded files of its suffix, and its virtual camera.

    A recorded file is its frames one behind the other, as the recorder of stemd writes them.
    Raises ConfigError for settings that are not BinarySettings.
    """
    if not (isinstance(settings, type) and issubclass(settings, BinarySettings)):
        raise ConfigError(
            f"camera {camera.name}: its settings are not BinarySettings",
            "derive them from stemd.adapters.frames.binary.BinarySettings",
        )

    title = f"{camera.name} camera"

    def build(made: BinarySettings) -> FrameAdapter | LinkedAdapter:
        if not made.links:
            return FrameAdapter(made, BinaryFormat(camera), made.port, title)
        links = [
            FrameAdapter(link, BinaryFormat(camera), port, title) for link, port in each_link(made)
        ]
        return LinkedAdapter(made, title, links)

    def open_recording(
        path: RecordingPath, scan: Scan | None = None, settings: AdapterSettings | None = None
    ) -> FrameRecording:
        return FrameRecording(path, BinaryFormat(camera), scan)

    def encode(pattern: NDArray[np.unsignedinteger], index: int) -> bytes:
        message = camera.encode(pattern, index)
        if index == 0:
            _check_message(camera, message, pattern.shape)
        return message

    def warm(made: BinarySettings) -> Iterable[Message]:
        warm_up(BinaryFormat(camera))
        return ()

    return Plugin(
        name=camera.name,
        summary=summary,
        settings=settings,
        build=build,
        warm=warm,
        suffixes=(camera.suffix,),
        reads_remote=True,
        open_recording=open_recording,
        encode=encode,
    )
