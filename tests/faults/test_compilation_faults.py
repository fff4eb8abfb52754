"""Kernels are compiled though their cache cannot be written, is full or was cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = """
from stemd.compilation import njit


@njit(nogil=True, cache=True)
def twice(x):
    return 2 * x


@njit(nogil=True, cache=True)
def thrice(x):
    return 3 * x


print(twice(7), thrice(7))
"""
WARNING = "compiled kernels cannot be kept"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Two kernels in a folder of their own."""
    path = tmp_path / "code" / "kernels.py"
    path.parent.mkdir()
    path.write_text(KERNEL)
    return path


def _run(program: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in a space of mounts of its own, after a command that changes them."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    command = f"{before} exec {sys.executable} {program}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", command],
        env=known | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "14 21\n", done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    return done


def _told_once(said: str, why: str) -> None:
    lines = [line for line in said.splitlines() if WARNING in line]
    assert len(lines) == 1, said
    assert why in lines[0]
    assert "NUMBA_CACHE_DIR" in lines[0]


def test_where_nothing_can_be_written_kernels_are_compiled_at_each_start_and_it_is_told_once(
    program: Path,
) -> None:
    code = program.parent
    read_only = f"mount --bind {code} {code}; mount -o remount,bind,ro {code};"
    done = _run(program, read_only, HOME="/proc/nobody")
    _told_once(done.stderr, "no locator available")


def test_a_cache_that_is_named_and_cannot_be_made_is_told_once_and_no_other_is_used(
    program: Path,
) -> None:
    done = _run(program, NUMBA_CACHE_DIR="/proc/nope")
    _told_once(done.stderr, "No such file or directory")
    assert list(program.parent.rglob("*.nb?")) == []


@pytest.mark.parametrize("limit", ["size=4k", "nr_inodes=3"], ids=["full", "no inodes"])
def test_a_full_cache_is_told_once_and_nothing_fails(
    limit: str, program: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    done = _run(
        program, f"mount -t tmpfs -o {limit} stemd-test {cache};", NUMBA_CACHE_DIR=str(cache)
    )
    _told_once(done.stderr, "No space left on device")


def test_files_that_a_power_cut_has_left_cut_off_are_made_again(
    program: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    _run(program, NUMBA_CACHE_DIR=cache)
    (index,) = Path(cache).rglob("kernels.twice*.nbi")
    (code,) = Path(cache).rglob("kernels.thrice*.nbc")
    finished = sorted(Path(cache).rglob("*.finished"))
    assert len(finished) == 2
    for file, left in ((index, 0), (code, 20), *((each, 200) for each in finished)):
        os.truncate(file, left)
    for _ in range(2):  # the first one reads numba's files from where it has to
        assert _run(program, NUMBA_CACHE_DIR=cache).stderr == ""
    assert index.stat().st_size > 0
    assert code.stat().st_size > 20
    assert all(each.stat().st_size > 200 for each in finished)


def test_a_kernel_whose_file_is_gone_is_compiled_and_it_is_told_once(program: Path) -> None:
    """As by an update that ends while a command is at work."""
    text = KERNEL.replace("print(", "__import__('os').remove(__file__)\nprint(")
    program.write_text(text)
    _told_once(_run(program).stderr, "no locator available")
