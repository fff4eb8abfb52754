"""Frames that are not like those of their scan: one odd one, a damaged header, a true change."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.frames.format import Step
from stemd.adapters.merlin.encoder import Camera, encode_frame, message
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.blocks import BlockPool
from tests.merlin.streams import SMALL, Outcome, decode, feed, frame, hdr, pattern

SCAN = Scan(shape=(4, 5), flyback=1)  # 24 frames
NUMBERS = range(1, SCAN.frames + 1)
POSITIONS = set(range(SCAN.positions))
AT = 9
"""The frame that is odd: position 7."""


def odd_frame(camera: Camera, number: int = AT) -> bytes:
    return message(encode_frame(pattern(camera, number), camera, number))


def damaged(text: bytes, instead: bytes, number: int = AT) -> bytes:
    """A frame as it should be, but for its header."""
    whole = frame(SMALL, number)
    assert text in whole
    return whole.replace(text, instead, 1)


ODD = {
    "smaller": odd_frame(Camera((3, 5), 12)),
    "larger": odd_frame(Camera((20, 40), 12)),
    "of another type": odd_frame(Camera(SMALL.shape, 6)),
    "fewer rows in the header": damaged(b"0010,0006,U16", b"0010,0003,U16"),
    "more rows in the header": damaged(b"0010,0006,U16", b"0010,0900,U16"),
    "another type in the header": damaged(b"U16", b"U32"),
    "a longer header in the header": damaged(b",00384,", b",00768,"),
}


def stream(odd: bytes, at: int = AT) -> bytes:
    sent = [odd if n == at else frame(SMALL, n) for n in NUMBERS]
    return hdr(SMALL, SCAN.frames) + b"".join(sent)


def is_one_scan_without(outcome: Outcome, position: int) -> None:
    (seen,) = outcome.scans
    assert seen.reason == "complete"
    assert set(seen.patterns) == POSITIONS - {position}
    for place in seen.patterns:
        number = place + place // 5 + 1
        assert (seen.patterns[place] == pattern(SMALL, number)).all()


@pytest.mark.parametrize("kind", ODD)
def test_one_frame_that_does_not_fit_is_left_out_and_told_and_the_scan_goes_on(kind: str) -> None:
    outcome = decode(stream(ODD[kind]), SCAN)
    is_one_scan_without(outcome, 7)
    assert outcome.notices["missing_frames"] == 1
    if kind == "a longer header in the header":  # of which the header's parser says what is wrong
        assert outcome.notices["bad_header"] == 1
        return
    assert outcome.notices["odd_frame"] == 1
    assert "frame 9 says" in " ".join(outcome.texts)
    assert "6 x 10 pixels of 16 bits" in " ".join(outcome.texts)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("seed", range(3))
def test_an_odd_frame_is_left_out_wherever_the_stream_is_cut(kind: str, seed: int) -> None:
    pick = random.Random(seed).choice
    cuts = (pick([1, 2, 14, 15, 16, 400, 3000, -1]) for _ in itertools.count())
    whole = decode(stream(ODD[kind]), SCAN)
    assert decode(stream(ODD[kind]), SCAN, cuts, 700).key() == whole.key()


@pytest.mark.parametrize("kind", ["smaller", "larger", "fewer rows in the header"])
def test_two_odd_frames_one_behind_the_other_end_no_scan(kind: str) -> None:
    sent = [ODD[kind] if n in (AT, AT + 1) else frame(SMALL, n) for n in NUMBERS]
    (seen,) = decode(hdr(SMALL, 24) + b"".join(sent), SCAN).scans
    assert (seen.reason, set(seen.patterns)) == ("complete", POSITIONS - {7, 8})


@pytest.mark.parametrize("kind", ["smaller", "larger"])
def test_an_odd_frame_at_the_end_begins_no_scan(kind: str) -> None:
    for behind in (b"", hdr(SMALL, 24) + frame(SMALL, 1)):
        outcome = decode(stream(ODD[kind], 24) + behind, SCAN)
        assert [seen.reason for seen in outcome.scans][:1] == ["complete"]
        assert len(outcome.scans) == 1 + bool(behind)
        assert outcome.notices["odd_frame"] == 1
        assert outcome.notices["partial_frame"] == 0


@pytest.mark.parametrize("other", [Camera((3, 5), 12), Camera((20, 40), 12), Camera((6, 10), 6)])
def test_frames_that_go_on_in_another_kind_are_another_scan_and_both_say_why(
    other: Camera,
) -> None:
    sent = [frame(SMALL if n < AT else other, n) for n in NUMBERS]
    outcome = decode(hdr(SMALL, 24) + b"".join(sent), SCAN)
    first, second = outcome.scans
    assert (first.reason, set(first.patterns)) == ("restarted", set(range(7)))
    assert (second.reason, set(second.patterns)) == ("complete", set(range(7, 20)))
    assert second.acquisition.detector.shape == other.shape
    said = [text for text in outcome.texts if "changed in mid scan" in text]
    assert len(said) == 2
    assert "6 x 10 pixels of 16 bits" in said[0]
    assert f"{other.shape[0]} x {other.shape[1]} pixels" in said[1]


def test_a_scan_that_another_acquisition_ends_says_so() -> None:
    begun = hdr(SMALL, 24) + b"".join(frame(SMALL, n) for n in range(1, 13))
    outcome = decode(begun + hdr(SMALL, 24) + frame(SMALL, 1), SCAN)
    assert "another acquisition began before this scan's end" in outcome.texts
    outcome = decode(begun + b"".join(frame(SMALL, n) for n in range(1, 13)), SCAN)
    assert any("began again before this scan's end" in text for text in outcome.texts)
    whole = hdr(SMALL, 24) + b"".join(frame(SMALL, n) for n in NUMBERS)
    assert not decode(whole + whole, SCAN).texts


@pytest.mark.parametrize("kind", ODD)
def test_a_file_with_one_odd_frame_gives_what_the_live_scan_gives(
    kind: str, tmp_path: Path
) -> None:
    sent = [(ODD[kind] if n == AT else frame(SMALL, n))[15:] for n in NUMBERS]
    path = tmp_path / "a.mib"
    path.write_bytes(b"".join(sent))
    recording = open_recording(path, SCAN)
    outcome = Outcome()
    found = {}
    for block in recording.blocks(0, recording.frames):
        for place, image in zip(block.probe.tolist(), block.patterns(), strict=True):
            if place >= 0:
                found[place] = image.copy()
        block.release()
    outcome.take(recording.notices)
    assert set(found) == POSITIONS - {7}
    for place, image in found.items():
        assert (image == pattern(SMALL, place + place // 5 + 1)).all()
    assert outcome.texts


class Counted(MerlinFormat):
    """Counts how often it is asked what stands somewhere."""

    asked = 0

    def next_message(self, data: bytes | bytearray) -> Step:
        self.asked += 1
        return super().next_message(data)


@pytest.mark.parametrize(("rows", "garbage"), [(b"0506", 0), (b"0020", 1 << 17)])
def test_what_follows_a_damaged_frame_that_lost_bytes_is_not_looked_at_again_and_again(
    rows: bytes, garbage: int
) -> None:
    camera = Camera((256, 256), 12)
    sent = [frame(camera, n) for n in NUMBERS]
    sent[AT - 1] = sent[AT - 1].replace(b"0256,0256", b"0256," + rows, 1)[:-1000]
    sent[AT - 1] += bytes(garbage)
    counted = Counted()
    decoder = FrameDecoder(counted, BlockPool(1 << 22, 1 << 18), SCAN, "test")
    outcome = Outcome()
    wire = hdr(camera, SCAN.frames) + b"".join(sent)
    outcome.take(feed(decoder, wire))
    (seen,) = outcome.scans
    assert seen.reason == "complete"
    assert len(seen.patterns) >= SCAN.positions - 2
    assert outcome.notices["odd_frame"] == 1
    assert counted.asked < 500
