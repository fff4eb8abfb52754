"""Recorded .mib files: opened, placed, cut off, with holes; and read by a public reader."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from rsciio.quantumdetector import file_reader, load_mib_data

from stemd.acquisition import Scan
from stemd.adapters.frames.recording import FrameRecording
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr
from stemd.adapters.merlin.recording import open_recording
from stemd.blocks import Notice
from stemd.errors import FormatError
from tests.merlin.streams import SMALL, Outcome, acquisition, decode, pattern


def write(
    folder: Path,
    numbers: list[int],
    camera: Camera = SMALL,
    frames: int | None = None,
    tail: bytes = b"",
    **more: object,
) -> Path:
    """A .mib file of these frames; `frames` also writes the .hdr."""
    path = folder / "scan.mib"
    data = b"".join(
        encode_frame(pattern(camera, n), camera, n % 1_000_000, 1_000_000 * n) for n in numbers
    )
    path.write_bytes(data + tail)
    hdr = path.with_suffix(".hdr")
    hdr.unlink(missing_ok=True)
    if frames is not None:
        hdr.write_bytes(encode_hdr(camera, frames, **more))  # type: ignore[arg-type]
    return path


def read(recording: FrameRecording, *edges: int) -> tuple[list[int], dict[int, np.ndarray]]:
    """Probes of all frames in file order and the pattern of each position."""
    probes: list[int] = []
    found: dict[int, np.ndarray] = {}
    bounds = [0, *edges, recording.frames]
    for start, stop in itertools.pairwise(bounds):
        for block in recording.blocks(start, stop):
            assert block.acquisition is recording.acquisition
            probes += block.probe.tolist()
            for probe, image in zip(block.probe.tolist(), block.patterns(), strict=True):
                if probe >= 0:
                    found[probe] = image.astype(np.uint64)
            block.release()
    return probes, found


def test_a_public_reader_reads_what_the_encoder_wrote(tmp_path: Path) -> None:
    for depth, code in ((6, np.uint8), (12, np.uint16), (24, np.uint32)):
        camera = Camera((8, 12), depth)
        path = write(tmp_path, list(range(1, 7)), camera, frames=6)
        data, headers = load_mib_data(str(path), return_headers=True)
        assert data.dtype.newbyteorder("=") == code
        for n in range(6):
            np.testing.assert_array_equal(data[n], pattern(camera, n + 1))
        assert bytes(headers[2]).startswith(b"MQ1,000003,00384,01,0012,0008,")


def test_a_record_of_the_live_decoder_opens_in_a_public_reader(tmp_path: Path) -> None:
    scan = Scan(shape=(2, 3), flyback=0)
    (seen,) = decode(acquisition(SMALL, range(1, 7), 6), scan).scans
    path = tmp_path / seen.acquisition.raw_name
    path.write_bytes(seen.wire)
    for name, content in seen.acquisition.sidecars:
        (tmp_path / name).write_bytes(content)
    (read_back,) = file_reader(str(path), navigation_shape=(3, 2))
    np.testing.assert_array_equal(
        read_back["data"].reshape(6, *SMALL.shape)[:, ::-1],
        [pattern(SMALL, n) for n in range(1, 7)],
    )
    assert read_back["original_metadata"]["hdr_file"]["Gain"] == "SLGM"


@pytest.mark.parametrize(
    "camera", [SMALL, Camera((3, 256), 1, True), Camera((4, 512), 24, True, 4)]
)
def test_blocks_hold_the_patterns_of_their_positions(tmp_path: Path, camera: Camera) -> None:
    scan = Scan(shape=(3, 4), flyback=1, leading=2, serpentine=True)
    path = write(tmp_path, list(range(1, scan.frames + 1)), camera, frames=scan.frames)
    recording = open_recording(path, scan)
    probes, found = read(recording, 5, 6)
    assert probes == scan.probes(np.arange(scan.frames, dtype=np.int64)).tolist()
    for probe, image in found.items():
        np.testing.assert_array_equal(image, pattern(camera, probes.index(probe) + 1))
    assert recording.notices == ()
    assert recording.acquisition.detector.shape == camera.shape
    recording.close()


@settings(deadline=None, max_examples=25)
@given(
    # with more than half of the frames lost it is doubtful whose numbers they are
    lost=st.sets(st.integers(1, 20), max_size=7),
    twice=st.sets(st.integers(1, 20)),
    flyback=st.integers(0, 1),
    cut=st.integers(0, 20),
)
def test_a_file_gives_the_positions_that_the_live_decoder_gave(
    tmp_path_factory: pytest.TempPathFactory,
    lost: set[int],
    twice: set[int],
    flyback: int,
    cut: int,
) -> None:
    scan = Scan(shape=(4, 4), flyback=flyback)
    # What comes after a scan's last frame is not in its record: the live scan is over by then.
    twice -= {scan.frames}
    numbers = [n for n in range(1, 25) if n not in lost for _ in range(1 + (n in twice))]
    live = decode(acquisition(SMALL, numbers, 0), scan).scans[0]
    kept = [n for n in numbers if n <= scan.frames]
    assume(any(p >= 0 for p in scan.probes(np.array(kept, np.int64) - 1)))
    path = write(tmp_path_factory.mktemp("mib"), kept, frames=0)
    with_file = open_recording(path, scan)
    probes, found = read(with_file, min(cut, len(kept)))
    with_file.close()
    # Which of two frames of one number counts may differ, that one of them does must not.
    assert len(probes) == len(live.probe)
    assert sorted(probes) == sorted(live.probe)
    assert found.keys() == live.patterns.keys()
    for probe, image in found.items():
        np.testing.assert_array_equal(image, live.patterns[probe])


def test_threads_that_start_in_the_middle_unwrap_numbers_as_the_first_does(tmp_path: Path) -> None:
    first, count = 999_990, 64
    path = write(tmp_path, list(range(first, first + count)), Camera((2, 2), 6), frames=count)
    recording = open_recording(path, Scan(shape=(8, 8), flyback=0))
    parts: list[list[int]] = [[] for _ in range(4)]

    def work(index: int) -> None:
        for block in recording.blocks(index * 16, index * 16 + 16):
            parts[index] += block.probe.tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(itertools.chain(*parts)) == list(range(64))
    recording.close()


@pytest.mark.parametrize(
    ("shape", "numbers", "flyback"),
    [
        ((3, 4), list(range(1, 13)), 0),
        ((3, 4), list(range(1, 16)), 1),
        ((3, 4), list(range(1, 15)), 1),
        ((3, 4), [1, 2, 3, 4, 7, 8, 9, 10, 13, 14, 15, 16], 2),
        ((2, 2), [1, 2, 4, 5], 1),
        ((3, 4), [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12], 0),
    ],
)
def test_flyback_is_found_from_the_count_and_from_regular_gaps(
    tmp_path: Path, shape: tuple[int, int], numbers: list[int], flyback: int
) -> None:
    recording = open_recording(write(tmp_path, numbers), Scan(shape=shape))
    scan = recording.acquisition.scan
    assert scan.flyback == flyback
    probes, _ = read(recording)
    assert probes == scan.probes(np.array(numbers, np.int64) - 1).tolist()


def test_a_file_whose_flyback_frames_were_taken_out_is_a_scan_without_flyback(
    tmp_path: Path,
) -> None:
    recording = open_recording(write(tmp_path, [1, 2, 4, 5]), Scan(shape=(2, 2), flyback=0))
    assert read(recording)[0] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("numbers", "told", "shape"),
    [
        (list(range(1, 17)), None, (4, 4)),
        (list(range(1, 16)), (3, 5), (3, 5)),
        (list(range(1, 8)), None, (1, 7)),
        ([1, 2, 3, 5, 6, 7], None, (2, 3)),
        ([4711], None, (1, 1)),
    ],
)
def test_the_shape_is_found_from_the_hdr_the_gaps_or_the_count(
    tmp_path: Path, numbers: list[int], told: tuple[int, int] | None, shape: tuple[int, int]
) -> None:
    path = write(tmp_path, numbers, frames=len(numbers), scan_shape=told)
    recording = open_recording(path)
    assert recording.acquisition.scan.shape == shape
    assert read(recording)[0] == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([1, 2, 3, 6, 7, 8], "2 are skipped after 3 frames, once"),
        ([1, 2, 4, 5, 7, 8], "1 are skipped after each line of 2"),
        (
            [1, 2, 3, 4, 5, 6],
            "6 frames and not of the scan's size: they are taken for a single line",
        ),
        ([*range(1, 10)], "9 frames and not of the scan's size: they are taken for 3 lines of 3"),
        ([1], ""),
    ],
)
def test_a_size_that_only_gaps_or_the_count_tell_is_said_to_be_a_guess(
    tmp_path: Path, numbers: list[int], text: str
) -> None:
    recording = open_recording(write(tmp_path, numbers))
    notices = [n for n in recording.notices if isinstance(n, Notice) and n.kind == "size_guessed"]
    assert [text in notice.text for notice in notices] == [True] * bool(text)


def test_a_cut_off_last_frame_is_noticed_and_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, list(range(1, 9)), tail=b"MQ1,000009,00384")
    recording = open_recording(path, Scan(shape=(3, 3), flyback=0))
    outcome = Outcome()
    outcome.take(recording.notices)
    assert (recording.frames, outcome.notices["partial_frame"]) == (8, 1)
    assert read(recording)[0] == list(range(8))


def test_frames_beyond_the_scan_and_holes_are_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, [1, 2, 4, 5, 6, 7])
    outcome = Outcome()
    recording = open_recording(path, Scan(shape=(2, 3), flyback=0))
    outcome.take(recording.notices)
    assert outcome.notices == {"missing_frames": 1, "extra_frames": 1}
    assert read(recording)[0] == [0, 1, 3, 4, 5, -1]


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"MQ1", b"???"),
        (b"U16", b"U32"),
        (b",01,", b",04,"),
        (b"00384,", b"00512,"),
        (b"000005", b"00000x"),
    ],
)
def test_a_frame_without_a_usable_header_has_no_position_and_is_named(
    tmp_path: Path, what: bytes, instead: bytes
) -> None:
    path = write(tmp_path, list(range(1, 10)))
    data = bytearray(path.read_bytes())
    size = len(data) // 9
    at = data.index(what, 4 * size)
    assert at < 4 * size + 100
    data[at : at + len(what)] = instead
    path.write_bytes(data)
    recording = open_recording(path, Scan(shape=(3, 3)))
    assert read(recording)[0] == [0, 1, 2, 3, -1, 5, 6, 7, 8]
    outcome = Outcome()
    outcome.take(recording.notices)
    assert outcome.notices == {"bad_header": 1}
    (notice,) = recording.notices
    assert "frame 4 of the file is the first" in str(notice)


@pytest.mark.parametrize("frames", [None, 12])
def test_a_wrong_scan_size_is_an_error_that_lists_what_fits(
    tmp_path: Path, frames: int | None
) -> None:
    path = write(tmp_path, list(range(1, 13)), frames=frames)
    for shape in ((10, 10), (3, 3), (7, 1)):
        with pytest.raises(FormatError, match="12 frames do not fit a scan") as caught:
            open_recording(path, Scan(shape=shape, flyback=0))
        assert "3x4" in caught.value.remedy
        assert "with flyback 1: 3x3" in caught.value.remedy


def test_a_scan_that_was_stopped_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path, list(range(1, 20)), frames=100)
    assert read(open_recording(path, Scan(shape=(10, 10))))[0] == list(range(19))


@pytest.mark.parametrize("content", [b"", b"MPX,0000000385,HDR", b"\0" * 5000])
def test_a_file_that_is_no_mib_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.mib"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"no\.mib") as caught:
        open_recording(path)
    assert caught.value.remedy


def test_a_file_shorter_than_a_frame_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, [1])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="less than one frame"):
        open_recording(path)


def test_reading_changes_nothing_in_the_file_and_closing_leaves_kept_blocks_usable(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, [1, 2, 3, 4])
    before = path.read_bytes()
    recording = open_recording(path)
    kept = list(recording.blocks(0, 4))
    assert kept[0].wire.tobytes() == before
    recording.close()
    kept[0].wire[:] = 0
    assert path.read_bytes() == before


@given(
    faults=st.lists(
        st.tuples(
            st.integers(1, 11), st.sampled_from(["too many", "missing"]), st.integers(1, 900)
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda fault: fault[0],
    ),
    cut=st.booleans(),
)
@example(faults=[(5, "missing", 300), (9, "too many", 300)], cut=False)
@example(faults=[(9, "too many", 7), (11, "too many", 5)], cut=True)
@example(faults=[(10, "missing", 455)], cut=False)
@example(faults=[(10, "missing", 500), (4, "missing", 300)], cut=False)
@example(faults=[(3, "too many", 400), (6, "missing", 300), (7, "missing", 100)], cut=False)
def test_bytes_missing_or_too_many_cost_no_frame_behind_them(
    tmp_path_factory: pytest.TempPathFactory, faults: list[tuple[int, str, int]], cut: bool
) -> None:
    path = write(tmp_path_factory.mktemp("torn"), list(range(1, 13)))
    whole = path.read_bytes()
    size = len(whole) // 12
    frames = [whole[k * size : (k + 1) * size] for k in range(12)]
    lost = set()
    for frame, fault, count in faults:
        if fault == "too many":
            frames[frame] = b"\xa5" * count + frames[frame]
        else:
            frames[frame] = frames[frame][: -min(count, size - 8)]
            lost.add(frame)
    data = b"".join(frames)
    path.write_bytes(data[:-7] if cut else data)
    lost |= {11} if cut else set()
    probes, found = read(recording := open_recording(path, Scan(shape=(3, 4), flyback=0)))
    assert {probe for probe in probes if probe >= 0} >= set(range(12)) - lost
    for probe in set(range(12)) - lost:
        np.testing.assert_array_equal(found[probe], pattern(SMALL, probe + 1))
    kinds = {notice.kind for notice in recording.notices if isinstance(notice, Notice)}
    assert kinds & {"skipped_bytes", "partial_frame", "bad_header"}
