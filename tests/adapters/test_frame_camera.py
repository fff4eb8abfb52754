"""A frame camera that is a header, a layout and an encoder: everything else must come by itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.base import Decoder
from stemd.adapters.files import open_recording
from stemd.adapters.frames.binary import BinaryFormat
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.frames.format import FrameLayout, plain_layout
from stemd.blocks import BlockPool, Ended, FrameBlock, Link, Message, Notice, Started
from stemd.errors import FormatError
from tests.adapters.quicksilver import CAMERA, NAME, encode
from tests.adapters.test_contract import Reading

pytestmark = pytest.mark.usefixtures("foreign")
SHAPE = (5, 7)
FLYBACK = Scan(shape=(4, 5), flyback=2, leading=3, serpentine=True)


def pattern(index: int) -> NDArray[np.uint16]:
    """What only frame `index` shows."""
    return np.random.default_rng(index).integers(0, 1 << 14, SHAPE).astype(np.uint16)


def stream(indices: Iterable[int]) -> bytes:
    return b"".join(encode(pattern(index), index) for index in indices)


class Outcome:
    """Patterns by position, scan for scan; why each ended; notices by kind."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.scans: list[dict[int, NDArray[np.uint16]]] = []
        self.ends: list[str] = []
        self.notices: dict[str, int] = {}
        self.wire = b""
        for message in messages:
            match message:
                case Started():
                    self.scans.append({})
                case FrameBlock():
                    self.wire += message.wire.tobytes()
                    self._take(message)
                    message.release()
                case Ended():
                    self.ends.append(message.reason)
                case Notice():
                    known = self.notices.get(message.kind, 0)
                    self.notices[message.kind] = known + message.count

    def _take(self, block: FrameBlock) -> None:
        if not self.scans:
            self.scans.append({})
        for probe, image in zip(block.probe.tolist(), block.patterns(), strict=True):
            if probe >= 0:
                assert probe not in self.scans[-1]
                self.scans[-1][probe] = image.astype(np.uint16)

    def is_scan(self, number: int, scan: Scan, missing: Iterable[int] = ()) -> None:
        """Scan `number` has every position's own pattern, but those of the missing frames."""
        frames = np.arange(scan.frames)
        wanted = {int(p): int(n) for n, p in zip(frames, scan.probes(frames), strict=True)}
        left = {p: n for p, n in wanted.items() if p >= 0 and n not in set(missing)}
        assert sorted(self.scans[number]) == sorted(left)
        for probe, index in left.items():
            np.testing.assert_array_equal(self.scans[number][probe], pattern(index))


def decoded(data: bytes, scan: Scan, cuts: Iterator[int] | None = None) -> Outcome:
    """Everything that comes of a stream that then ends, received in these pieces."""
    decoder = FrameDecoder(BinaryFormat(CAMERA), BlockPool(1 << 20, 700), scan)
    return Outcome(_fed(decoder, decoder, data, cuts))


def _fed(
    decoder: Decoder, frames: FrameDecoder, data: bytes, cuts: Iterator[int] | None
) -> Iterator[Message]:
    at = 0
    while at < len(data):
        most = next(cuts) if cuts is not None else len(data)
        if most == 0:
            yield from decoder.flush(at, eof=False)
            continue
        view = decoder.wants()[0]
        size = min(len(view), most, len(data) - at)
        view[:size] = data[at : at + size]
        at += size
        yield from decoder.fed(size, at)
    yield from decoder.flush(at, eof=True)
    yield from frames.end("disconnected", at)


def test_it_is_found_as_a_plugin_and_is_short() -> None:
    plugin = plugins.load("adapters", NAME)
    assert plugin.suffixes == (".qsf",)
    code = (Path(__file__).parent / "quicksilver.py").read_text()
    assert len(code.splitlines()) < 150


@pytest.mark.parametrize("seed", range(4))
def test_flyback_leading_and_serpentine_are_placed_however_the_stream_is_cut(seed: int) -> None:
    random = np.random.default_rng(seed)
    cuts = iter(lambda: int(random.integers(0, 400)), -1) if seed else None
    outcome = decoded(stream(range(FLYBACK.frames)), FLYBACK, cuts)
    outcome.is_scan(0, FLYBACK)
    assert outcome.ends == ["complete"]
    assert outcome.notices == {}
    assert outcome.wire == stream(range(FLYBACK.frames))


def test_a_missing_frame_is_a_hole_and_the_others_keep_their_places() -> None:
    outcome = decoded(stream(n for n in range(FLYBACK.frames) if n != 11), FLYBACK)
    outcome.is_scan(0, FLYBACK, missing=[11])
    assert (outcome.ends, outcome.notices) == (["complete"], {"missing_frames": 1})


def test_garbage_between_messages_is_counted_and_costs_no_frame() -> None:
    junk = bytes(range(200))
    messages = [stream([n]) for n in range(FLYBACK.frames)]
    outcome = decoded(junk + b"".join(messages[:9]) + junk + b"".join(messages[9:]), FLYBACK)
    outcome.is_scan(0, FLYBACK)
    assert outcome.notices == {"skipped_bytes": 400}


def test_a_second_scan_at_once_is_a_scan_of_its_own() -> None:
    outcome = decoded(2 * stream(range(FLYBACK.frames)), FLYBACK)
    assert outcome.ends == ["complete", "complete"]
    for number in range(2):
        outcome.is_scan(number, FLYBACK)


