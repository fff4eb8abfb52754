"""MQ1 headers and HDR texts against texts written out by hand."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.adapters.merlin.encoder import Camera, encode_hdr
from stemd.adapters.merlin.hdr import encode_hdr as encode_values
from stemd.adapters.merlin.hdr import hdr_file, parse_hdr
from stemd.adapters.merlin.header import (
    FrameHeader,
    encode_frame_header,
    header_length,
    parse_frame_header,
)
from stemd.errors import FormatError

DACS = ",".join(f"{n:03d}" for n in range(27))
THRESHOLDS = "2.000000E+0,5.110000E+2,0.000000E+0,0.000000E+0,0.0E+0,0.0E+0,0.0E+0,0.0E+0"


def written(
    chips: int = 1, code: str = "U16", size: str = "0256,0256", layout: str = "   1x1"
) -> str:
    return (
        f"MQ1,000042,{256 + 128 * chips:05d},{chips:02d},{size},{code},{layout},0F,"
        f"2021-04-15 14:44:43.100924,0.001000,0,0,2,{THRESHOLDS}," + f"3RX,{DACS}," * chips
    )


EXTENDED = "MQ1A,2021-04-15T13:44:43.100924481Z,1000000ns,12,"


@pytest.mark.parametrize("pad", [b"\0", b" "])
@pytest.mark.parametrize("chips", [1, 4])
def test_a_header_is_read_with_either_padding_for_one_and_four_chips(
    pad: bytes, chips: int
) -> None:
    text = (written(chips) + EXTENDED).encode()
    header = parse_frame_header(text + pad * (header_length(chips) - len(text)) + b"\xff" * 99)
    assert (header.sequence, header.length, header.chips) == (42, 256 + 128 * chips, chips)
    assert (header.width, header.height, header.code, header.depth) == (256, 256, "U16", 12)
    assert header.utc_time == "2021-04-15T13:44:43.100924481Z"
    assert (header.exposure_ns, header.gain) == (1_000_000, 2)
    assert header.thresholds_kev == (2.0, 511.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_the_extended_part_is_found_by_name_where_thresholds_are_missing() -> None:
    text = "MQ1,000001,00384,01,0256,0256,R64,   1x1,01,2019-01-01 00:00:00.000000,0.001000,0,0,0,,"
    text += EXTENDED.replace(",12,", ",24,").replace("ns", "nS")
    header = parse_frame_header(text.encode().ljust(384, b"\0"))
    assert (header.depth, header.code, header.exposure_ns) == (24, "R64", 1_000_000)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (written(size="99999,0256") + EXTENDED, "width"),
        (written(size="0256,00x6") + EXTENDED, "height"),
        (written(code="U17") + EXTENDED, "pixel code"),
        (written(code="U64", size="16384,16384") + EXTENDED, "limit of 67108864 bytes"),
        (written(code="R64"), "counter depth"),
        (written().replace("00384", "99999") + EXTENDED, "allowed are 64 to 16384"),
        (written().replace("MQ1", "MQ2") + EXTENDED, "not with MQ1"),
        (written().replace(",01,", ",00,", 1) + EXTENDED, "number of chips"),
    ],
)
def test_a_header_beyond_a_limit_is_refused_and_the_field_is_named(text: str, named: str) -> None:
    with pytest.raises(FormatError, match=named):
        parse_frame_header(text.encode().ljust(384, b"\0"))


def test_a_cut_off_header_is_refused() -> None:
    with pytest.raises(FormatError, match="cut off after 200 of 384"):
        parse_frame_header((written() + EXTENDED).encode()[:200])


@given(
    sequence=st.integers(1, 10_000_000),
    chips=st.sampled_from([1, 4]),
    size=st.tuples(st.integers(1, 999), st.integers(1, 999)),
    code=st.sampled_from(["U08", "U16", "U32", "R64"]),
    depth=st.sampled_from([1, 6, 12, 24]),
    pad=st.sampled_from([b"\0", b" "]),
)
def test_what_is_encoded_is_parsed_back(
    sequence: int, chips: int, size: tuple[int, int], code: str, depth: int, pad: bytes
) -> None:
    header = FrameHeader(
        sequence, header_length(chips), chips, *size, code, "2x2", "0F", depth, gain=1
    )
    data = encode_frame_header(header, pad=pad)
    assert len(data) == header.length
    assert parse_frame_header(data) == header


@given(st.binary(max_size=600))
def test_no_bytes_make_the_header_parser_fail_otherwise_than_by_a_format_error(data: bytes) -> None:
    start = b"MQ1,000001,00384,"
    for candidate in (data, (start + data).ljust(400, b",")):
        with contextlib.suppress(FormatError):
            assert parse_frame_header(candidate).length <= len(candidate)


HDR = (
    b"HDR,\t\r\nChip ID:\tW556_B4,-\r\nCounter Depth (number):\t12\r\n"
    b"Frames in Acquisition (Number):\t66\r\nTemperature (C):\tBoard \xb0\r\n"
    b"ScanX:\t8\r\nScanY:\t7\r\n"
    b"End\t" + b" " * 400
)


def test_a_hdr_text_is_a_mapping_of_its_lines() -> None:
    hdr = parse_hdr(HDR)
    assert hdr["Chip ID"] == "W556_B4,-"
    assert hdr["Temperature (C)"] == "Board °"
    assert len(hdr) == 6
    assert (hdr.frames, hdr.scan_shape) == (66, (7, 8))
    assert "End" not in hdr
    assert hdr.text.endswith("End\t")


@pytest.mark.parametrize("between", [":\t", ": ", " :   ", ":"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_hdr_text_that_an_editor_has_saved_says_the_same(between: str, end: str) -> None:
    lines = [
        "HDR,\t",
        f"frames in acquisition{between}42",
        f"Frames Per Trigger (number){between}7",
    ]
    lines += [f"Time and Date Stamp (day, mnth, yr, hr, min, s){between}1/3/2024 10:11:12", "End\t"]
    lines += [f"Active counters{between}Both"]
    hdr = parse_hdr(end.join(lines).encode())
    assert (hdr.frames, hdr.frames_per_trigger, hdr.both_counters) == (42, 7, True)


def test_a_hdr_text_without_numbers_tells_nothing() -> None:
    hdr = parse_hdr(
        b"HDR,\t\nFrames in Acquisition (Number):\tmany\nScanX:\t0\nScanY:\t0\nEnd\t\0\0"
    )
    assert (hdr.frames, hdr.scan_shape) == (None, None)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_hdr_text_and_make_a_hdr_file_with_an_end(data: bytes) -> None:
    assert len(parse_hdr(data)) >= 0
    made = hdr_file(data)
    assert len(made) >= 2048
    assert b"End\t" in made


def test_a_hdr_file_keeps_the_received_lines_and_is_padded_with_spaces() -> None:
    received = HDR.rstrip(b" ") + b"\0" * 30
    assert hdr_file(received) == HDR.rstrip(b" ").ljust(2048, b" ")


def test_an_encoded_hdr_says_what_the_camera_is_set_to() -> None:
    data = encode_hdr(Camera((512, 512), 6, chips=4), 0, scan_shape=(3, 5))
    hdr = parse_hdr(data)
    assert len(data) == 2048
    assert (hdr.frames, hdr.scan_shape) == (0, (3, 5))
    assert hdr["Counter Depth (number)"] == "6"
    assert hdr["Assembly Size (NX1, 2X2)"].strip() == "2x2"
    assert parse_hdr(encode_values({"a": "µ", "b": "☺"}))["b"] == "?"
