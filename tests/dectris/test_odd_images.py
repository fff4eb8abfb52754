"""Images that are not like those of their series."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.dectris.streams import Kind, decode, end, frame, image, start


def sent(odd: dict[int, bytes], kind: Kind = "cbor") -> bytes:
    return b"".join(odd.get(n, frame(n, kind=kind)) for n in range(8))


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("more", [{"shape": (4, 5)}, {"shape": (20, 40)}, {"dtype": "u1"}])
def test_few_images_that_do_not_fit_are_left_out_and_told(
    kind: Kind, count: int, more: dict[str, object]
) -> None:
    odd = {n: frame(n, kind=kind, **more) for n in range(1, 1 + count)}  # type: ignore[arg-type]
    data = start(kind=kind) + sent(odd, kind) + end(kind=kind)
    outcome = decode(data)
    (seen,) = outcome.scans
    assert (seen.reason, sorted(seen.patterns)) == ("complete", [0, *range(1 + count, 6)])
    for place in seen.patterns:
        assert (seen.patterns[place] == image(place + place // 3)).all()
    assert outcome.notices["odd_frame"] == count
    assert outcome.notices["missing_frames"] == count
    pick = random.Random(count).choice
    cuts = (pick([1, 7, 100, 1000]) for _ in itertools.count())
    assert decode(data, cuts=cuts).key() == outcome.key()


def test_an_odd_image_at_the_end_of_a_series_is_told() -> None:
    outcome = decode(start() + sent({7: frame(7, shape=(4, 5))}) + end())
    (seen,) = outcome.scans
    assert (seen.reason, outcome.notices["odd_frame"]) == ("complete", 1)


def test_images_that_go_on_in_another_kind_are_another_scan_and_both_say_why() -> None:
    odd = {n: frame(n, shape=(4, 5)) for n in range(3, 8)}
    outcome = decode(start() + sent(odd) + end())
    first, second = outcome.scans
    assert (first.reason, sorted(first.patterns)) == ("restarted", [0, 1, 2])
    assert (second.reason, sorted(second.patterns)) == ("complete", [3, 4, 5])
    assert (second.patterns[4] == image(5, shape=(4, 5))).all()
    assert second.acquisition.detector.shape == (4, 5)
    assert sum("changed in mid scan" in text for text in outcome.texts) == 2


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
@pytest.mark.parametrize("odd", [{2: 9}, {1: 9, 2: 9}, {1: 9, 2: 8}, {7: 9}])
def test_few_images_of_another_series_end_no_scan(kind: Kind, odd: dict[int, int]) -> None:
    few = {n: frame(n, kind=kind, series=series) for n, series in odd.items()}
    outcome = decode(start(kind=kind) + sent(few, kind) + end(kind=kind))
    (seen,) = outcome.scans
    places = {0: 0, 1: 1, 2: 2, 4: 3, 5: 4, 6: 5}
    assert sorted(seen.patterns) == [places[n] for n in places if n not in odd]
    assert seen.reason == "complete"
    assert outcome.notices["odd_frame"] == len(odd)


def test_a_series_whose_start_was_lost_loses_no_image() -> None:
    behind = b"".join(frame(n, series=2) for n in range(1, 8))
    outcome = decode(start() + frame(0) + frame(1) + behind + end(series=2))
    first, second = outcome.scans
    assert (first.reason, sorted(first.patterns)) == ("restarted", [0, 1])
    assert (second.reason, sorted(second.patterns)) == ("complete", [1, 2, 3, 4, 5])
    assert "another acquisition began before this scan's end" in outcome.texts
