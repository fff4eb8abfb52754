"""What other systems lack, taken away here: what works there, and what says in a line that not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WITHOUT = """
import asyncio, os, sys
import aiohttp, aiomqtt, h5py, numba, numpy, psutil, tifffile  # have their own ways there
for name in ("sched_getaffinity", "sched_setscheduler", "posix_fadvise", "setpriority", "nice",
             "pread", "preadv", "O_CLOEXEC", "O_DIRECTORY", "fchmod", "fchown"):
    delattr(os, name)
for name in ("fcntl", "resource", "pwd"):
    sys.modules[name] = None
from stemd.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""Runs `stemd` where Python is as it is on Windows, but for the names of paths."""


def stemd_without(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_recordings_are_processed_and_listed_without_what_only_linux_has(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.ones((4, 5, 8, 8), np.uint16))
    out = tmp_path / "out"
    done = stemd_without("process", str(tmp_path / "scan.npy"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert (out / "scan" / "ricom.tif").is_file()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("plugins",), ("check", "config/merlin.toml"), ("scans", "--data-dir", "nowhere")]
)
def test_commands_of_every_system_need_nothing_that_only_linux_has(
    arguments: tuple[str, ...],
) -> None:
    done = stemd_without(*arguments)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if arguments[0] == "scans" else 0), done.stderr


@pytest.mark.parametrize(
    "arguments", [["run", "c.toml"], ["demo"], ["install-service"]], ids=lambda words: words[0]
)
def test_what_windows_cannot_do_is_said_in_a_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stemd import portable
    from stemd.cli.main import main

    class Windows:
        name = "nt"

    monkeypatch.setattr(portable, "os", Windows)
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert f"stemd {arguments[0]} does not work on Windows" in told
    assert "WSL 2" in told
