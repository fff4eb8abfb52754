"""Frames of one scan that come by several links: the same as if one link had brought them all."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Optics, Scan
from stemd.adapters.frames.linked import adapter as adapter_module
from stemd.adapters.frames.linked.adapter import LinkedAdapter
from stemd.adapters.frames.linked.ends import why_over
from stemd.adapters.frames.linked.scan import JoinedScan, LinkPart
from stemd.adapters.merlin import PLUGIN, MerlinSettings
from stemd.adapters.merlin.encoder import Camera
from stemd.blocks import BlockPool
from stemd.daemon.pipeline.reader import Reader
from stemd.scan.engines import EngineChoice
from stemd.scan.run import ScanRun
from stemd.storage.recorder import RawRecorder
from tests.conftest import an_acquisition, wait_until
from tests.engines.scenes import engine, settings_of
from tests.merlin.streams import SMALL, Outcome, acquisition, decode, frame, hdr

SCAN = Scan(shape=(9, 11), flyback=1)
FRAMES = range(1, SCAN.frames + 1)
PACKED = Camera((4, 256), 12, raw=True)
SECONDS = 15.0

Split = Sequence[Sequence[int]]


def in_turn(links: int, numbers: Sequence[int] = FRAMES) -> Split:
    return [numbers[link::links] for link in range(links)]


def in_halves(links: int, numbers: Sequence[int] = FRAMES) -> Split:
    edges = [round(link * len(numbers) / links) for link in range(links + 1)]
    return [numbers[a:b] for a, b in pairwise(edges)]


def by_chance(links: int, numbers: Sequence[int] = FRAMES) -> Split:
    who = np.random.default_rng(links).integers(0, links, len(numbers))
    return [[n for n, w in zip(numbers, who, strict=True) if w == link] for link in range(links)]


class Senders:
    """The links of a camera, each with a data port."""

    def __init__(self, count: int) -> None:
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        self.addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in self.listeners)
        self.peers: list[socket.socket] = []

    def accept(self) -> None:
        for listener in self.listeners:
            listener.settimeout(SECONDS)
            self.peers.append(listener.accept()[0])

    def send(self, each: Sequence[Sequence[bytes]], pause_s: Mapping[int, float] = {}) -> None:
        """What each link sends, all at the same time, some slower."""
        threads = [
            threading.Thread(target=self._send, args=(*pair, pause_s.get(link, 0.0)), daemon=True)
            for link, pair in enumerate(zip(self.peers, each, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    @staticmethod
    def _send(peer: socket.socket, pieces: Sequence[bytes], pause_s: float) -> None:
        for piece in pieces:
            peer.sendall(piece)
            time.sleep(pause_s)

    def close(self) -> None:
        for each in (*self.peers, *self.listeners):
            each.close()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links have blocks of a few frames."""
    monkeypatch.setattr(adapter_module, "BlockPool", lambda total: BlockPool(1 << 20, 2048))


class Reading:
    """An adapter of all links, read in a thread as a daemon does it."""

    def __init__(self, senders: Senders, scan: Scan | None = SCAN, **more: Any) -> None:
        settings = MerlinSettings(
            links=senders.addresses, scan=scan, **{"idle_timeout_s": 10.0, **more}
        )
        made = PLUGIN.build(settings)
        assert isinstance(made, LinkedAdapter)
        self.adapter, self.outcome = made, Outcome()
        self.pool, self.stop = BlockPool(1 << 20, 2048), threading.Event()
        self.errors: queue.Queue[BaseException] = queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        senders.accept()

    def _run(self) -> None:
        try:
            self.outcome.take(self.adapter.read(self.pool, self.stop))
        except BaseException as error:
            self.errors.put(error)

    def reasons(self, *expected: str) -> Outcome:
        def there() -> bool:
            if not self.errors.empty():
                raise self.errors.get()
            return [scan.reason for scan in self.outcome.scans] == list(expected)

        wait_until(there, f"scans end as {expected}: {self.outcome}", SECONDS)
        return self.outcome

    def close(self) -> None:
        self.stop.set()
        self.pool.close()
        self.adapter.close()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        assert not any(thread.is_alive() for thread in self.adapter._threads)


