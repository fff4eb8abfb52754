"""No recording, however damaged, ends a command with a traceback, and none is called whole."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.adapters.merlin.hdr import encode_hdr
from stemd.adapters.timepix3 import csr
from stemd.cli.main import main
from tests.timepix3 import streams

SHAPE = (4, 6)


def mib() -> bytes:
    kind = Camera(shape=(8, 8))
    return b"".join(encode_frame(np.full((8, 8), n, np.uint16), kind, n + 1) for n in range(24))


def raw_mib() -> bytes:
    kind = Camera(shape=(2, 256), depth=12, raw=True)
    return b"".join(encode_frame(np.full((2, 256), n, np.uint16), kind, n + 1) for n in range(24))


def tpx3() -> bytes:
    scan = Scan(shape=SHAPE, flyback=2, dwell_time_us=1.0)
    return streams.Camera().stream(streams.electrons(scan, 600))


def t3p() -> bytes:
    hits = np.zeros(300, [("index", "<u4"), ("toa", "<u8"), ("over", "u1"), ("ftoa", "u1"),
                          ("tot", "<u2")])  # fmt: skip
    hits["index"], hits["toa"] = np.arange(300) * 7, np.arange(300) * 40
    return hits.tobytes()


def t3pa() -> bytes:
    lines = ["Index\tMatrix Index\tToA\tToT\tFToA\tOverflow"]
    lines += [f"{n}\t{n * 7}\t{n * 40}\t5\t3\t0" for n in range(100)]
    return "\r\n".join(lines).encode()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(24 * 9, dtype=np.uint16).reshape(4, 6, 3, 3))
    return out.getvalue()


def h5() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        data = np.arange(24 * 16, dtype=np.uint16).reshape(4, 6, 4, 4)
        file.create_dataset("entry/data", data=data, chunks=(1, 1, 4, 4), compression="gzip")
    return out.getvalue()


def sparse() -> bytes:
    pointers, pixels = np.arange(7) * 5, np.arange(30) * 100
    lines = [csr.array_chunk(pointers, pixels, np.ones(30, np.int64)) for _ in range(4)]
    begin = csr.acquisition_start(SHAPE, (256, 256), tot=False) + csr.scan_start(0)
    return b"".join([begin, *lines, csr.scan_end(0)])


FILES: dict[str, Callable[[], bytes]] = {
    "a.mib": mib, "b.mib": raw_mib, "a.tpx3": tpx3, "a.raw": tpx3, "a.t3p": t3p, "a.t3pa": t3pa,
    "a.npy": npy, "raw.csr": sparse, "a.h5": h5,
}  # fmt: skip

damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(st.just("put"), st.floats(0, 1), st.binary(min_size=1, max_size=12)),
    st.tuples(st.just("over"), st.floats(0, 1), st.binary(min_size=1, max_size=12)),
    st.tuples(st.just("head"), st.floats(0, 0.02), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("lose"), st.floats(0, 1), st.just(b"x" * 40)),
)


def damaged(whole: bytes, how: str, where: float, what: bytes) -> bytes:
    at = int(where * len(whole))
    if how == "cut":
        return whole[:at]
    if how == "put":
        return whole[:at] + what + whole[at:]
    if how == "lose":
        return whole[:at] + whole[at + len(what) :]
    return whole[:at] + what + whole[at + len(what) :]


def commanded(*words: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
        try:
            code = main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue()


@pytest.mark.parametrize("name", FILES)
@settings(deadline=None, max_examples=12,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(faults=st.lists(damage, min_size=1, max_size=3), scan=st.sampled_from(["4x6", "1x1", ""]))
def test_a_damaged_file_gives_images_or_a_clear_error(
    tmp_path: Path, name: str, faults: list[tuple[str, float, bytes]], scan: str
) -> None:
    content = FILES[name]()
    for fault in faults:
        content = damaged(content, *fault)
    path = tmp_path / name
    path.write_bytes(content)
    size = ["--scan", scan] if scan else []
    code, text = commanded("check", str(path), *size)
    assert code in (0, 1, 2)
    assert text.strip()
    if scan and name.endswith(("t3p", "t3pa")):
        size += ["--dwell-time-us", "1"]
    if not name.endswith("mib"):
        size += ["--scan-number", "1"]  # a damaged clock makes many
    out = ["--engine", "sum", "--out", str(tmp_path / "out")]
    code, text = commanded("process", str(path), *size, *out)
    assert code in (0, 1, 2)
    assert "a mistake of stemd" not in text, text


@pytest.mark.parametrize("name", FILES)
def test_a_header_of_nothing_but_ones_or_zeros_is_a_clear_error(tmp_path: Path, name: str) -> None:
    for byte in (b"\0", b"\xff"):
        path = tmp_path / name
        path.write_bytes(byte * 4096)
        for command in (["check"], ["process", "--engine", "sum", "--out", str(tmp_path / "out")]):
            code, text = commanded(*command, str(path), "--scan", "4x6")
            assert code != 0 or "a.raw" in text or name.endswith(("tpx3", "raw", "t3p"))
            assert "a mistake of stemd" not in text, text


def test_a_line_of_more_positions_than_a_scan_may_have_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "long.npy"
    np.save(path, np.zeros((70_001, 1, 1), np.uint8))
    code, text = commanded("check", str(path))
    assert code != 0
    assert "long.npy" in text
    assert "--scan" in text or "scan.shape" in text


def test_a_scan_of_one_position_from_events_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tpx3"
    path.write_bytes(tpx3())
    for command in ("check", "process"):
        code, text = commanded(command, str(path), "--scan", "1x1")
        assert code != 0
        assert "dwell_time_us" in text


def test_whole_header_files_of_any_bytes_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib())
    for text in (b"", b"\xff\xfe" * 50, encode_hdr({"Frames in Acquisition (Number)": "9" * 30})):
        path.with_suffix(".hdr").write_bytes(text)
        code, said = commanded("check", str(path), "--scan", "4x6")
        assert code in (0, 1)
        assert "24 of 24" in said


def test_a_whole_scan_outweighs_the_frames_that_the_camera_was_set_to(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib())
    # two scans of 4 lines, if one frame follows each line: the rows would be shifted
    path.with_suffix(".hdr").write_bytes(encode_hdr({"Frames in Acquisition (Number)": "56"}))
    _, said = commanded("check", str(path), "--scan", "4x6")
    assert "flyback 0" in said
    assert "24 of 24" in said
    assert "promises 56" in said
