"""What other systems lack, taken away here: what works there, and what says in a line that not."""

from __future__ import annotations

import socket
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
    "arguments",
    [["run", "c.toml"], ["demo"], ["bench"], ["install-service"]],
    ids=lambda words: words[0],
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


async def test_the_page_and_the_service_need_no_socket_option_that_only_linux_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stemd.config.page import PageSettings
    from stemd.daemon.systemd import notify
    from stemd.events import Hub
    from stemd.page.server import Page

    for name in ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT", "TCP_INFO", "SOCK_CLOEXEC"):  # as on macOS
        monkeypatch.delattr(socket, name)
    page = Page(
        PageSettings(listen="127.0.0.1:0"), Hub(), "lab", tmp_path, lambda: (True, {}), bytes
    )
    await page.start()
    await page.stop()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        assert notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_a_process_of_ours_runs_the_files_of_this_one_whatever_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where stemd is started, installed, in the folder of its own source."""
    from stemd.portable import module_command

    (tmp_path / "stemd").mkdir()
    (tmp_path / "stemd" / "__init__.py").write_text("raise SystemExit('another stemd')")
    monkeypatch.chdir(tmp_path)
    command = module_command("stemd", "--version")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "-P" not in module_command("stemd"), "as `python -m stemd` has been started itself"


async def test_the_client_says_which_event_loop_it_needs_on_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio

    from stemd.client import AsyncClient, NotConnectedError

    loop = type(asyncio.get_running_loop())  # as if it were the one of Windows
    monkeypatch.setattr(asyncio, "ProactorEventLoop", loop, raising=False)
    with pytest.raises(NotConnectedError, match="event loop of Windows") as caught:
        async with AsyncClient("mqtt://127.0.0.1:9"):
            pass
    assert "SelectorEventLoop" in caught.value.remedy
