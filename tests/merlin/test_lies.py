"""Single frame numbers that lie: the frames before and behind show the places of theirs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Scan
from tests.merlin.streams import SMALL, Outcome, decode, frame, hdr, pattern
from tests.merlin.test_jumps import both_agree, sent

SCAN = Scan(shape=(8, 9), flyback=1)  # 80 frames
ONE_A_BLOCK = 100  # bytes


def has_its_places(found: dict[int, Any]) -> None:
    for place, one in found.items():
        np.testing.assert_array_equal(one, pattern(SMALL, place + place // 9 + 1))


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 700, 2048])
@pytest.mark.parametrize(
    ("at", "said"),
    [(41, 42), (41, 44), (41, 60), (41, 79), (41, 80), (41, 81), (41, 90), (1, 33), (2, 50)],
)
def test_a_number_that_is_too_high_takes_no_other_frames_place(
    at: int, said: int, block_bytes: int, tmp_path: Path
) -> None:
    wire = sent([(n, said if n == at else n) for n in range(1, 81)])
    outcome = decode(wire, SCAN, block_bytes=block_bytes)
    (seen,) = outcome.scans
    assert (seen.reason, len(seen.patterns)) == ("complete", 72)
    has_its_places(seen.patterns)
    assert outcome.notices == {"numbers_lie": 1}
    assert f"says {said - 1} in place of {at - 1}" in outcome.texts[0]
    both_agree(tmp_path, outcome)
    pick = random.Random(at).choice
    cuts = (pick([1, 15, 400, 3000, -1]) for _ in itertools.count())
    assert decode(wire, SCAN, cuts, block_bytes).key() == outcome.key()


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize(("at", "said"), [(41, 5), (41, 39), (41, 36), (41, 33), (80, 79)])
def test_a_number_that_is_too_low_loses_no_frame(
    at: int, said: int, block_bytes: int, tmp_path: Path
) -> None:
    wire = sent([(n, said if n == at else n) for n in range(1, 81)])
    outcome = decode(wire, SCAN, block_bytes=block_bytes)
    has_its_places(outcome.scans[0].patterns)
    if at < 80:  # else the frame behind, which would tell, is that of no scan
        assert outcome.notices == {"numbers_lie": 1}
        assert len(both_agree(tmp_path, outcome)) == 72


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize(
    "lost", [{40, 41}, {45}, {*range(20, 60)}, {79}, {79, 80}, {*range(1, 9)}, {*range(2, 80, 2)}]
)
def test_where_frames_are_lost_numbers_are_believed(
    lost: set[int], block_bytes: int, tmp_path: Path
) -> None:
    outcome = decode(
        sent([(n, n) for n in range(1, 81) if n not in lost]), SCAN, block_bytes=block_bytes
    )
    (seen,) = outcome.scans
    expected = {n - 1 - (n - 1) // 10 for n in range(1, 81) if n % 10 and n not in lost}
    assert set(seen.patterns) == expected
    has_its_places(seen.patterns)
    assert set(outcome.notices) <= {"missing_frames"}


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize("lost", [39, 42])
def test_a_lie_beside_a_lost_frame_shifts_no_other(lost: int, block_bytes: int) -> None:
    wire = sent([(n, 60 if n == 41 else n) for n in range(1, 81) if n != lost])
    outcome = decode(wire, SCAN, block_bytes=block_bytes)
    patterns = outcome.scans[0].patterns
    assert len(patterns) == 71
    has_its_places(patterns)


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize("holes", [{21}, {21, 22}, {22}, {21, 30}])
def test_a_jump_to_where_frames_were_lost_shifts_none(
    holes: set[int], block_bytes: int, tmp_path: Path
) -> None:
    numbers = [(n, n if n <= 40 else n - 20) for n in range(1, 81) if n not in holes]
    outcome = decode(sent(numbers), SCAN, block_bytes=block_bytes)
    found = both_agree(tmp_path, outcome)
    has_its_places(found)
    assert set(range(72)) - set(found) == {n - 1 - (n - 1) // 10 for n in holes if n % 10}


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize("back", [2, 5, 8])
def test_a_count_that_is_a_few_behind_goes_on_in_its_order(
    back: int, block_bytes: int, tmp_path: Path
) -> None:
    numbers = [(n, n if n <= 40 else n - back) for n in range(1, 81)]
    outcome = decode(sent(numbers), SCAN, block_bytes=block_bytes)
    assert outcome.notices == {"numbers_begin_again": 1}
    found = both_agree(tmp_path, outcome)
    assert len(found) == 72
    has_its_places(found)


NEIGHBOURS = {
    "high": (60,),
    "high up": (60, 63),
    "high and far": (200, 209),
    "higher than one another": (60, 69, 78),
    "high down": (66, 63),
    "that count up": (60, 61, 62),
    "far, and count up": (200, 201, 202),
    "all over": (300, 20, 999),
    "low": (15,),
    "low up": (15, 17),
    "low and far": (12, 25),
    "low down": (17, 15, 14),
    "low, and count up": (15, 16, 17),
    "low and high": (15, 70),
    "high and low": (70, 15),
}


def neighbours(at: int, lies: Sequence[int], lost: Container[int] = ()) -> list[tuple[int, int]]:
    said = dict(zip((n for n in range(at, 81) if n not in lost), lies, strict=False))
    return [(n, said.get(n, n)) for n in range(1, 81) if n not in lost]


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 700, 2048])
@pytest.mark.parametrize("at", [40, 41, 42, 43, 73])
@pytest.mark.parametrize("lies", NEIGHBOURS.values(), ids=NEIGHBOURS.keys())
def test_lies_side_by_side_move_no_frame(
    lies: tuple[int, ...], at: int, block_bytes: int, tmp_path: Path
) -> None:
    outcome = decode(sent(neighbours(at, lies)), SCAN, block_bytes=block_bytes)
    assert outcome.notices == {"numbers_lie": len(lies)}
    assert len(both_agree(tmp_path, outcome)) == 72
    has_its_places(outcome.scans[0].patterns)
    pick = random.Random(at).choice
    cuts = (pick([1, 15, 400, 3000, -1]) for _ in itertools.count())
    again = decode(sent(neighbours(at, lies)), SCAN, cuts, block_bytes)
    assert again.key() == outcome.key()


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize("lies", [(60,), (200, 209), (60, 61), (60, 69, 78), (200, 201, 202)])
def test_lies_at_the_start_of_a_scan_move_no_frame(
    lies: tuple[int, ...], block_bytes: int, tmp_path: Path
) -> None:
    outcome = decode(sent(neighbours(1, lies)), SCAN, block_bytes=block_bytes)
    assert len(both_agree(tmp_path, outcome)) == 72
    has_its_places(outcome.scans[0].patterns)


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize("lies", [(60, 63), (200, 209), (15, 17), (15, 16)])
def test_lies_before_the_last_frame_move_no_frame(
    lies: tuple[int, ...], block_bytes: int, tmp_path: Path
) -> None:
    outcome = decode(sent(neighbours(78, lies)), SCAN, block_bytes=block_bytes)
    (seen,) = outcome.scans
    assert seen.reason == "complete"
    assert len(both_agree(tmp_path, outcome)) == 72
    has_its_places(seen.patterns)


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
@pytest.mark.parametrize("lost", [{38}, {39}, {40}, {43}, {44}, {45}, {39, 44}, {46, 47}])
@pytest.mark.parametrize("lies", [(60, 63), (200, 209), (60, 69, 78), (15, 17), (17, 15)])
def test_lies_side_by_side_beside_lost_frames_move_no_other(
    lies: tuple[int, ...], lost: set[int], block_bytes: int
) -> None:
    shown = neighbours(41, lies, lost)
    outcome = decode(sent(shown), SCAN, block_bytes=block_bytes)
    (seen,) = outcome.scans
    honest = {n for n, said in shown if n == said and n % 10}
    assert len(seen.patterns) >= len(honest)
    assert outcome.notices["numbers_lie"] == len(lies)
    for n in honest:
        np.testing.assert_array_equal(seen.patterns[n - 1 - n // 10], pattern(SMALL, n))


@pytest.mark.parametrize("back", [8, 9, 10])
def test_a_low_number_that_was_lost_has_one_place_live_and_from_the_record(
    back: int, tmp_path: Path
) -> None:
    shown = [(n, 38 - back if n == 38 else n) for n in range(1, 81) if n != 38 - back]
    both_agree(tmp_path, decode(sent(shown), SCAN))


@pytest.mark.parametrize(
    ("lies", "lost"), [({53: 58, 54: 53, 55: 52}, set()), ({21: 23, 23: 25, 24: 52}, {22, 75})]
)
def test_a_short_jump_that_is_not_borne_out_is_no_lost_count(
    lies: dict[int, int], lost: set[int]
) -> None:
    shown = [(n, lies.get(n, n)) for n in range(1, 81) if n not in lost]
    patterns = decode(sent(shown), SCAN).scans[0].patterns
    taken = {*lies.values(), *(said + 1 for said in lies.values())}  # a lie stands there
    for n, said in shown:
        if n == said and n % 10 and n not in taken:
            np.testing.assert_array_equal(patterns[n - 1 - n // 10], pattern(SMALL, n))


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
def test_a_foreign_frame_takes_no_place(block_bytes: int) -> None:
    shown = [*((n, n) for n in range(1, 41)), (999, 60), *((n, n) for n in range(41, 81))]
    outcome = decode(sent(shown), SCAN, block_bytes=block_bytes)
    assert outcome.notices == {"extra_frames": 1}
    assert len(outcome.scans[0].patterns) == 72
    has_its_places(outcome.scans[0].patterns)


@pytest.mark.parametrize("block_bytes", [ONE_A_BLOCK, 2048])
def test_frames_that_changed_places_keep_their_numbers(block_bytes: int, tmp_path: Path) -> None:
    order = [*range(1, 41), 42, 41, *range(43, 81)]
    outcome = decode(sent([(n, n) for n in order]), SCAN, block_bytes=block_bytes)
    assert not outcome.notices
    has_its_places(outcome.scans[0].patterns)


def test_a_series_of_scans_with_a_lie_at_an_end_is_cut_where_its_scans_end() -> None:
    for at, said in ((79, 83), (80, 99), (80, 85), (81, 90), (81, 84)):
        shown = [(n, said if n == at else n) for n in range(1, 161)]
        outcome: Outcome = decode(
            hdr(SMALL, 160) + b"".join(frame(SMALL, n, s) for n, s in shown), SCAN
        )
        assert [scan.reason for scan in outcome.scans] == ["complete", "complete"]
        for k, scan in enumerate(outcome.scans):
            assert len(scan.patterns) == 72, (at, said)
            for place, one in scan.patterns.items():
                wanted = pattern(SMALL, 80 * k + place + place // 9 + 1)
                np.testing.assert_array_equal(one, wanted)
