"""Finished machine code of kernels runs without numba, and only where it is as it was made."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.compilation.compiler import KNOWN
from stemd.compilation.finished import Finished, _described, folders, possible
from stemd.compilation.stale import remove_unused

pytestmark = pytest.mark.skipif(
    not (KNOWN and possible()), reason="numba runs the kernels here, as test_start tries"
)

KERNELS = """
import os, sys, threading
import numpy as np
from stemd.compilation import njit

@njit(nogil=True, cache=True)
def half(x):
    return x / 2

@njit(nogil=True, cache=True)
def added(values, weights, start, scaled, none, window):
    total = start
    for y in range(window[0], window[1]):
        for x in range(values.shape[1]):
            total += values[y, x] * (weights[x] if scaled else half(1.0))
    return total, none is None, np.sqrt(weights)

@njit(nogil=True, cache=True)
def refused(count):
    if count < 0:
        raise ValueError("a count below 0")
    return count

@njit(nogil=True, cache=True)
def noted(state, last):
    state[0].times[1] += 2.5
    last.count += 1
    return state[0].times[1], last.count

values = np.asfortranarray(np.arange(12, dtype=np.uint16).reshape(3, 4))
weights = np.arange(4.0)
weights.flags.writeable = False

def first():
    total, without, roots = added(values, weights, np.float32(2), True, None, (1, 3))
    records = np.zeros(2, [("count", "i8"), ("times", "f8", (3,))])
    noted(records, records[1])
    return float(total), without, roots.tolist(), refused(3), noted(records, records[1])
"""
PROGRAM = """
print(first(), "numba" in sys.modules, added.versions)
"""
EXPECTED = "(102.0, True, [0.0, 1.0, 1.4142135623730951, 1.7320508075688772], 3, (5.0, 2))"
ANYTHING = """
try:
    refused(-1)
except ValueError as error:
    said = str(error)
before = first()
print(said, refused(2.5), before == first(), added(values, weights, 1, False, None, (0, 1))[0])
"""
THREADS = """
import threading
together, seen = threading.Barrier(8), []
def call():
    together.wait()
    seen.append(first())
