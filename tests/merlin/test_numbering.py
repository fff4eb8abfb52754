"""Numbers that begin again, lie or repeat, joined and split files: what can be placed is placed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.files import open_joined, open_recording
from stemd.adapters.frames.numbering import sort_out
from stemd.adapters.merlin.encoder import Camera, encode_frame, message
from stemd.adapters.merlin.encoder import encode_hdr as encode_merlin_hdr
from stemd.adapters.merlin.hdr import encode_hdr
from stemd.cli.main import main
from stemd.errors import FormatError

from .streams import decode

KIND = Camera(shape=(8, 8))


def frame(value: int, number: int) -> bytes:
    return encode_frame(np.full((8, 8), value, np.uint16), KIND, number)


def write(
    path: Path, numbers: Sequence[int], values: Sequence[int] | None = None, **hdr: Any
) -> Path:
    """A file whose frame number i has `values[i]` (default: i) in all pixels."""
    shown = range(len(numbers)) if values is None else values
    path.write_bytes(b"".join(map(frame, shown, numbers)))
    if hdr:
        text = {key.replace("_", " "): str(value) for key, value in hdr.items()}
        path.with_suffix(".hdr").write_bytes(encode_hdr(text))
    return path


def values_of(recording: Any) -> NDArray[np.int64]:
    """The value of each position's pattern, -1 where there is none."""
    found = np.full(recording.acquisition.scan.positions, -1, np.int64)
    for block in recording.blocks(0, recording.frames):
        used = block.probe >= 0
        found[block.probe[used]] = block.patterns()[used, 0, 0]
        block.release()
    return found


def kinds(recording: Any) -> set[str]:
    return {notice.kind for notice in recording.notices}


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([*range(1, 17)] * 4, "begin again 3 times, after 16 frames"),
        ([7] * 64, "all 64 frames have numbers that do not count up"),
        ([*range(1, 33), *range(1, 33)], "begin again once, after 32 frames"),
        ([1 + n // 8 for n in range(64)], "the 64 frames share 8 numbers"),
    ],
    ids=["begin again", "all equal", "two halves", "one a line"],
)
def test_frames_whose_numbers_say_nothing_are_placed_by_their_order(
    tmp_path: Path, numbers: list[int], told: str
) -> None:
    recording = open_recording(write(tmp_path / "a.mib", numbers), Scan(shape=(8, 8)))
    assert values_of(recording).tolist() == list(range(64))
    assert told in recording.notices[0].text  # type: ignore[union-attr]
    assert recording.notices[0].remedy  # type: ignore[union-attr]


