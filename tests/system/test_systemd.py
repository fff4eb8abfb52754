"""The units, looked at by systemd and run by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from stemd.cli.install_service import UNITS
from stemd.cli.main import main
from tests.conftest import require

SOURCE = Path(__file__).parents[2]
HERE = Path(__file__).parent
EXPOSURE = 2.0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root with the units in it, and a program that they can start."""
    program = tmp_path / "stemd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    root = tmp_path / "root"
    assert main(["install-service", "--root", str(root), "--executable", str(program)]) == 0
    return root


def test_install_service_writes_every_unit_with_the_program_that_was_named(
    image: Path, tmp_path: Path
) -> None:
    for place in UNITS.values():
        assert (image / place).is_file()
    for unit in ("stemd.service", "stemd@.service"):
        text = (image / "etc/systemd/system" / unit).read_text()
        assert f"ExecStart={tmp_path}/stemd run /etc/stemd/" in text
        assert "/opt/stemd/" not in text


@pytest.mark.parametrize("place", ["/root/venv/bin/stemd", "/home/me/stemd", "/opt/a b/stemd"])
def test_install_service_refuses_a_program_that_the_service_could_not_start(
    place: str, tmp_path: Path
) -> None:
    assert main(["install-service", "--root", str(tmp_path), "--executable", place]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unit", ["stemd.service", "stemd@.service"])
def test_systemd_finds_nothing_wrong_with_the_units(image: Path, unit: str) -> None:
    require("systemd-analyze")
    path = image / "etc/systemd/system" / unit
    result = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True
    )
    # it exits 0 on a key it does not know, so that only silence is good; units of the machine
    # that it looks at on the way are not ours
    ours = [line for line in result.stderr.splitlines() if "stemd" in line]
    assert ours == []
    assert result.returncode == 0


@pytest.mark.parametrize("unit", ["stemd.service", "stemd@.service"])
def test_the_exposure_score_is_low(image: Path, unit: str) -> None:
    require("systemd-analyze")
    path = image / "etc/systemd/system" / unit
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE * 10:.0f}"]
    result = subprocess.run([*command, str(path)], capture_output=True, text=True)
    assert "Overall exposure level" in result.stdout, result.stderr
    assert result.returncode == 0, result.stdout.splitlines()[-1]


@pytest.mark.timeout(300)
def test_a_booted_systemd_starts_watches_reloads_restarts_and_stops_the_daemon() -> None:
    if os.geteuid() != 0:
        pytest.skip("booting a container needs root")
    require("systemd-nspawn")
    interpreter = _interpreter()
    if interpreter is None:
        pytest.skip("every Python of this version lies in a home, where a service may not look")
    if not _may_mount():
        pytest.skip("this machine does not let root mount an overlay")
    result = subprocess.run(
        ["sh", str(HERE / "boot.sh"), interpreter, sysconfig.get_path("purelib"), str(SOURCE)],
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert "selftest: passed" in result.stdout, result.stdout[-6000:] + result.stderr[-2000:]


def _interpreter() -> str | None:
    """A Python of this version outside of home directories."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(sys.executable).resolve(), Path(f"/usr/bin/python{version}")):
        if path.is_file() and path.parts[1] not in ("root", "home"):
            return str(path)
    return None


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    made = subprocess.run([unshare, "-m", "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True)
    return made.returncode == 0
