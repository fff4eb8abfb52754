"""`pytest -n 2`: a worker that dies costs one try of one test, which is named at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CONFTEST = """
from tests import two_workers

def pytest_configure(config):
    two_workers.register(config)
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
"""
WAITS = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_waits(number):
    pass
"""


@pytest.mark.waits
def test_a_worker_that_dies_costs_one_try_of_one_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --dist loadfile -v -n 2 --reruns 1\n")
    (tmp_path / "test_computes.py").write_text(COMPUTES)
    (tmp_path / "test_waits.py").write_text(WAITS)
    (tmp_path / "test_alone.py").write_text("def test_alone(): pass")
    plain = ["-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *plain],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )
    assert "1 failed, 10 passed, 2 rerun" in ran.stdout, ran.stdout + ran.stderr
    workers = re.findall(r"\[(gw\d)\] .*PASSED test_waits.py", ran.stdout)
    assert len(workers) == 4
    assert len(set(workers)) == 1, "a file goes to one worker"
    for number in (1, 3):
        line = f"A WORKER DIED in test_computes.py::test_computes[{number}], which is tried again"
        assert line in ran.stdout
    assert "A WORKER DIED in test_computes.py::test_computes[3]\n" in ran.stdout
    assert ran.stdout.count(": exit status -9, ") == 3
    assert ran.returncode == 1