@pytest.mark.parametrize("lying", [0, 20, 63])
@pytest.mark.parametrize("number", [999_999, 5000])
def test_one_absurd_number_does_not_lose_its_frame(tmp_path: Path, lying: int, number: int) -> None:
    numbers = list(range(1, 65))
    numbers[lying] = number
    recording = open_recording(write(tmp_path / "a.mib", numbers), Scan(shape=(8, 8)))
    assert values_of(recording).tolist() == list(range(64))
    assert kinds(recording) == {"numbers_lie"}
    assert f"frame {lying} of the file says {number}" in recording.notices[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("step", [2, 3, 8])
@pytest.mark.parametrize("first", [1, 2, 500])
@pytest.mark.parametrize("lost", [[], [20, 33]])
def test_numbers_that_go_up_by_the_same_all_over_the_file_are_one_scan(
    tmp_path: Path, step: int, first: int, lost: list[int]
) -> None:
    kept = [n for n in range(64) if n not in lost]
    path = write(tmp_path / "a.mib", [first + step * n for n in kept], kept)
    recording = open_recording(path, Scan(shape=(8, 8)))
    assert recording.scans == 1  # type: ignore[attr-defined]
    assert values_of(recording).tolist() == [-1 if n in lost else n for n in range(64)]
    assert f"go up by {step} from frame to frame" in recording.notices[0].text  # type: ignore[union-attr]
    if not lost:
        alone = open_recording(path)
        assert alone.acquisition.scan.shape == (8, 8)
        assert values_of(alone).tolist() == list(range(64))


def test_every_second_frame_of_a_scan_leaves_holes(tmp_path: Path) -> None:
    """As in the file of one of two links: the numbers fit the scan as they are."""
    path = write(tmp_path / "a.mib", range(1, 128, 2))
    found = values_of(open_recording(path, Scan(shape=(8, 16))))
    assert found[::2].tolist() == list(range(64))
    assert (found[1::2] < 0).all()


def test_several_scans_whose_numbers_go_up_by_two_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mib", range(1, 256, 2))
    scans = list(open_recording(path, Scan(shape=(8, 8))).each_scan())  # type: ignore[attr-defined]
    found = [values_of(scan).tolist() for scan in scans]
    assert found == [list(range(64)), list(range(64, 128))]


def test_missing_late_and_repeated_frames_are_placed_by_number_and_repeats_told(
    tmp_path: Path,
) -> None:
    numbers = [*range(1, 10), 11, 10, 12, 12, *range(15, 65)]
    recording = open_recording(write(tmp_path / "a.mib", numbers), Scan(shape=(8, 8)))
    found = values_of(recording)
    assert np.flatnonzero(found < 0).tolist() == [12, 13]
    assert (found[9], found[10], found[11], found[14]) == (10, 9, 11, 13)
    assert {"repeated_frames", "missing_frames"} <= kinds(recording)


@settings(deadline=None, max_examples=60)
@given(
    lies=st.dictionaries(st.integers(0, 99), st.integers(200, 999_999), max_size=4),
    lost=st.sets(st.integers(1, 98), max_size=10),
)
@example(lies={7: 200, 8: 209}, lost=set())
@example(lies={7: 200, 8: 201, 9: 202}, lost={12})
@example(lies={0: 200, 1: 205}, lost=set())
@example(lies={0: 200, 1: 209, 3: 500}, lost={2, 6})
@example(lies={96: 200, 97: 209}, lost=set())
def test_few_lies_among_true_numbers_are_put_right(lies: dict[int, int], lost: set[int]) -> None:
    # four side by side may be true as well, for all that one can know
    assume(not any({at + 1, at + 2, at + 3} <= set(lies) for at in lies))
    true = np.array([n for n in range(1, 101) if n - 1 not in lost], np.int64)
    said = true.copy()
    for at, number in lies.items():
        if at < said.size:
            said[at] = number
    found = sort_out(said, 100)
    assert len(found.firsts) == 1
    honest = np.setdiff1d(np.arange(true.size), list(lies))
    assert (found.numbers[honest] == true[honest]).all()


def test_scans_one_behind_the_other_are_separate_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = write(tmp_path / "on.mib", range(1, 121))
    again = write(tmp_path / "again.mib", [*range(1, 61), *range(1, 61)])
    words = ["--scan", "6x10", "--flyback", "0", "--engine", "sum", "--out"]
    for path in (on, again):
        assert main(["process", str(path), *words, str(tmp_path / "out"), "--json"]) == 0
        documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [d["positions_done"] for d in documents] == [60, 60]
        assert "the file holds 2 scans, this is number 2" in str(documents[1]["notices"])
        for name, first in ((path.stem, 0), (f"{path.stem}_scan2", 60)):
            image = tifffile.imread(tmp_path / "out" / name / "sum.tif")
            assert image.ravel().tolist() == [64 * n for n in range(first, first + 60)]
    one = tmp_path / "one"
    assert main(["process", str(again), *words, str(one), "--scan-number", "2"]) == 0
    assert [path.name for path in one.iterdir()] == ["again_scan2"]
    assert main(["process", str(again), *words, str(one), "--scan-number", "3"]) == 1
    assert "holds 2 scans" in capsys.readouterr().err


def test_a_split_series_is_joined_and_half_of_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hdr = {"Frames_in_Acquisition_(Number)": 64}
    one = write(tmp_path / "a_001.mib", range(1, 41), range(40), **hdr)
    other = write(tmp_path / "a_002.mib", range(41, 65), range(40, 64))
    words = ["--scan", "8x8", "--engine", "sum", "--out", str(tmp_path / "out")]
    assert main(["process", str(one), str(other), "--join", *words]) == 0
    image = tifffile.imread(tmp_path / "out" / "a_001" / "sum.tif")
    assert image.ravel().tolist() == [64 * n for n in range(64)]
    capsys.readouterr()
    assert main(["check", str(one), "--scan", "8x8"]) == 1
    text = capsys.readouterr().out
    assert "the header promises 64 frames, the file holds 40" in text
    assert "--join" in text
    write(other, range(1, 25), range(40, 64))  # each file counts from 1
    recording = open_joined([one, other], Scan(shape=(8, 8)))
    assert values_of(recording).tolist() == list(range(64))
    assert kinds(recording) == {"numbers_begin_again"}
    other.write_bytes(encode_frame(np.zeros((4, 4), np.uint16), Camera(shape=(4, 4)), 1))
    with pytest.raises(FormatError, match=r"a_002\.mib: its frames are not like those of"):
        open_joined([one, other], Scan(shape=(8, 8)))


def test_joined_headers_are_read_wherever_the_cut_is(tmp_path: Path) -> None:
    for cut in (1, 31, 63):
        paths = [
            write(tmp_path / "a.mib", range(1, cut + 1), range(cut)),
            write(tmp_path / "b.mib", range(cut + 1, 65), range(cut, 64)),
        ]
        recording = open_joined(paths, Scan(shape=(8, 8)))
        assert values_of(recording).tolist() == list(range(64))
        assert not recording.notices


@pytest.mark.parametrize("suffix", [".hdr", ".HDR"])
def test_frames_per_trigger_give_the_length_of_a_line(tmp_path: Path, suffix: str) -> None:
    hdr = {"Frames_in_Acquisition_(Number)": 42, "Frames_per_Trigger_(Number)": 7}
    path = write(tmp_path / "a.mib", range(1, 43), **hdr)
    path.with_suffix(".hdr").rename(path.with_suffix(suffix))
    assert open_recording(path).acquisition.scan.shape == (6, 7)


@pytest.mark.parametrize("frames", [22, 40, 41])
def test_the_lines_of_a_scan_that_was_stopped_are_those_that_were_promised(
    tmp_path: Path, frames: int
) -> None:
    hdr = {"Frames_in_Acquisition_(Number)": 42, "Frames_per_Trigger_(Number)": 7}
    recording = open_recording(write(tmp_path / "a.mib", range(1, frames + 1), **hdr))
    assert recording.acquisition.scan.shape == (6, 7)
    assert "fewer_than_promised" in kinds(recording)


@pytest.mark.parametrize("lengths", [(16, 16, 16, 16), (20, 30, 14), (32, 32)])
@pytest.mark.parametrize("lost", [{(0, 9)}, {(0, 1)}, {(1, 2), (1, 7)}, {(0, 3), (1, 1)}])
def test_a_frame_that_lacks_where_numbers_begin_again_is_a_hole_in_its_place(
    tmp_path: Path, lengths: tuple[int, ...], lost: set[tuple[int, int]]
) -> None:
    every = [(part, n) for part, length in enumerate(lengths) for n in range(1, length + 1)]
    kept = [value for value, name in enumerate(every) if name not in lost]
    path = write(tmp_path / "a.mib", [every[value][1] for value in kept], kept)
    recording = open_recording(path, Scan(shape=(8, 8)))
    wanted = [value if value in kept else -1 for value in range(64)]
    assert values_of(recording).tolist() == wanted
    assert "part by part" in recording.notices[0].text  # type: ignore[union-attr]


def test_the_end_of_a_part_is_told_by_the_other_parts(tmp_path: Path) -> None:
    numbers = [*range(1, 17), *range(1, 16), *range(1, 17), *range(1, 17)]
    values = [value for value in range(64) if value != 31]
    recording = open_recording(write(tmp_path / "a.mib", numbers, values), Scan(shape=(8, 8)))
    assert values_of(recording).tolist() == [v if v != 31 else -1 for v in range(64)]


def live(numbers: Sequence[int], declared: int, scan: Scan) -> list[dict[int, int]]:
    """The value, which is the frame's number, of each position of each scan of a stream."""
    stream = message(encode_merlin_hdr(KIND, declared))
    stream += b"".join(message(frame(n % 60_000, n)) for n in numbers)
    seen = decode(stream, scan).scans
    return [{p: int(image[0, 0]) for p, image in each.patterns.items()} for each in seen]


@pytest.mark.parametrize("zero", [False, True], ids=["999999, 1", "999999, 0, 1"])
@pytest.mark.parametrize("lost", [None, 5, 28, 29, 50])
def test_numbers_that_wrap_leave_no_false_hole(
    tmp_path: Path, zero: bool, lost: int | None
) -> None:
    turn = 1_000_000 if zero else 999_999
    numbers = [n if n <= 999_999 else n - turn for n in range(999_970, 1_000_034)]
    kept = [k for k in range(64) if k != lost]
    path = write(tmp_path / "a.mib", [numbers[k] for k in kept], kept)
    scan = Scan(shape=(8, 8))
    if lost == 29 and not zero:
        return  # 999999 itself is lost: nobody can tell then whether a 0 was
    assert values_of(open_recording(path, scan)).tolist() == [
        k if k != lost else -1 for k in range(64)
    ]
    sent = [*range(999_937, 999_970), *(numbers[k] for k in kept), numbers[-1] + 1]
    holes = [64 - len(positions) for positions in live(sent, 0, scan)]
    assert holes == [int(lost in (5, 28, 29)), 30 + (lost == 50)]


def test_numbers_of_every_acquisition_of_a_connection_may_wrap() -> None:
    without_0 = [*range(999_937, 1_000_000), *range(1, 67)]
    with_0 = [*range(999_937, 1_000_000), *range(66)]
    stream = b""
    for numbers in (without_0, without_0, with_0, with_0):
        stream += message(encode_merlin_hdr(KIND, 0))
        stream += b"".join(message(frame(k, n)) for k, n in enumerate(numbers))
    scans = decode(stream, Scan(shape=(8, 8))).scans
    seen = [{p: int(image[0, 0]) for p, image in each.patterns.items()} for each in scans]
    assert seen[0::3] == [{p: p for p in range(64)}] * 4
    assert seen[1::3] == [{p: 64 + p for p in range(64)}] * 4


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from([(8, 8), (6, 7), (5, 12)]),
    flyback=st.integers(0, 2),
    scans=st.integers(1, 2),
    share=st.sampled_from([0.05, 0.3, 0.55, 0.7, 0.85, 0.93]),
    told=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_a_file_gives_the_positions_of_the_live_scan_however_many_frames_are_lost(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    flyback: int,
    scans: int,
    share: float,
    told: bool,
    seed: int,
) -> None:
    total = shape[0] * (shape[1] + flyback) * scans
    kept = random.Random(seed).sample(range(1, total + 1), max(2, int(total * (1 - share))))
    numbers = sorted(kept)
    path = write(tmp_path_factory.mktemp("file") / "a.mib", numbers, numbers)
    hdr = {"Frames in Acquisition (Number)": str(total), "Frames per Trigger (Number)": "1"}
    path.with_suffix(".hdr").write_bytes(encode_hdr(hdr))
    scan = Scan(shape=shape, flyback=flyback if told else None)
    found = [values_of(each) for each in open_recording(path, scan).each_scan()]
    assert [
        {int(p): int(values[p]) for p in np.flatnonzero(values >= 0)} for values in found
    ] == live(numbers, total, scan)
