"""A daemon's many threads share two heaps of the C library, in which no large arrays are."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from stemd.daemon.arenas import few_arenas
if sys.argv[1] == "few":
    few_arenas()
together = threading.Barrier(8)
def work():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    together.wait()
    kept = [libc.malloc(10_000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fflush(ctypes.c_void_p(out))
"""


def heaps(how: str) -> int:
    """How many heaps a process with eight threads that allocate has in the end."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return ran.stdout.count("<heap nr=")


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
LARGE = """
import sys
import numpy as np
from pathlib import Path
from stemd.daemon.arenas import LARGE_BYTES, few_arenas
if sys.argv[1] == "few":
    few_arenas()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
del_me = np.ones(20 << 20, np.uint8)  # what the C library learns from
del del_me
before, freed, kept = resident(), [], []
for _ in range(20):
    freed.append(np.ones(4 << 20, np.uint8))
    kept.append(np.ones(LARGE_BYTES // 2, np.uint8))  # lies behind it where they share a heap
freed.clear()
print(resident() - before)
"""


def test_threads_share_two_heaps() -> None:
    assert heaps("many") > 2, "else there is nothing to see"
    assert heaps("few") == 2


def test_freed_arrays_are_given_back_whatever_lies_behind_them() -> None:
    def left(how: str) -> int:
        ran = subprocess.run(
            [sys.executable, "-c", LARGE, how], capture_output=True, text=True, check=True
        )
        return int(ran.stdout)

    assert left("many") > 40 << 20, "else there is nothing to see"
    assert left("few") < 10 << 20
