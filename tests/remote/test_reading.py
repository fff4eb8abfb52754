"""Ranges of a remote file: the right bytes, a bounded number of attempts, errors that tell."""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemd.adapters.files import open_recording
from stemd.adapters.recordings import remote_errors, remote_stream, web_ranges
from stemd.adapters.recordings.address import RemoteFile, recording_path
from stemd.adapters.recordings.remote import RemoteBytes, read_beside, time_ns
from stemd.adapters.recordings.remote_stream import RemoteReader
from stemd.cli.main import main
from stemd.errors import CameraError, FormatError

from .server import RangeServer

DATA = np.random.default_rng(5).integers(0, 256, 1_000_003, np.uint8).tobytes()


@pytest.fixture(scope="module")
def memory() -> Iterator[RemoteFile]:
    """Known bytes on fsspec's memory file system."""
    system = fsspec.filesystem("memory")
    system.pipe_file("/reading/data.bin", DATA)
    yield RemoteFile("memory://reading/data.bin")
    system.rm("/reading", recursive=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_stream_gives_the_bytes_of_the_file_however_they_are_taken(
    memory: RemoteFile, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(DATA)))
    planned = data.draw(st.integers(first, len(DATA)))
    sizes = data.draw(st.lists(st.integers(0, 60_000), max_size=12))
    before = remote_stream.CHUNK_BYTES
    remote_stream.CHUNK_BYTES = data.draw(st.integers(1000, 50_000))
    try:
        with RemoteBytes(memory).stream(first, planned) as stream:
            for size in sizes:
                out = np.zeros(min(size, len(DATA) - first), np.uint8)
                stream.read_into(out)
                assert out.tobytes() == DATA[first : first + out.size]
                first += out.size
    finally:
        remote_stream.CHUNK_BYTES = before


def test_a_stream_ends_with_the_file(memory: RemoteFile) -> None:
    with (
        RemoteBytes(memory).stream(len(DATA) - 10, len(DATA)) as stream,
        pytest.raises(CameraError, match=r"data\.bin has no bytes after 1000003"),
    ):
        stream.read_into(np.zeros(11, np.uint8))


