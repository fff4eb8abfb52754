"""What a start reads and compiles, bounded by counts: a clock would tell of the machine."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from stemd import compilation
from stemd.garbage import uncollected

ROOT = Path(__file__).parents[1]

SLOW = ("numba", "llvmlite", "scipy", "structlog", "aiohttp", "aiomqtt", "dask", "h5py", "tifffile")
"""What `stemd check` of a config has no use for; each takes 20 to 200 ms to import."""
OTHERS = ("asyncio", "ssl", "urllib.request", "http.client", "xml.sax", "xml.etree.ElementTree")
"""Of Python's own library, what neither `check` nor `process` has a use for; 4 to 12 ms each."""

OF_SCANS = {"stemd.engines.reduction", "stemd.engines.lens.measure", "stemd.engines.bad_pixels"}
"""What is for scans that run."""

MODULES = """
import sys
from stemd.cli.main import main
assert main(["check", sys.argv[1]]) == 0
print(*sys.modules)
"""

KERNELS = """
import gc, json, sys
from pathlib import Path
from stemd.compilation.kernels import Kernel
from stemd.config.file import load
from stemd.scan.warm import steps
for _, step in steps(load(Path(sys.argv[1])).pipelines[0]):
    step()
made = (each for each in gc.get_objects() if isinstance(each, Kernel) and each.made)
print(json.dumps({f"{k.__module__}.{k.__qualname__}": k.versions for k in made}))
"""

PIXEL_TYPES = 3
"""Of a Merlin camera. A kernel that reads its bytes has a version for each."""
MOST_VERSIONS = 90
"""Of all kernels of the demo. Each costs 0.1 to 0.7 s of a first start."""