def test_numbers_that_begin_again_end_a_scan_that_was_cut_short() -> None:
    outcome = decoded(stream(range(16)) + stream(range(FLYBACK.frames)), FLYBACK)
    assert outcome.ends == ["restarted", "complete"]
    outcome.is_scan(0, FLYBACK, missing=range(16, FLYBACK.frames))
    outcome.is_scan(1, FLYBACK)


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8"])
def test_numbers_of_any_size_and_byte_order_are_read(kind: str) -> None:
    header = np.dtype([("magic", "S2"), ("number", kind), ("fixed", "u1")])
    camera = replace(CAMERA, header=header, magic=b"AB", varies=())
    most = min(np.iinfo(np.dtype(kind)).max, np.iinfo(np.int64).max)
    sent = np.array([0, 1, 200, most // 3, most], np.uint64)
    frames = np.zeros((sent.size, header.itemsize + 3), np.uint8)
    parts = np.zeros(sent.size, header)
    parts["magic"], parts["number"], parts["fixed"] = b"AB", sent, 7
    frames[:, : header.itemsize] = parts.view(np.uint8).reshape(sent.size, -1)
    reference = frames[0, : header.itemsize].copy()
    frames[3, header.itemsize - 1] = 8
    found = np.zeros(sent.size, np.int64)
    BinaryFormat(camera).read_numbers(
        frames.reshape(-1), frames.shape[1], np.arange(sent.size), reference, found
    )
    assert found.tolist() == [0, 1, 200, -1, most]


def test_numbers_that_wrap_go_on() -> None:
    """A number of 8 bits: frame 256 is sent as 0, and is no beginning."""
    header = np.dtype([("magic", "S2"), ("number", "u1"), ("side", "u1")])

    def layout(found: np.void) -> FrameLayout:
        side = int(found["side"])
        return plain_layout(4, (side, side), "u1", depth=8, big_endian=False)

    camera = replace(CAMERA, header=header, magic=b"AB", varies=(), layout=layout, first_number=0)
    scan = Scan(shape=(30, 20), flyback=0)
    data = b"".join(b"AB" + bytes([n % 256, 1, n % 251]) for n in range(600) if n != 300)
    decoder = FrameDecoder(BinaryFormat(camera), BlockPool(1 << 20, 64), scan)
    outcome = Outcome(_fed(decoder, decoder, data, None))
    assert (outcome.ends, outcome.notices) == (["complete"], {"missing_frames": 1})
    assert {p: int(image[0, 0]) for p, image in outcome.scans[0].items()} == {
        n: n % 251 for n in range(600) if n != 300
    }


def test_a_cut_off_message_is_told() -> None:
    outcome = decoded(stream(range(FLYBACK.frames))[:-40], FLYBACK)
    assert outcome.notices == {"partial_frame": 1}


def test_another_detector_size_is_another_scan() -> None:
    small = b"".join(encode(np.full((2, 2), n, np.uint16), n) for n in range(4))
    outcome = decoded(stream(range(4)) + small, Scan(shape=(2, 2), flyback=0))
    assert outcome.ends == ["complete", "complete"]
    assert outcome.scans[1][3].tolist() == [[3, 3], [3, 3]]


def test_a_size_that_no_frame_has_is_garbage_and_no_memory() -> None:
    lie = encode(np.zeros((1, 1), np.uint16), 0).replace(b"\0\1\0\1", b"\xff\xff\xff\xff", 1)
    outcome = decoded(lie + stream(range(FLYBACK.frames)), FLYBACK)
    outcome.is_scan(0, FLYBACK)
    assert outcome.notices["bad_header"] == 1


def test_its_recorded_file_is_opened_by_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "scan.qsf"
    path.write_bytes(stream(n for n in range(FLYBACK.frames) if n != 8))
    recording = open_recording(path, FLYBACK)
    try:
        outcome = Outcome([*recording.notices, *recording.blocks(0, recording.frames)])
    finally:
        recording.close()
    outcome.is_scan(0, FLYBACK, missing=[8])
    assert outcome.notices == {"missing_frames": 1}
    path.write_bytes(b"something else altogether, longer than a header")
    with pytest.raises(FormatError, match="QSF1"):
        open_recording(path, FLYBACK)


def test_a_connection_cut_in_mid_scan_ends_it_and_the_next_one_comes() -> None:
    """The camera closes in mid-frame, comes back, and sends a whole scan."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        plugin = plugins.load("adapters", NAME)
        settings = plugin.settings.model_validate({"port": port, "scan": FLYBACK})
        reading = Reading(plugin.build(settings))
        sender = threading.Thread(target=_serve, args=(server,), daemon=True)
        sender.start()
        try:
            reading.until(lambda taken: len(taken.of(Ended)) == 2)
        finally:
            assert reading.close()
            sender.join(10)
    ends = [message.reason for message in reading.taken.of(Ended)]
    assert ends == ["disconnected", "complete"]
    links = [message.connected for message in reading.taken.of(Link)]
    assert links[:3] == [True, False, True]
    positions = list(reading.taken.positions.values())
    assert positions[1] == set(range(FLYBACK.positions))


def _serve(server: socket.socket) -> None:
    server.settimeout(20)
    for data in (stream(range(12))[:-30], stream(range(FLYBACK.frames))):
        client, _ = server.accept()
        with client:
            client.sendall(data)
