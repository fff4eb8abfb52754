"""`pytest -n 2`: a worker that dies costs one test, which is named, and keeps nobody waiting."""

from __future__ import annotations

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
TESTS = """
import os
import pytest

@pytest.mark.xdist_group("computes")
@pytest.mark.parametrize("number", range(6))
def test_computes(number):
    if number == 3:
        os.kill(os.getpid(), 9)

@pytest.mark.xdist_group("waits")
@pytest.mark.parametrize("number", range(4))
def test_waits(number):
    pass

@pytest.mark.xdist_group("alone")
def test_alone():
    pass
"""


@pytest.mark.waits
def test_a_worker_that_dies_costs_one_test_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --dist loadgroup -n 2\n")
    (tmp_path / "test_some.py").write_text(TESTS)
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
    assert "1 failed, 10 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "A WORKER DIED in test_some.py::test_computes[3]" in ran.stdout
    assert ": exit status -9, " in ran.stdout
    assert ran.returncode == 1
