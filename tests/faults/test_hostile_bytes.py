"""Decoders and bytes that nobody should send: refused or counted, never a crash or a hang."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.fuzz import Mutator, main
from benchmarks.fuzz_targets import TARGETS
from stemd.acquisition import Scan
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.events.front import Hits
from stemd.adapters.events.sync import Output, ScanSync
from stemd.adapters.merlin.control import parse_reply
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from stemd.adapters.merlin.header import parse_frame_header
from stemd.adapters.timepix3.csr import FIRST_BYTES, CsrDecoder, acquisition_start
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.blocks import BlockPool
from stemd.errors import CameraError, FormatError, StemdError
from tests.merlin.streams import decode


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_decoded_or_refused(name: str) -> None:
    target = TARGETS[name]
    mutator = Mutator(target.seeds(), seed=random.SystemRandom().randrange(1 << 30))
    for number in range(150):
        data = mutator.next()
        try:
            target.run(data)
        except StemdError:
            pass
        except Exception as error:
            pytest.fail(f"input {number} ({data!r:.2000}): {error!r}")


def test_the_fuzzer_itself_runs_and_reports_what_it_did(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "merlin-hdr", "--inputs", "500", "--out", str(tmp_path), "--json"]) == 0
    assert '"findings": 0' in capfd.readouterr().out


@pytest.mark.parametrize("field", [13, -2])
def test_a_superscript_digit_in_a_header_is_not_a_number(field: int) -> None:
    camera = Camera((6, 10), 12)
    fields = encode_frame(np.zeros((6, 10), np.uint16), camera, 1)[:384].split(b",")
    fields[field] = "³".encode("latin-1")
    header = parse_frame_header(b",".join(fields).ljust(384, b"\0"))
    assert header.gain == 0
    assert header.depth in (4, 12)


def test_a_status_among_control_characters_is_read() -> None:
    assert parse_reply("SET,GAIN,3\x1c").status == 3


def test_a_superscript_status_of_the_control_port_is_refused() -> None:
    with pytest.raises(CameraError, match="replied"):
        parse_reply("SET,GAIN,³")


def test_a_hit_on_a_boundary_that_rounding_has_moved_is_placed_and_passed() -> None:
    """Late in the clock a slot's end is rounded before its last hits, which went round for ever:
    in the slot by division, outside of it by comparison."""
    made = AdvapixSettings(scan=Scan(shape=(3, 5), flyback=1, dwell_time_us=10.0))
    sync, hits = ScanSync(made, made.scan or Scan(shape=(1, 1))), Hits()
    hits.times[0] = 2_310_029_949_763_845_943
    out = Output.within(np.zeros(12 * 8, np.uint8), 8)
    assert sync.assign(hits, 1, 0, 0, 0, out)[:3] == (1, 0, 1)
    assert out.probe[0] == 4


def test_a_sparse_message_takes_no_memory_before_it_has_come() -> None:
    decoder = CsrDecoder(Timepix3Settings(scan=Scan(shape=(2, 2))), BlockPool())
    head = acquisition_start((4, 4), (256, 256), tot=False)
    lie = struct.pack("<BBII22x", 2, 3, 16, 150_000_000)  # 900 MB to come
    for part in (head, lie):
        decoder.wants()[0][: len(part)] = part
        list(decoder.fed(len(part), 1))
    assert len(decoder.wants()[0]) <= FIRST_BYTES


def test_a_scan_larger_than_memory_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(ValidationError, match="8192"):
        Scan(shape=(65536, 65536))
    camera = Camera((6, 10), 12)
    hdr = encode_hdr(camera, 1000).replace(b"End\t", b"ScanX:\t65535\r\nScanY:\t65535\r\nEnd\t")
    frame = message(encode_frame(np.zeros((6, 10), np.uint16), camera, 1))
    with pytest.raises(FormatError, match="possible"):
        decode(message(hdr) + frame, None)
    decoder = CsrDecoder(Timepix3Settings(scan=Scan(shape=(2, 2))), BlockPool())
    start = acquisition_start((65535, 65535), (256, 256), tot=False)
    decoder.wants()[0][: len(start)] = start
    with pytest.raises(FormatError, match="65535x65535"):
        list(decoder.fed(len(start), 1))