threads = [threading.Thread(target=call) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
print(len(seen), set(map(str, seen)) == {str(first())}, "numba" in sys.modules)
"""


def _run(folder: Path, code: str = PROGRAM, kernels: str = KERNELS, **environment: str) -> str:
    """What the program prints. Its kernels are kept in `folder / "cache"`."""
    path = folder / "program.py"
    path.write_text(kernels)
    known = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    begin = f"import sys; sys.path.insert(0, {str(folder)!r}); from program import *\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code],
        env=known | {"NUMBA_CACHE_DIR": str(folder / "cache")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose kernels have been compiled."""
    folder = tmp_path_factory.mktemp("kept")
    assert _run(folder) == f"{EXPECTED} True 1"
    return folder


def _files(folder: Path) -> dict[str, Path]:
    found = {path.name.split("-")[0]: path for path in folder.rglob("*.finished")}
    assert len(found) == len(list(folder.rglob("*.finished")))
    return found


def test_kernels_that_are_kept_run_without_numba_and_give_the_same(kept: Path) -> None:
    assert _files(kept).keys() == {"added", "noted", "refused"}
    assert _run(kept) == f"{EXPECTED} False 1"


def test_several_threads_may_call_a_kernel_first(kept: Path) -> None:
    assert _run(kept, THREADS) == "8 True False"


def test_numba_is_still_there_for_errors_and_for_other_arguments(kept: Path) -> None:
    assert _run(kept, f"print(first()){ANYTHING}") == f"{EXPECTED}\na count below 0 2.5 True 4.0"


@pytest.mark.parametrize("setting", ["NUMBA_OPT", "NUMBA_BOUNDSCHECK"])
def test_with_settings_of_numba_the_kernels_are_numbas(setting: str, kept: Path) -> None:
    assert _run(kept, **{setting: "1"}) == f"{EXPECTED} True 1"


def test_code_that_another_processor_or_library_was_made_for_is_not_run(kept: Path) -> None:
    made = "from stemd.compilation import finished\nhere = finished.maker()\n"
    other = f"{made}finished.maker = lambda: here | {{'processor': 'another'}}\n"
    assert _run(kept, other + PROGRAM) == f"{EXPECTED} True 1"
    assert _run(kept) == f"{EXPECTED} False 1"


def test_code_that_needs_what_is_not_there_is_not_run(kept: Path) -> None:
    without = (
        "from stemd.compilation import finished\nlinker, own, module = finished._linker()\n"
        "own = {name: at for name, at in own.items() if name != 'NRT_adapt_ndarray_from_python'}\n"
        "finished._linker = lambda: (linker, own, module)\n"
    )
    assert _run(kept, without + PROGRAM) == f"{EXPECTED} True 1"


@pytest.mark.parametrize("left", [0, 10, 5000])
def test_a_file_that_a_power_cut_has_left_cut_off_is_made_again(left: int, tmp_path: Path) -> None:
    _run(tmp_path)
    file = _files(tmp_path)["added"]
    whole = file.read_bytes()
    os.truncate(file, left)
    assert _run(tmp_path) == f"{EXPECTED} True 1"
    assert file.read_bytes() == whole
    assert _run(tmp_path) == f"{EXPECTED} False 1"


@pytest.mark.parametrize("part", [b'"wrapper": "', b'"constants": ["', b"ELF"])
def test_a_byte_that_a_disk_has_changed_is_seen(part: bytes, tmp_path: Path) -> None:
    _run(tmp_path)
    file = _files(tmp_path)["added"]
    whole = file.read_bytes()
    at = whole.index(part) + len(part)
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
    assert _run(tmp_path) == f"{EXPECTED} True 1"
    assert file.read_bytes() == whole


@pytest.mark.parametrize("head", [b"[" * 200_000, b"[]", b"{}", b"\xff"], ids=lambda h: h[:2].hex())
def test_a_file_of_anything_else_with_its_checksum_is_made_again(
    head: bytes, tmp_path: Path
) -> None:
    _run(tmp_path)
    file = _files(tmp_path)["added"]
    whole = file.read_bytes()
    text = head + b"\n" + whole.split(b"\n", 2)[2]
    file.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    assert _run(tmp_path) == f"{EXPECTED} True 1"
    assert file.read_bytes() == whole


def test_a_pipe_of_that_name_is_not_waited_for(tmp_path: Path) -> None:
    _run(tmp_path)
    file = _files(tmp_path)["added"]
    file.unlink()
    os.mkfifo(file)
    assert _run(tmp_path) == f"{EXPECTED} True 1"


def test_a_folder_that_nobody_may_look_into_does_not_matter_where_another_one_serves(
    tmp_path: Path,
) -> None:
    """As a home that a service is kept out of; here its name is too long, which root sees, too."""
    locked = (
        "from pathlib import Path\nfrom stemd.compilation import keeping\nhere = keeping.folders\n"
        "keeping.folders = lambda function: [*here(function), Path('x' * 300)]\n"
    )
    assert _run(tmp_path, locked + PROGRAM) == f"{EXPECTED} True 1"
    assert _files(tmp_path).keys() == {"added", "noted", "refused"}


def test_what_was_read_before_a_file_changed_is_not_kept_for_what_it_holds_now(
    tmp_path: Path,
) -> None:
    """An update writes new files under a process that goes on."""
    changed = KERNELS.replace("+= 2.5", "+= 10.0")
    update = f"from pathlib import Path\nPath({str(tmp_path / 'program.py')!r}).write_text("
    assert _run(tmp_path, f"{update}{changed!r})\n{PROGRAM}") == f"{EXPECTED} True 1"
    assert _run(tmp_path, kernels=changed) == f"{EXPECTED.replace('5.0, 2', '20.0, 2')} True 1"


def test_files_of_code_that_has_changed_are_removed(tmp_path: Path) -> None:
    _run(tmp_path)
    before = _files(tmp_path)
    assert _run(tmp_path, kernels=KERNELS.replace("x / 2", "x / 4")) == f"{EXPECTED} True 1"
    after = _files(tmp_path)
    assert after.keys() == before.keys()
    assert set(after.values()).isdisjoint(before.values())


def _aged(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_code_of_any_version_that_nobody_has_used_for_long_is_removed_and_no_other(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cache" / "finished"
    folder.mkdir(parents=True)
    days = {"mine-1.finished": 1, "other-2.finished": 59, "gone-3.finished": 61}
    days |= {"cut-4.finished.ab.part": 2, "now-5.finished.cd.part": 0.5, "numba.nbi": 900}
    for name, age in days.items():
        (folder / name).write_bytes(b"code")
        _aged(folder / name, age)
    remove_unused(folder)
    left = {path.name for path in folder.iterdir()}
    assert left == days.keys() - {"gone-3.finished", "cut-4.finished.ab.part"}


def test_a_file_that_is_used_is_young_again_and_new_code_removes_what_is_old(
    tmp_path: Path,
) -> None:
    _run(tmp_path)
    (folder,) = {path.parent for path in _files(tmp_path).values()}
    old = folder / "of_another_python-0-0-0.finished"
    old.write_bytes(b"code")
    for path in folder.iterdir():
        _aged(path, 100)
    assert _run(tmp_path) == f"{EXPECTED} False 1"
    assert old.exists()  # nothing was compiled
    ages = [time.time() - path.stat().st_mtime for path in folder.iterdir() if path != old]
    assert max(ages) < 86_400
    _run(tmp_path, kernels=KERNELS.replace("x / 2", "x / 4"))
    assert not old.exists()


RECORD = np.dtype([("a", "u1"), ("b", "f8", (3,))])
VALUES: dict[str, Any] = {
    "int": 3,
    "bool": True,
    "float": 0.5,
    "complex": 1j,
    "none": None,
    "tuple": (1, 2.0, (True, None)),
    "no tuple": (),
    "uint8": np.uint8(3),
    "float32": np.float32(3),
    "bool of numpy": np.bool_(True),
    "C": np.zeros((2, 3), np.uint16),
    "F": np.zeros((2, 3), np.float32).T,
    "neither": np.zeros((4, 6), np.int32)[::2, ::2],
    "a row": np.zeros((1, 3)),
    "one": np.zeros(()),
    "empty": np.zeros((0, 3), np.complex64),
    "read-only": np.frombuffer(b"abc", np.uint8),
    "unaligned": np.frombuffer(bytearray(17), np.uint8)[1:].view(np.uint64),
    "mask": np.zeros(3, np.bool_),
    "records": np.zeros(3, RECORD),
    "a record": np.zeros(3, RECORD)[0],
    "other records": np.zeros(3, [("a", "u1"), ("c", "f8", (3,))]),
    "aligned records": np.zeros(3, np.dtype([("a", "u1"), ("b", "f8", (3,))], align=True)),
}


@pytest.mark.parametrize("name", VALUES)
def test_an_argument_is_called_as_numbas_type_of_it(name: str) -> None:
    numba = pytest.importorskip("numba")
    from stemd.compilation.keeping import described

    text = _described(VALUES[name])
    assert text is not None
    assert text == described(numba.typeof(VALUES[name]))
    others = [_described(value) for other, value in VALUES.items() if other != name]
    same = {"bool": 1, "bool of numpy": 1}.get(name, 0)
    assert others.count(text) == same


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3, ">u2"),
        np.zeros(3, [("a", "u1")]).view(np.recarray),
        np.ma.zeros(3),
        np.zeros(3, "M8[s]"),
        "text",
        (1, "text"),
        [1],
        np.str_("text"),
    ],
)
def test_arguments_that_it_does_not_know_are_left_to_numba(value: Any) -> None:
    assert _described(value) is None
    assert Finished(_run).find((value,)) is None  # type: ignore[arg-type]