def _printed(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("example", ["merlin", "timepix3", "dectris", "images", "replay"])
def test_check_reads_no_library_that_it_does_not_need(example: str) -> None:
    modules = set(_printed(MODULES, str(ROOT / "config" / f"{example}.toml")).split())
    assert not modules & set(SLOW)
    assert not modules & OF_SCANS
    if example in ("merlin", "timepix3", "replay"):
        assert not modules & set(OTHERS)


def test_processing_reads_no_library_and_no_sink_that_it_does_not_need() -> None:
    code = (
        "import sys; from stemd.cli.forms import forms_of; from stemd.cli import process; "
        "import stemd.cli.process_file; "
        "assert forms_of('tiff') == ('tiff',); print(*sys.modules)"
    )
    modules = set(_printed(code).split())
    assert not modules & {*SLOW, *OTHERS}
    assert {name for name in modules if name.startswith("stemd.sinks.")} == {"stemd.sinks.tiff"}


def test_check_reads_the_adapter_that_the_config_names_and_no_other() -> None:
    modules = _printed(MODULES, str(ROOT / "config" / "merlin.toml")).split()
    others = ("dectris", "timepix3", "advapix", "images")
    assert "stemd.adapters.merlin" in modules
    assert not [name for name in modules if name in {f"stemd.adapters.{each}" for each in others}]


def test_the_demo_compiles_no_more_versions_of_a_kernel_than_there_are_pixel_types(
    tmp_path: Path,
) -> None:
    from stemd.cli.demo.setting import Ports, config_text

    path = tmp_path / "demo.toml"
    path.write_text(config_text(["camera"], Ports(6342, 6341), (16, 16), tmp_path, None, 0))
    versions = json.loads(_printed(KERNELS, str(path)))
    assert max(versions.values()) <= PIXEL_TYPES, versions
    assert sum(versions.values()) <= MOST_VERSIONS, versions


MOST_OF_EVENTS = 125
"""Versions of all kernels of an event camera with riCOM and detectors."""


def test_an_event_camera_compiles_no_kernel_twice_but_for_reasons() -> None:
    versions = json.loads(_printed(KERNELS, str(ROOT / "config" / "timepix3.toml")))
    assert sum(versions.values()) <= MOST_OF_EVENTS, versions
    twice = {name.split(".", 2)[2] for name, count in versions.items() if count > 1}
    assert twice <= {
        "events.pulses.ledger.note",  # a pulse or none, which are types of their own
        "events.positions.within_line.place_within",  # 64 hits, or fewer
        "events.positions.within_line.span",
        "events.pulses.rhythm.tolerance",
        "events.strays.release_strays",  # called by `decode`, and at the end of a stream
        "kernels.hit_sums._count_group",  # all detectors, or one group of them
    }


CALLER = """
from stemd.compilation import njit
{names}

@njit(cache=True)
def made(x):
    return {place}FACTOR * {place}twice(x)

print(made(7), sum(made.stats.cache_misses.values()))
"""

CALLEE = """
from stemd.compilation import njit

FACTOR = {factor}

@njit(cache=True)
def twice(x):
    return {times} * x
"""


@pytest.mark.parametrize(
    ("names", "place"), [("from callee import FACTOR, twice", ""), ("import callee", "callee.")]
)
def test_a_kernel_is_compiled_again_when_one_that_it_calls_has_changed(
    tmp_path: Path, names: str, place: str
) -> None:
    (tmp_path / "caller.py").write_text(CALLER.format(names=names, place=place))

    def run(factor: int, times: int) -> str:
        (tmp_path / "callee.py").write_text(CALLEE.format(factor=factor, times=times))
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True"
        return _printed(f"{code}\nimport caller")

    assert run(1, 2) == "14 1"
    assert run(1, 2) == "14 0"
    assert run(1, 3) == "21 1"
    assert run(5, 3) == "105 1"


PARTS = """
from callee import twice
from caller import made
from numba.core.codegen import JITCodeLibrary as Library

emit, emitted = Library._finalize_specific, []
Library._finalize_specific = lambda self: (emitted.append(self.name), emit(self))
first = made(7)
alone = [name for name in emitted if "twice" in name]
print(first, len(alone), twice.versions, twice(4), twice.versions)
"""


def test_machine_code_of_a_kernel_that_a_kernel_calls_is_made_in_that_one_only(
    tmp_path: Path,
) -> None:
    callee = CALLEE.format(factor=1, times=2)
    caller = CALLER.format(names="from callee import FACTOR, twice", place="")
    (tmp_path / "callee.py").write_text(callee)
    (tmp_path / "caller.py").write_text(caller.replace("print(", "0 and ("))
    empty = f"import os; os.environ['NUMBA_CACHE_DIR'] = {str(tmp_path / 'cache')!r}"
    code = f"{empty}; import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PARTS}"
    assert _printed(code) == "14 0 1 8 2"


COLD = """
from stemd.compilation import njit

@njit(cold=COLD)
def plus(x, y):
    return x + y

@njit()
def both(x):
    return plus(x, 1) + plus(x, 2)

print(both(3), plus.versions)
"""


@pytest.mark.parametrize(("cold", "versions"), [(True, 1), (False, 2)])
def test_one_version_of_a_cold_kernel_serves_all_constants_that_it_is_called_with(
    tmp_path: Path, cold: bool, versions: int
) -> None:
    (tmp_path / "cold.py").write_text(COLD.replace("COLD", str(cold)))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cold"
    assert _printed(code) == f"9 {versions}"


QUICKER = """
import sys
import stemd.compilation.quicker as quicker
if sys.argv[1] == "without":
    quicker.make_quicker = lambda: None
import numpy as np
from stemd.compilation import njit

@njit(nogil=True)
def mixed(counts, weights):
    total, most = 0.0, -1
    for i in range(counts.size):
        if i % 3 != 1 and counts[i] > np.uint16(2) or weights[i] <= 0.5:
            total += weights[i] * counts[i] - (i << 1) / 7 + np.sqrt(weights[i])
            most = max(most, int(counts[i]) ** 2 & 255)
    return total, -most

mixed(np.arange(9, dtype=np.uint16), np.linspace(0, 1, 9))
from numba.core.compiler import Flags
flags = Flags()
flags.nrt = True
assert flags.values() == {name: getattr(flags, name) for name in flags.options}
assert flags == flags.copy() and hash(flags) == hash(flags.copy()) and flags != Flags()
print(hash("".join(mixed.inspect_llvm().values())))
"""


def test_numba_makes_the_same_code_of_a_kernel_as_without_what_makes_it_quicker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert _printed(QUICKER, "with") == _printed(QUICKER, "without")


def test_kernels_are_made_where_there_is_no_colorama(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "from stemd.compilation import njit\n\n@njit(cache=True)\ndef twice(x):\n    return 2 * x\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.modules['colorama'] = None; "
        "import plain; print(plain.twice(4))"
    )
    assert _printed(code) == "8"


def test_where_numba_is_told_not_to_compile_a_kernel_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.arange(16 * 64, dtype="<u2").reshape(4, 4, 8, 8))
    done = subprocess.run(
        [sys.executable, "-m", "stemd", "process", "scan.npy", "--out", "images"],
        cwd=tmp_path,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "told to compile nothing (NUMBA_DISABLE_JIT)" in done.stderr
    assert "remedy: unset the environment variable NUMBA_DISABLE_JIT" in done.stderr
    assert done.stderr.count("remedy") == 1
    assert "unforeseen" not in done.stderr


UNKNOWN = """
import sys
import numba
from numba.core.codegen import CPUCodeLibrary
numba.version_info = numba.version_info._replace(short=(0, 1))
before = CPUCodeLibrary._optimize_functions
from stemd.compilation import njit

@njit(cold=True)
def plus(x, y):
    return x + y

@njit(cache=True)
def both(x):
    return plus(x, 1) + plus(x, 2)

changed = [name for name in ("parts", "quicker") if f"stemd.compilation.{name}" in sys.modules]
print(both(3), changed, CPUCodeLibrary._optimize_functions is before)
"""


def test_the_inside_of_a_numba_that_has_not_been_tried_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "unknown.py").write_text(UNKNOWN)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import unknown"
    assert _printed(code) == "9 [] True"


def test_progress_can_be_asked_while_another_thread_imports_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = types.ModuleType("stemd.compilation.compiler")
    monkeypatch.setitem(sys.modules, begun.__name__, begun)
    assert compilation.compiled() == 0
    assert compilation.last_progress() <= time.monotonic()


def test_check_shows_every_value_of_a_config_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from stemd.cli.check import resolved
    from stemd.cli.main import main
    from stemd.config.file import load

    path = ROOT / "config" / "merlin.toml"
    assert main(["check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: no errors"
    document = resolved(load(path))
    adapter = document["pipelines"][0]["adapter"]
    shown = [line.lstrip("│├└─ ") for line in lines]
    for table in (document["daemon"], adapter, document["pipelines"][0]["optics"]):
        for key, value in table.items():
            assert value is None or key == "type" or f"{key} = {value!r}" in shown, key
    assert gc.isenabled()


def test_garbage_is_looked_for_again_when_the_last_one_is_through() -> None:
    assert gc.isenabled()
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
        with pytest.raises(KeyError), uncollected():
            raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_process_reads_nothing_that_aligns_frames_unless_there_are_several() -> None:
    code = "import sys, stemd.scan.processing; print(*sys.modules)"
    assert "stemd.engines.restoration.frames.aligned" not in _printed(code).split()
