"""What `stemd bench` starts does not outlive it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ..conftest import wait_until

STARTER = """
import subprocess, sys
from stemd.cli.bench.held import held
child = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'
held([sys.executable, '-c', child]).wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_the_bench_starts_ends_with_it_whatever_ends_it(number: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    assert psutil.pid_exists(child)
    starter.send_signal(number)
    starter.communicate()  # the pipe is the child's, too: this ends when that has ended
    wait_until(lambda: not psutil.pid_exists(child), "the child has ended", 20.0)


def test_who_is_held_ends_when_it_is_told_to_and_tells_how() -> None:
    script = (
        "import subprocess, sys; from stemd.cli.bench.held import held;"
        "one = held([sys.executable, '-c', 'raise SystemExit(7)']); print(one.wait());"
        "other = held(['sleep', '600']); other.terminate(); print(other.wait(20))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
        check=True,
    )
    first, _ = done.stdout.split()
    assert first == "7"
