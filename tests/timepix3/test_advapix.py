"""AdvaCam's records: .t3p, .t3pa, and a file that grows."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.advapix import text
from stemd.adapters.advapix.adapter import AdvapixAdapter, make_front
from stemd.adapters.advapix.recording import open_recording, survey
from stemd.adapters.advapix.records import (
    LOST_DATA_BEGINS,
    LOST_DATA_ENDS,
    RECORD,
    SHORT_RECORD,
    records,
)
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.events.decoder import EventDecoder
from stemd.blocks import BlockPool, Ended, Link, Notice
from stemd.cli.main import main
from stemd.errors import CameraError, ConfigError, FormatError

from .streams import Electrons, Received, expected, receive

SCAN = Scan(shape=(20, 30), flyback=2, dwell_time_us=10.0)
pytestmark = pytest.mark.waits
FRAME = 20 * 32 * 6400


def hits(count: int, scans: int = 1, seed: int = 0) -> Electrons:
    """Hits by the dwell clock, the clock at zero when the first scan begins."""
    random = np.random.default_rng(seed)
    time = np.sort(random.integers(16, scans * FRAME, count))
    probe = SCAN.probes(time // 6400 % (FRAME // 6400))
    y, x = random.integers(0, 256, count), random.integers(0, 256, count)
    return Electrons(time, y, x, probe, time[:0])


def chosen(**changes: object) -> AdvapixSettings:
    return AdvapixSettings.model_validate({"scan": SCAN, "reorder_window_us": 500.0, **changes})


def decoder(made: AdvapixSettings) -> EventDecoder:
    return EventDecoder(
        made, make_front(made), BlockPool(16 << 20), name="AdvaPix", raw_name="raw.t3p"
    )


def shuffled(sent: Electrons, by: int, seed: int = 0) -> np.ndarray:
    """The records of these hits out of order, by at most `by` ticks."""
    order = np.argsort(sent.time + np.random.default_rng(seed).integers(0, by, sent.time.size))
    return records(sent.time[order], sent.y[order], sent.x[order], 7)


@hypothesis_settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 5000), max_size=30), seed=st.integers(0, 99))
def test_records_out_of_order_and_cut_anywhere_get_their_positions(
    cuts: list[int], seed: int
) -> None:
    sent = hits(3000, scans=2, seed=seed)
    stream = shuffled(sent, 200_000, seed).tobytes()
    got = receive(stream, decoder(chosen()), cuts=cuts, flush=lambda number: number % 2 == 0)
    for number in range(2):
        part = sent.time // FRAME == number
        wanted = Electrons(
            sent.time[part], sent.y[part], sent.x[part], sent.probe[part], sent.line_starts
        )
        assert (got.hits(number) == expected(wanted)).all()


@pytest.mark.parametrize("bits", [28, 30])
def test_a_counter_that_wraps_is_unwrapped(bits: int) -> None:
    slow = Scan(shape=(10, 20), dwell_time_us=1e6)
    second = 640_000_000
    time = np.arange(400, dtype=np.int64) * second // 2 + 1000
    sent = Electrons(time, time % 256, time % 251, time // second, time[:0])
    made = records(sent.time, sent.y, sent.x, clock_bits=bits)
    assert made["toa"].max() < 2**bits
    got = receive(made.tobytes(), decoder(chosen(scan=slow, clock_bits=bits)))
    assert (got.hits() == expected(sent)).all()


def test_a_counter_that_never_wraps_is_found_out() -> None:
    slow = Scan(shape=(10, 20), dwell_time_us=1e6)
    second = 640_000_000
    time = np.arange(400, dtype=np.int64) * second // 2 + 1000
    sent = Electrons(time, time % 256, time % 251, time // second, time[:0])
    made = records(sent.time, sent.y, sent.x, clock_bits=56)
    got = receive(made.tobytes(), decoder(chosen(scan=slow)))
    assert (got.hits() == expected(sent)).all()


def test_marks_of_lost_data_are_counted_and_are_no_hits() -> None:
    sent = hits(2000)
    made = records(sent.time, sent.y, sent.x)
    marks = np.zeros(2, RECORD)
    marks["index"] = LOST_DATA_BEGINS, LOST_DATA_ENDS
    marks["overflow"] = 1
    marks["toa"] = 5, 400
    stream = np.concatenate([made[:900], marks, made[900:]])
    machine = decoder(chosen())
    got = receive(stream.tobytes(), machine)
    assert (got.hits() == expected(sent)).all()
    assert machine.counters()["lost_data"] == 1
    assert "lost_data" in got.notices()


def test_records_of_twelve_bytes_are_read_too() -> None:
    sent = hits(2000)
    long = records(sent.time, sent.y, sent.x)
    short = np.zeros(long.size, SHORT_RECORD)
    for name in SHORT_RECORD.names or ():
        short[name] = long[name]
    got = receive(short.tobytes(), decoder(chosen(record_bytes=12)))
    assert (got.hits() == expected(sent)).all()


@pytest.mark.parametrize("count", [1, 7, 3000])
def test_a_file_of_twelve_byte_records_is_known_by_its_content(tmp_path: Path, count: int) -> None:
    sent = hits(count)
    long = records(sent.time, sent.y, sent.x, 7, clock_bits=30)
    short = np.zeros(long.size, SHORT_RECORD)
    for name in SHORT_RECORD.names or ():
        short[name] = long[name]
    path = tmp_path / "a.t3p"
    for content, size in ((long, 16), (short, 12)):
        path.write_bytes(content.tobytes())
        got = Received()
        for message in open_recording(path, SCAN).messages():
            got.take(message)
        assert np.array_equal(got.hits(), expected(sent))
        assert ("short_records" in got.notices()) == (size == 12)
        assert survey(path)[0].startswith(f"{count:,} hits on chip 0")
    got = Received()
    for message in open_recording(path, SCAN, chosen(record_bytes=16)).messages():
        got.take(message)
    assert "short_records" not in got.notices()  # who tells the size knows it


def test_chips_in_a_row_lie_side_by_side() -> None:
    sent = hits(2000)
    chip = np.arange(2000) % 3
    stream = records(sent.time, sent.y, sent.x, chip=chip).tobytes()
    wide = Electrons(sent.time, sent.y, sent.x + 256 * chip, sent.probe, sent.line_starts)
    machine = decoder(chosen(chips=3))
    assert (receive(stream, machine).hits() == expected(wide)).all()
    alone = decoder(chosen())
    receive(stream, alone)
    assert alone.counters()["unknown"] == int((chip > 0).sum())


@hypothesis_settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=3000), size=st.sampled_from([12, 16]))
def test_no_bytes_break_the_decoder(data: bytes, size: int) -> None:
    machine = decoder(chosen(record_bytes=size, hold_hits=1024))
    receive(data, machine)
    counters = machine.counters()
    assert counters["pixels"] + counters["unknown"] + counters["control"] == len(data) // size


@pytest.mark.parametrize("piece_bytes", [text.PIECE_BYTES, 61, 5000])
def test_text_files_give_the_same_hits_as_binary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(text, "PIECE_BYTES", piece_bytes)
    sent = hits(3000)
    made = shuffled(sent, 100_000)
    (tmp_path / "a.t3p").write_bytes(made.tobytes())
    lines = ["Index\tMatrix Index\tToA\tToT\tFToA\tOverflow"]
    lines += [
        f"{n}\t{r['index']}\t{r['toa']}\t{r['tot']}\t{r['ftoa']}\t0" for n, r in enumerate(made)
    ]
    ends = {"a": ("\r\n", "\n"), "b": ("\n", ""), "c": ("\r\n", ""), "d": ("\r", "")}
    for name, (between, last) in ends.items():
        (tmp_path / f"{name}.t3pa").write_bytes((between.join(lines) + last).encode())
    for name in ("a.t3p", *(f"{name}.t3pa" for name in ends)):
        got = Received()
        for message in open_recording(tmp_path / name, SCAN).messages():
            got.take(message)
        assert (got.hits() == expected(sent)).all(), name


def test_any_records_of_a_text_file_are_those_of_all_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.t3pa"
    lines = [
        f"{n} {n % 65536} {n * 7} 3 1 0" if n % 90 > 30 else "# " + "x" * n for n in range(500)
    ]
    path.write_text("\n".join(lines))
    whole = text.text_records(np.frombuffer(path.read_bytes(), np.uint8))[0]
    monkeypatch.setattr(text, "PIECE_BYTES", 200)
    found = text.TextRecords(path)
    assert found.size == whole.nbytes
    for first in (0, 1, 17, len(whole) - 1):
        with found.reader(16 * first, found.size) as reader:
            for start in range(first, len(whole), 5):
                piece = reader.piece(16 * start, 16 * 40)
                assert piece.tobytes() == whole[start : start + 40].tobytes()


def as_text(made: np.ndarray) -> list[str]:
    """The lines of a .t3pa file, its heading first."""
    lines = [
        f"{n}\t{r['index']}\t{r['toa']}\t{r['tot']}\t{r['ftoa']}\t{r['overflow']}"
        for n, r in enumerate(made)
    ]
    return ["Index\tMatrix Index\tToA\tToT\tFToA\tOverflow", *lines]


def read_text(path: Path, lines: list[bytes], **changes: object) -> Received:
    path.write_bytes(b"\n".join(lines))
    got = Received()
    for message in open_recording(path, SCAN, chosen(**changes)).messages():
        got.take(message)
    return got


def counted(got: Received, kind: str) -> int:
    return sum(m.count for m in got.messages if isinstance(m, Notice) and m.kind == kind)


def test_hits_that_are_marked_with_an_overflow_count_and_are_told(tmp_path: Path) -> None:
    """Of several chips the column is the chip: nothing is told there."""
    sent = hits(3000)
    made = records(sent.time, sent.y, sent.x)
    made["overflow"][::10] = 1
    got = read_text(tmp_path / "a.t3pa", [line.encode() for line in as_text(made)])
    assert (got.hits() == expected(sent)).all()
    assert counted(got, "overflow_hits") == 300
    chip = np.arange(3000) % 3
    made = records(sent.time, sent.y, sent.x, chip=chip)
    made["overflow"] = chip
    wide = Electrons(sent.time, sent.y, sent.x + 256 * chip, sent.probe, sent.line_starts)
    got = read_text(tmp_path / "b.t3pa", [line.encode() for line in as_text(made)], chips=3)
    assert (got.hits() == expected(wide)).all()
    assert not got.notices()


@pytest.mark.parametrize("piece_bytes", [text.PIECE_BYTES, 5000])
def test_lines_that_cannot_be_read_are_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(text, "PIECE_BYTES", piece_bytes)
    sent = hits(3000)
    lines = [line.encode() for line in as_text(records(sent.time, sent.y, sent.x))]
    whole = read_text(tmp_path / "a.t3pa", [*lines, b"", lines[0], b""])
    assert not whole.notices()
    damaged = {
        101: bytes(len(lines[101])),
        202: lines[202][:9],
        303: lines[303] + b"\t" + lines[304],
        404: lines[404].replace(b"\t", b"\tx", 1),
        505: b"505\t-7\t1\t1\t1\t0",
        606: b"606\t7\t1\t70000\t1\t0",
    }
    for at, line in damaged.items():
        lines[at] = line
    got = read_text(tmp_path / "b.t3pa", lines)
    assert counted(got, "unread_lines") == len(damaged)
    assert 0 < len(whole.hits()) - len(got.hits()) <= len(damaged)


def test_hits_at_a_position_that_was_cut_off_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Position 0 is dark; the recording ends in position 1, which has all of the hits."""
    made = records(np.arange(6_400, 9_600, 100), 5, 9)
    (tmp_path / "a.t3pa").write_text("\n".join(as_text(made)))
    scan = ["--scan", "4x4", "--dwell-time-us", "10"]
    assert main(["check", str(tmp_path / "a.t3pa"), *scan]) == 1
    told = capsys.readouterr().out
    assert "hits       32, 0.0 a position, 32 of them at a position that was cut off" in told
    assert "none of the 1 pattern before the one that was cut off has a single count" in told
    made = records(np.arange(100, 16 * 6_400 + 3_200, 100), 5, 9)
    (tmp_path / "b.t3pa").write_text("\n".join(as_text(made)))
    main(["check", str(tmp_path / "b.t3pa"), *scan])
    assert "63.9 a position\n" in capsys.readouterr().out


