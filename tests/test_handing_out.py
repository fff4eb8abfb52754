"""A worker that dies costs one try of one test, which is named at once; a third one only waits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CONFTEST = """
from tests import handing_out

def pytest_configure(config):
    handing_out.register(config)
"""
COMPUTES = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(6))
def test_computes(number):
    if number == 3 or (number == 1 and not Path("tried").exists()):
        Path("tried").touch()
        os.kill(os.getpid(), 9)
    if number == 5 and not Path("again").exists():
        Path("again").touch()
        pytest.fail("for once")
"""
WAITS = """
import time
import pytest

@pytest.mark.parametrize("number", range(4))
def test_waits(number):
    time.sleep(0.1)
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --dist loadfile -v --reruns 1\n")
    plain = ["-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *options],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )


def test_a_worker_that_dies_costs_one_try_of_one_test(tmp_path: Path) -> None:
    (tmp_path / "test_computes.py").write_text(COMPUTES)
    (tmp_path / "test_waits.py").write_text(WAITS)
    (tmp_path / "test_alone.py").write_text("def test_alone(): pass")
    ran = run(tmp_path, "-n", "2")
    assert "1 failed, 10 passed, 3 rerun" in ran.stdout, ran.stdout + ran.stderr
    workers = re.findall(r"\[(gw\d)\] .*PASSED test_waits.py", ran.stdout)
    assert len(workers) == 4
    assert len(set(workers)) == 1, "a file goes to one worker"
    for number in (1, 3):
        line = f"A WORKER DIED in test_computes.py::test_computes[{number}], which is tried again"
        assert line in ran.stdout
    assert "A WORKER DIED in test_computes.py::test_computes[3]\n" in ran.stdout
    assert (
        "FAILED test_computes.py::test_computes[5], which is tried again: Failed: for once\n"
        in ran.stdout
    )
    assert ran.stdout.count(": exit status -9, ") == 3
    assert ran.returncode == 1


def test_a_third_worker_takes_files_that_wait_and_ends(tmp_path: Path) -> None:
    for number in range(4):
        marked = f"{WAITS}\npytestmark = pytest.mark.waits\n"
        (tmp_path / f"test_a{number}.py").write_text(marked)
        (tmp_path / f"test_b{number}.py").write_text(WAITS)
    ran = run(tmp_path, "-n", "3")
    assert "32 passed" in ran.stdout, ran.stdout + ran.stderr
    ran_in = dict.fromkeys(re.findall(r"\[(gw\d)\] .*PASSED (test_[ab])\d", ran.stdout))
    assert ("gw1", "test_a") in ran_in
    assert ("gw1", "test_b") not in ran_in
    assert ("gw2", "test_a") not in ran_in, "they meet where no file waits"