@pytest.fixture
def read() -> Iterator[Callable[..., tuple[Senders, Reading]]]:
    made: list[tuple[Senders, Reading]] = []

    def begin(links: int, **more: Any) -> tuple[Senders, Reading]:
        senders = Senders(links)
        made.append((senders, Reading(senders, **more)))
        return made[-1]

    yield begin
    for senders, reading in made:
        reading.close()
        senders.close()


Read = Callable[..., tuple[Senders, Reading]]


def sent(camera: Camera, numbers: Sequence[int]) -> list[bytes]:
    return [hdr(camera, SCAN.frames), *(frame(camera, number) for number in numbers)]


@pytest.mark.parametrize("camera", [SMALL, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("slow", [{}, {0: 0.002}, {1: 0.002}], ids=["even", "first", "second"])
@pytest.mark.parametrize("split", [in_turn, in_halves, by_chance])
def test_frames_patterns_and_record_are_those_of_one_link(
    read: Read, camera: Camera, slow: Mapping[int, float], split: Callable[[int], Split]
) -> None:
    senders, reading = read(2)
    senders.send([sent(camera, numbers) for numbers in split(2)], slow)
    outcome = reading.reasons("complete")
    alone = decode(acquisition(camera, FRAMES, SCAN.frames), SCAN)
    assert outcome.scans[0].key()[1:] == alone.scans[0].key()[1:]
    assert outcome.scans[0].sequence == list(range(SCAN.frames))
    assert not outcome.notices


def test_scans_follow_each_other_and_a_fast_link_waits_for_the_slow_one(read: Read) -> None:
    senders, reading = read(3)
    scans = [sent(SMALL, numbers) for numbers in in_turn(3)]
    senders.send([3 * pieces for pieces in scans], {2: 0.001})
    outcome = reading.reasons("complete", "complete", "complete")
    alone = decode(acquisition(SMALL, FRAMES, SCAN.frames), SCAN).scans[0]
    for scan in outcome.scans:
        assert scan.key()[4:] == alone.key()[4:]
    assert not outcome.notices


def test_a_frame_between_lines_that_is_still_under_way_holds_the_end_of_a_scan() -> None:
    """All positions are there, and one link is through; the other has one frame of flyback yet."""
    scan = JoinedScan(an_acquisition(SCAN.shape), 0, 0.0)
    scan.acquisition = replace(scan.acquisition, scan=SCAN)
    scan.parts = {0: LinkPart(SCAN.frames - 1, "complete"), 1: LinkPart(SCAN.frames - 3)}
    scan.frames, scan.positions = SCAN.frames - 1, SCAN.positions
    links: list[Any] = [
        SimpleNamespace(number=number, waits=None, connected=True, gone_since=0.0, heard=100.0)
        for number in (0, 1)
    ]
    settings = MerlinSettings(idle_timeout_s=2.0)
    assert why_over(links, scan, 100.5, settings) is None
    assert why_over(links, scan, 103.0, settings) == "idle", "a lost one is not waited for"
    assert scan.reason("idle") == "complete"
    scan.frames += 1
    assert why_over(links, scan, 100.5, settings) == "complete"


def test_scans_of_one_acquisition_whose_numbers_go_on(read: Read) -> None:
    senders, reading = read(2)
    numbers = range(1, 2 * SCAN.frames + 1)
    begin = hdr(SMALL, 2 * SCAN.frames)
    senders.send(
        [[begin, *(frame(SMALL, number) for number in part)] for part in in_turn(2, numbers)]
    )
    outcome = reading.reasons("complete", "complete")
    alone = decode(acquisition(SMALL, numbers, 2 * SCAN.frames), SCAN)
    assert [s.key()[4:] for s in outcome.scans] == [s.key()[4:] for s in alone.scans]


def test_a_frame_that_both_links_bring_counts_once(read: Read) -> None:
    senders, reading = read(2)
    odd, even = in_turn(2)
    senders.send([sent(SMALL, odd), sent(SMALL, sorted([*even, *odd[:20]]))])
    scan = reading.reasons("complete").scans[0]
    assert len(scan.patterns) == SCAN.positions
    assert sorted(set(scan.sequence)) == list(range(SCAN.frames))


def test_a_link_that_dies_is_named_and_leaves_holes_where_its_frames_are_missing(
    read: Read,
) -> None:
    senders, reading = read(2, idle_timeout_s=2.0)
    odd, even = in_turn(2)
    senders.send([sent(SMALL, []), sent(SMALL, even[:20])])
    wait_until(lambda: reading.outcome.scans, "the scan begins", SECONDS)
    for each in (senders.peers[1], senders.listeners[1]):
        each.close()
    senders._send(senders.peers[0], [frame(SMALL, n) for n in odd], 0.0)
    outcome = reading.reasons("complete")  # its last position has come
    here = np.array([*odd, *even[:20]]) - 1
    expected = SCAN.probes(np.sort(here))
    assert outcome.scans[0].probe == expected.tolist()
    assert sorted(outcome.scans[0].patterns) == sorted(expected[expected >= 0].tolist())
    dead = senders.addresses[1]
    assert any(not each.connected and dead in each.text for each in outcome.links)
    assert "link 2 of 2" in outcome.links[-1].text
    assert any("did not come" in text and dead in text for text in outcome.texts)
    assert not any(senders.addresses[0] in text for text in outcome.texts)


def test_a_link_that_comes_back_goes_on_where_it_was(read: Read) -> None:
    senders, reading = read(2)
    odd, even = in_turn(2)
    senders.send([sent(SMALL, odd[:20]), sent(SMALL, even[:20])])
    wait_until(lambda: reading.outcome.scans, "the scan begins", SECONDS)
    senders.peers[1].close()
    senders.peers[1] = senders.listeners[1].accept()[0]
    senders.send([[frame(SMALL, n) for n in part[20:]] for part in (odd, even)])
    scan = reading.reasons("complete").scans[0]
    alone = decode(acquisition(SMALL, FRAMES, SCAN.frames), SCAN).scans[0]
    assert scan.key()[4:] == alone.key()[4:]


def test_a_lost_frame_ends_the_scan_soon_and_spoils_no_other(read: Read) -> None:
    senders, reading = read(2)
    odd, even = in_turn(2)
    lacking = [n for n in odd if n != 7]
    senders.send([sent(SMALL, lacking) + sent(SMALL, odd), sent(SMALL, even) + sent(SMALL, even)])
    outcome = reading.reasons("complete", "complete")
    assert [len(scan.patterns) for scan in outcome.scans] == [SCAN.positions - 1, SCAN.positions]
    assert outcome.notices == {"missing_frames": 1}


def test_a_camera_without_announcements_begins_again_on_every_link(read: Read) -> None:
    senders, reading = read(2)
    pieces = [[frame(SMALL, n) for n in numbers] for numbers in in_turn(2)]
    senders.send([2 * each for each in pieces])
    outcome = reading.reasons("complete", "complete")
    assert [len(scan.patterns) for scan in outcome.scans] == 2 * [SCAN.positions]


def test_stop_ends_a_scan_of_which_half_is_here(read: Read) -> None:
    senders, reading = read(2)
    senders.send([sent(SMALL, part[:10]) for part in in_turn(2)])
    wait_until(lambda: reading.adapter._scan and reading.adapter._scan.frames == 20, "20", SECONDS)
    for adapter in reading.adapter._adapters:
        adapter.end_scan()
    scan = reading.reasons("stopped").scans[0]
    assert scan.sequence == list(range(20))


def test_settings_say_what_is_wrong_with_links() -> None:
    for links, why in [
        (("a:1",), "two or more"),
        (("a:1", "a:1"), "same address twice"),
        (("a:1", "b"), "pattern"),
    ]:
        with pytest.raises(ValueError, match=why):
            MerlinSettings(links=links)
    with pytest.raises(ValueError, match="repeats"):
        MerlinSettings(links=("a:1", "b:1"), scan=Scan(shape=(2, 2), repeats=2))


# The daemon's reader: reduced by link, recorded in order


class Owner:
    """Keeps the finished scans of a reader."""

    def __init__(self, folder: Path, engines: Sequence[EngineChoice], *, record: bool) -> None:
        self.folder, self.engines, self.record = folder, engines, record
        self.settings = settings_of(engines, Optics(pixel_size_mrad=1.0))
        self.begun: list[ScanRun] = []
        self.finished: list[ScanRun] = []

    def begin(self, acquisition: Any) -> tuple[ScanRun, Any]:
        """A scan, and its record."""
        recorder = None
        if self.record:
            recorder = RawRecorder()
            recorder.start(acquisition, self.folder)
        run = ScanRun(acquisition, self.settings, self.engines)
        self.begun.append(run)
        return run, SimpleNamespace(recorder=recorder)

    def finish(self, run: ScanRun, files: Any) -> None:
        """The scan has ended."""
        if files.recorder is not None:
            files.recorder.finish()
        run.feed()
        self.finished.append(run)

    def settings_now(self) -> Any:
        """Those in force."""
        return self.settings

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


ENGINES = ("ricom", "com", "virtual_detector", "pacbed", "pattern")


def images_of(settings: MerlinSettings, senders: Senders, folder: Path, **more: Any) -> Any:
    folder.mkdir()
    choices = [
        engine(name, detectors={"adf": (2.0, 4.0)}) if name == "virtual_detector" else engine(name)
        for name in more.pop("engines", ENGINES)
    ]
    owner = Owner(folder, choices, record=more.pop("record", True))
    reader = Reader("cam", lambda: PLUGIN.build(settings), owner)  # type: ignore[arg-type]
    reader.adapter.pool.block_bytes = 2048
    reader.start()
    try:
        senders.accept()
        for part in more.pop("parts"):
            senders.send(part, **more)
            wait_until(
                lambda: owner.begun and owner.begun[0].sums.reducer.centre_fixed,
                "the centre is found",
                SECONDS,
            )
        wait_until(lambda: owner.finished, "the scan ends", SECONDS)
    finally:
        reader.close()
        assert reader.join(SECONDS)
        senders.close()
    run = owner.finished[0]
    images = {r.name: r.image.tobytes() for r in run.snapshot(final=True).results}
    maps = run.maps
    images |= {"sums": maps.total.tobytes(), "done": maps.done.tobytes()}
    record = (folder / "raw.mib").read_bytes() if (folder / "raw.mib").exists() else b""
    return run, images, record


LARGE = Scan(shape=(16, 24))
NUMBERS = range(1, LARGE.frames + 1)


def large(split: Split) -> list[list[list[bytes]]]:
    """What each link sends of frames up to 160, and of the others."""
    begin = [[hdr(SMALL, LARGE.frames), *_frames(n for n in part if n <= 160)] for part in split]
    return [begin, [_frames(n for n in part if n > 160) for part in split]]


def _frames(numbers: Iterable[int]) -> list[bytes]:
    return [frame(SMALL, number) for number in numbers]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, bytes]:
    one = Senders(1)
    settings = MerlinSettings(data_port=int(one.addresses[0].split(":")[1]), scan=LARGE)
    folder = tmp_path_factory.mktemp("links") / "alone"
    _, images, record = images_of(settings, one, folder, parts=large([NUMBERS]))
    return images, record


@pytest.mark.parametrize("split", [in_turn, in_halves])
@pytest.mark.parametrize("slow", [{}, {0: 0.0005}], ids=["even", "first slower"])
def test_two_links_give_the_images_and_the_record_of_one_to_the_byte(
    alone: tuple[Any, bytes],
    tmp_path: Path,
    split: Callable[[int, Sequence[int]], Split],
    slow: Mapping[int, float],
) -> None:
    senders = Senders(2)
    settings = MerlinSettings(links=senders.addresses, scan=LARGE, idle_timeout_s=10.0)
    parts = large(split(2, NUMBERS))
    run, images, record = images_of(settings, senders, tmp_path / "two", parts=parts, pause_s=slow)
    assert run.status == "complete"
    assert images == alone[0]
    assert record == alone[1]
    assert record == b"".join(chain(frame(SMALL, n)[15:] for n in NUMBERS))
    assert len(run.sums.links) == 2, "blocks were reduced in the links' threads"


def test_without_a_record_nothing_waits_for_its_turn(
    alone: tuple[Any, bytes], tmp_path: Path
) -> None:
    senders = Senders(2)
    settings = MerlinSettings(links=senders.addresses, scan=LARGE, idle_timeout_s=10.0)
    more = {"record": False, "engines": ENGINES[:3]}
    parts = large(in_halves(2, NUMBERS))
    run, images, _ = images_of(settings, senders, tmp_path / "two", parts=parts, **more)
    assert run.frames == LARGE.frames
    assert images == {name: alone[0][name] for name in images}