def test_a_text_file_without_hits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.t3pa").write_text("nothing\nhere\n")
    with pytest.raises(FormatError, match="no hits"):
        open_recording(tmp_path / "a.t3pa", SCAN)


def test_a_file_is_followed_while_it_grows_and_when_it_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "live.t3p"
    adapter = AdvapixAdapter(chosen(path=path, idle_timeout_s=1.0))
    stop, got = threading.Event(), Received()

    def read() -> None:
        for message in adapter.read(BlockPool(16 << 20), stop):
            got.take(message)

    def until(kind: type, count: int) -> None:
        end = time.monotonic() + 60
        while len(got.of(kind)) < count:
            assert time.monotonic() < end, f"waited in vain for {kind}"
            time.sleep(0.005)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    until(Link, 1)
    sent = hits(4000)
    stream = records(sent.time, sent.y, sent.x).tobytes()
    with path.open("wb") as file:
        for start in range(0, len(stream), 7001):
            file.write(stream[start : start + 7001])
            file.flush()
            time.sleep(0.01)
    until(Ended, 1)
    path.unlink()
    until(Link, 4)
    path.write_bytes(stream)
    until(Ended, 2)
    stop.set()
    adapter.close()
    thread.join(2)
    assert not thread.is_alive()
    assert (got.hits(0) == expected(sent)).all()
    assert (got.hits(1) == expected(sent)).all()


def test_a_file_cannot_be_commanded_and_must_be_named(tmp_path: Path) -> None:
    adapter = AdvapixAdapter(chosen(path=tmp_path / "x.t3p"))
    with pytest.raises(CameraError, match="start"):
        adapter.command("start", {})
    with pytest.raises(ConfigError, match="path"):
        AdvapixAdapter(chosen())
