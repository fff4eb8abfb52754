"""Numbers that jump back in mid scan: live and from the record the frames have the same places."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.dectris import stream2, zmtp
from stemd.adapters.files import open_recording
from stemd.adapters.frames.marks import mark_frames
from tests.dectris.streams import decode as decode_images
from tests.dectris.streams import end, image, start
from tests.dectris.streams import frame as dectris_frame
from tests.merlin.streams import SMALL, Outcome, decode, frame, hdr, pattern

SCAN = Scan(shape=(8, 9), flyback=1)  # 80 frames


def sent(numbers: Sequence[tuple[int, int]]) -> bytes:
    """Frames (which, number)."""
    return hdr(SMALL, 80) + b"".join(frame(SMALL, n, shown) for n, shown in numbers)


def from_file(path: Path, wire: bytes) -> tuple[dict[int, Any], list[Any]]:
    path.write_bytes(wire)
    recording = open_recording(path, SCAN)
    found: dict[int, Any] = {}
    for block in recording.blocks(0, recording.frames):
        for place, one in zip(block.probe.tolist(), block.patterns(), strict=True):
            if place >= 0:
                assert place not in found
                found[place] = one.copy()
        block.release()
    return found, [*recording.notices]


def both_agree(tmp_path: Path, outcome: Outcome) -> dict[int, Any]:
    (seen,) = outcome.scans
    found, notices = from_file(tmp_path / "raw.mib", seen.wire)
    assert set(found) == set(seen.patterns)
    for place, one in found.items():
        np.testing.assert_array_equal(one, seen.patterns[place])
    assert notices
    return found


@pytest.mark.parametrize("back", [10, 20, 38])
def test_frames_of_a_camera_that_lost_its_count_go_on_in_their_order(
    back: int, tmp_path: Path
) -> None:
    numbers = [(n, n if n <= 40 else n - back) for n in range(1, 81)]
    outcome = decode(sent(numbers), SCAN)
    (seen,) = outcome.scans
    assert (seen.reason, len(seen.patterns)) == ("complete", 72)
    for place, one in seen.patterns.items():
        np.testing.assert_array_equal(one, pattern(SMALL, place + place // 9 + 1))
    assert outcome.notices == {"numbers_begin_again": 1}
    assert f"from 39 to {40 - back}" in outcome.texts[0]
    both_agree(tmp_path, outcome)
    pick = random.Random(back).choice
    cuts = (pick([1, 15, 400, 3000, -1]) for _ in itertools.count())
    assert decode(sent(numbers), SCAN, cuts, 700).key() == outcome.key()


def test_what_was_lost_elsewhere_stays_a_hole_in_its_place(tmp_path: Path) -> None:
    numbers = [(n, n if n <= 40 else n - 20) for n in range(1, 81) if n not in (7, 63)]
    outcome = decode(sent(numbers), SCAN)
    found = both_agree(tmp_path, outcome)
    assert set(range(72)) - set(found) == {6, 62 - 62 // 10}
    assert outcome.notices["missing_frames"] == 2


@pytest.mark.parametrize("lost", [38, 39, 42, 43])
def test_what_was_lost_beside_the_jump_stays_a_hole_in_its_place(lost: int, tmp_path: Path) -> None:
    numbers = [(n, n if n <= 40 else n - 20) for n in range(1, 81) if n != lost]
    found = both_agree(tmp_path, decode(sent(numbers), SCAN))
    assert set(range(72)) - set(found) == {lost - 1 - (lost - 1) // 10}
    for place, one in found.items():
        np.testing.assert_array_equal(one, pattern(SMALL, place + place // 9 + 1))


def test_a_camera_that_finds_its_count_again_is_believed(tmp_path: Path) -> None:
    numbers = [(n, n - 20 if 40 < n <= 60 else n) for n in range(1, 81)]
    found = both_agree(tmp_path, decode(sent(numbers), SCAN))
    assert len(found) == 72
    for place, one in found.items():
        np.testing.assert_array_equal(one, pattern(SMALL, place + place // 9 + 1))


def test_frames_that_truly_come_again_are_left_out(tmp_path: Path) -> None:
    """The camera sends twenty frames twice, byte for byte, and goes on."""
    order = [*range(1, 41), *range(21, 41), *range(41, 81)]
    outcome = decode(sent([(n, n) for n in order]), SCAN)
    assert outcome.notices == {"repeated_frames": 18}  # two of the twenty are flyback
    assert len(both_agree(tmp_path, outcome)) == 72
    for place, one in outcome.scans[0].patterns.items():
        np.testing.assert_array_equal(one, pattern(SMALL, place + place // 9 + 1))


def test_one_low_number_that_lies_loses_no_frame(tmp_path: Path) -> None:
    outcome = decode(sent([(n, 5 if n == 41 else n) for n in range(1, 81)]), SCAN)
    assert len(both_agree(tmp_path, outcome)) == 72
    assert outcome.notices == {"numbers_lie": 1}


def test_images_of_a_series_whose_numbers_jump_back_go_on_in_their_order() -> None:
    scan = Scan(shape=(8, 9), flyback=1)
    images = [dectris_frame(n) for n in range(40)]
    for n in range(40, 80):
        data = {"threshold_1": stream2.encode_array(image(n), "bslz4")}
        images.append(zmtp.message(stream2.encode_image(1, n - 20, data)))
    outcome = decode_images(start(80) + b"".join(images) + end(), scan)
    (seen,) = outcome.scans
    assert (seen.reason, len(seen.patterns)) == ("complete", 72)
    for place, one in seen.patterns.items():
        np.testing.assert_array_equal(one, image(place + place // 9))


def test_marks_tell_frames_apart_and_know_those_that_are_the_same() -> None:
    frames = np.random.default_rng(0).poisson(0.1, (500, 3000)).astype(np.uint8)
    frames[250:] = frames[:250]
    marks = np.zeros(500, np.uint16)
    mark_frames(frames.reshape(-1), np.arange(501) * 3000, 0, 500, marks)
    assert np.array_equal(marks[:250], marks[250:])
    assert np.unique(marks).size >= 248  # of 65,535
    assert (marks > 0).all()