def test_a_file_is_processed_without_numba_the_second_time(tmp_path: Path) -> None:
    from stemd.adapters.merlin.encoder import Camera
    from stemd.adapters.merlin.header import encode_frame_header

    text = encode_frame_header(Camera(shape=(16, 16), depth=12).header()).decode("latin-1")
    frames = np.random.default_rng(0).poisson(9.0, (64, 16, 16)).astype(">u2")
    with (tmp_path / "scan.mib").open("wb") as file:
        for number, frame in enumerate(frames, 1):
            file.write(f"{text[:4]}{number:06d}{text[10:]}".encode("latin-1") + frame.tobytes())
    code = (
        "import sys; from stemd.cli.main import main; "
        "ended = main(['process', 'scan.mib', '--scan', '8x8', '--engine', 'ricom:kernel_size=5', "
        "'--engine', 'virtual_detector:detectors_px={bf=[0,4]}']); "
        "print(ended, 'numba' in sys.modules)"
    )
    known = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    for needed in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=known | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stdout.splitlines()[-1] == f"0 {needed}", done.stderr


def test_it_lies_where_numba_would_keep_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert list(folders(_run)) == [
        Path(__file__).parent / "__pycache__", tmp_path / "stemd" / "finished"
    ]  # fmt: skip
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert list(folders(_run))[1] == tmp_path / "home" / ".cache" / "stemd" / "finished"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert list(folders(_run)) == [tmp_path / "finished"]