def test_a_stream_reads_no_more_than_a_few_ranges_ahead(
    tmp_path: Path, server: RangeServer, small_ranges: int
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    with RemoteBytes(RemoteFile(server.url("data.bin"))).stream(0, len(DATA)) as stream:
        stream.read_into(np.zeros(10, np.uint8))
        time.sleep(0.2)
        assert max(stop for _, _, stop in server.asked) <= (remote_stream.AHEAD + 1) * small_ranges


def test_a_python_file_over_a_remote_one_seeks_and_reads(memory: RemoteFile) -> None:
    file, true = io.BufferedReader(RemoteReader(RemoteBytes(memory)), 5000), io.BytesIO(DATA)
    for offset, whence, count in ((0, 0, 8), (-20, 2, 100), (70_000, 0, 9000), (5, 1, 3)):
        assert file.seek(offset, whence) == true.seek(offset, whence)
        assert file.read(count) == true.read(count)
        assert file.tell() == true.tell()
    assert file.seek(2_000_000) == 2_000_000
    assert file.read(5) == b""


@pytest.mark.parametrize("fault", ["cut", "busy"])
def test_a_read_that_breaks_is_tried_again(
    fault: str, tmp_path: Path, server: RangeServer, no_waits: int
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    left = [no_waits - 1]

    def break_some(name: str, first: int) -> str:
        left[0] -= 1
        return fault if left[0] >= 0 else ""

    server.fault = break_some
    assert source.read(1000, 900_000) == DATA[1000:900_000]
    assert len(server.asked) == no_waits


def test_a_read_that_breaks_again_and_again_names_file_and_byte(
    tmp_path: Path, server: RangeServer, no_waits: int
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin?key=secret")))
    server.fault = lambda name, first: "cut"
    with pytest.raises(
        CameraError, match=r"/data\.bin cannot be read at byte 4096: .*4 attempts"
    ) as e:
        source.read(4096, 8192)
    assert "secret" not in str(e.value)
    assert "repeat the command" in e.value.remedy
    assert len(server.asked) == no_waits


def test_a_server_that_comes_back_in_time_is_not_missed(
    tmp_path: Path, server: RangeServer
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    assert source.read(0, 10) == DATA[:10]
    server.stop()
    threading.Timer(0.5, server.start).start()
    assert source.read(500_000, 500_100) == DATA[500_000:500_100]


def test_closing_ends_the_waiting_for_a_dead_server(
    tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_errors, "PAUSES_S", (60.0,))
    (tmp_path / "data.bin").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    server.stop()
    threading.Timer(0.3, source.close).start()
    with pytest.raises(CameraError, match="cannot be read at byte 5"):
        source.read(5, 6)


@pytest.mark.parametrize(
    ("url", "message", "remedy"),
    [
        ("memory://nowhere/a.mib", "does not exist", "check the address"),
        ("memory://folder/a.npy", "is not a file", "name the recording"),
        ("nonsense://a.mib", "nonsense", "s3://"),
        ("lacking://a.mib", "needs a package that is not installed", "install"),
    ],
)
def test_what_cannot_be_opened_is_one_clear_error(url: str, message: str, remedy: str) -> None:
    fsspec.register_implementation(
        "lacking", "no_such_package.System", errtxt="Install no_such_package", clobber=True
    )
    system = fsspec.filesystem("memory")
    system.pipe_file("/folder/a.npy/inside", b"1")
    try:
        with pytest.raises(FormatError) as error:
            open_recording(RemoteFile(url))
    finally:
        system.rm("/folder", recursive=True)
    assert url in error.value.message
    assert message in error.value.message
    assert remedy in error.value.remedy


def test_s3_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FormatError, match="s3fs") as error:
        open_recording(RemoteFile("s3://bucket/a.mib"))
    assert error.value.remedy == "pip install s3fs"


@pytest.mark.parametrize(
    ("fault", "message"),
    [("forbidden", "may not be read"), ("whole", "cannot send parts of a file")],
)
def test_a_server_that_does_not_serve_is_asked_once(
    fault: str, message: str, tmp_path: Path, server: RangeServer
) -> None:
    (tmp_path / "a.mib").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("a.mib")))
    server.fault = lambda name, first: fault
    with pytest.raises(CameraError, match=message):
        source.read(500_000, 600_000)
    assert len(server.asked) == 1


def test_what_is_not_beside_is_not_there(tmp_path: Path, server: RangeServer) -> None:
    (tmp_path / "a.hdr").write_bytes(b"HDR,")
    (tmp_path / "b.hdr").write_bytes(b"HDR,")
    server.fault = lambda name, first: "forbidden" if name == "b.hdr" else ""
    assert read_beside(tmp_path / "a.mib", ".hdr", 3) == b"HDR"
    assert read_beside(tmp_path / "none.mib", ".hdr", 3) is None
    assert read_beside(RemoteFile(server.url("a.mib?x=1")), ".hdr", 3) == b"HDR"
    assert read_beside(RemoteFile(server.url("b.mib")), ".hdr", 3) is None
    assert read_beside(RemoteFile(server.url("none.mib")), ".hdr", 3) is None


def test_only_addresses_are_remote() -> None:
    assert recording_path("a/b.mib") == Path("a/b.mib")
    assert recording_path("file:///a/b.mib") == Path("/a/b.mib")
    assert recording_path("local://b.mib") == Path("b.mib")
    assert recording_path("s3://bucket/b.mib") == RemoteFile("s3://bucket/b.mib")


@pytest.mark.parametrize(
    ("url", "shown", "name", "beside"),
    [
        ("s3://b/n/a.x.mib", "s3://b/n/a.x.mib", "a.x.mib", "s3://b/n/a.x.hdr"),
        ("memory://a.mib", "memory://a.mib", "a.mib", "memory://a.hdr"),
        (
            "https://me:word@h/n.mib/a.mib?sig=1.mib#f",
            "https://***@h/n.mib/a.mib",
            "a.mib",
            "https://me:word@h/n.mib/a.hdr?sig=1.mib#f",
        ),
    ],
)
def test_an_address_has_a_name_a_neighbour_and_keeps_its_secrets(
    url: str, shown: str, name: str, beside: str
) -> None:
    file = RemoteFile(url)
    assert str(file) == shown
    assert (file.name, file.suffix, file.stem) == (name, ".mib", name[:-4])
    assert file.with_suffix(".hdr") == RemoteFile(beside)


def test_times_of_any_file_system_are_understood() -> None:
    second = 1_792_966_400
    for text in ("Sun, 25 Oct 2026 22:13:20 GMT", "2026-10-25T22:13:20Z", second, float(second)):
        assert time_ns(text) == time_ns(second)
    assert time_ns("when it was") == 0
    assert time_ns(None) == 0


def test_a_change_is_seen_by_tag_or_by_content(tmp_path: Path, server: RangeServer) -> None:
    from stemd.offline.cluster.opened import has_changed, identity_of

    path = tmp_path / "a.bin"
    for server.tagged in (True, False):
        path.write_bytes(DATA)
        file = RemoteFile(server.url("a.bin"))
        identity = identity_of(file)
        assert not has_changed([file], identity)
        assert bool(re.search("etag", str(identity), re.IGNORECASE)) == server.tagged
        time.sleep(0.02)
        path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
        assert has_changed([file], identity)


OTHER = bytes(255 - value for value in DATA[:1000]) + DATA[1000:]


def _replace(path: Path) -> None:
    """The same size, other content, another time: what rsync or a re-export does."""
    time.sleep(0.02)
    path.with_suffix(".new").write_bytes(OTHER)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("fault", ["", "ignores"])
def test_a_file_that_is_replaced_between_two_ranges_is_no_one_file(
    fault: str, tmp_path: Path, server: RangeServer, no_waits: int
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    assert source.read(0, 1000) == DATA[:1000]
    _replace(path)
    server.fault = lambda name, first: fault
    with pytest.raises(CameraError, match=r"data\.bin was replaced while it was read") as error:
        source.read(1000, 2000)
    assert "repeat the command" in error.value.remedy
    assert len(server.asked) == 2


def test_a_file_that_grows_is_noticed_without_tags(
    tmp_path: Path, server: RangeServer, no_waits: int
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    server.tagged = False
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    path.write_bytes(DATA + b"more")
    with pytest.raises(CameraError, match=r"its size was 1000003, now it is 1000007"):
        source.read(0, 1000)
    path.write_bytes(DATA[:500])
    with pytest.raises(CameraError, match=r"was replaced"):
        source.read(900, 1000)


def test_bytes_of_another_place_are_not_taken(
    tmp_path: Path, server: RangeServer, no_waits: int
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    server.fault = lambda name, first: "shifted"
    with pytest.raises(CameraError, match=r"bytes 100-199 were asked for, the server sent"):
        source.read(100, 200)
    assert len(server.asked) == no_waits


def test_a_file_on_another_store_that_is_replaced_is_noticed() -> None:
    system = fsspec.filesystem("memory")
    system.pipe_file("/replaced/data.bin", DATA)
    try:
        source = RemoteBytes(RemoteFile("memory://replaced/data.bin"))
        assert source.read(0, 1000) == DATA[:1000]
        time.sleep(0.01)
        system.rm("/replaced/data.bin")
        system.pipe_file("/replaced/data.bin", OTHER)
        with pytest.raises(CameraError, match=r"was replaced while it was read: its created"):
            source.read(1000, 2000)
    finally:
        system.rm("/replaced", recursive=True)


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache", "cached"])
def test_caches_that_would_mix_an_old_file_with_a_new_one_are_refused(
    cache: str, tmp_path: Path, server: RangeServer
) -> None:
    (tmp_path / "a.npy").write_bytes(DATA)
    with pytest.raises(FormatError, match="cannot tell when the file is replaced") as error:
        open_recording(RemoteFile(f"{cache}::{server.url('a.npy')}"))
    assert f"leave {cache}:: out" in error.value.remedy


def test_a_server_at_a_hundred_bytes_a_second_is_given_up_with_words(
    tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_ranges, "QUIET_S", 1.0)
    (tmp_path / "data.bin").write_bytes(DATA)
    source = RemoteBytes(RemoteFile(server.url("data.bin")))
    server.fault = lambda name, first: "trickle"
    began = time.monotonic()
    with pytest.raises(CameraError, match=r"the server sends \d+ bytes a second .* given up"):
        source.read(0, 500_000)
    assert time.monotonic() - began < 10.0


def test_a_scan_whose_file_is_replaced_ends_without_images(
    tmp_path: Path,
    server: RangeServer,
    small_ranges: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((40, 50, 16, 16), np.uint16))
    replaced = []

    def replace_it(name: str, first: int) -> str:
        if first > 300_000 and not replaced:
            replaced.append(first)
            time.sleep(0.02)
            np.save(tmp_path / "b.npy", np.full((40, 50, 16, 16), 2, np.uint16))
            (tmp_path / "b.npy").replace(path)
        return ""

    server.fault = replace_it
    out = tmp_path / "out"
    assert main(["process", server.url("a.npy"), "--engine", "sum", "--out", str(out)]) == 1
    assert replaced
    assert "was replaced while it was read" in capsys.readouterr().err
    assert not (out / "a" / "sum.tif").exists()
