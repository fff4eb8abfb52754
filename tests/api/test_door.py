"""The door itself: quick to open, documented, and quiet or not as somebody wishes."""

from __future__ import annotations

import inspect
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stemd
from stemd import api
from stemd.api import progress

ROOT = Path(__file__).parents[2]


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options
    )


def test_it_opens_without_what_is_slow() -> None:
    code = (
        "import stemd; before = stemd.api\n"
        "from stemd import api\n"
        "import sys; assert before is api\n"
        "print([m for m in ('numba', 'onnxruntime', 'aiohttp', 'aiomqtt', 'rich', 'dask', 'h5py',"
        " 'stemd.scan', 'stemd.daemon', 'asyncio') if m in sys.modules])"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_stemd_has_nothing_else_by_accident() -> None:
    assert stemd.api is api
    with pytest.raises(AttributeError, match="no attribute 'apy'"):
        _ = stemd.apy  # type: ignore[attr-defined]


def test_every_public_name_is_documented() -> None:
    reference = (ROOT / "docs" / "reference" / "api.md").read_text()
    for name in api.__all__:
        thing = getattr(api, name)
        assert inspect.getdoc(thing), name
        assert re.search(rf"\b{name}\b", reference), name
        if inspect.isfunction(thing):
            for argument in inspect.signature(thing).parameters:
                assert argument in reference, f"{name}: {argument}"


def test_a_short_call_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    api.com(np.ones((4, 4, 8, 8), np.uint8))
    assert capfd.readouterr() == ("", "")


def test_logs_of_a_failed_engine_do_not_go_to_stdout() -> None:
    code = (
        "import numpy as np, structlog\n"
        "from stemd import api\n"
        "api.com(np.ones((4, 4, 8, 8), np.uint8))\n"
        "structlog.get_logger('stemd').info('quiet'); structlog.get_logger('x').error('loud')"
    )
    done = run(code)
    assert done.stdout == ""
    assert "quiet" not in done.stderr
    assert "loud" in done.stderr


def test_a_function_is_told_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    data = np.ones((30, 30, 8, 8), np.uint8)
    api.com(data, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (900, 900)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_terminal_shows_a_bar_and_leaves_no_trace() -> None:
    code = (
        "import time\n"
        "from stemd.api.progress import showing\n"
        "with showing(True, 'scan.mib') as update:\n"
        "    for done in range(5):\n"
        "        update(done, 4); time.sleep(0.15)\n"
    )
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(master)
    assert process.returncode == 0
    assert b"scan.mib" in shown
    assert b"\x1b[2K" in shown  # the line is cleared at the end


def test_a_bar_appears_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[str] = []

    class Bar:
        def __init__(self, title: str) -> None:
            bars.append(title)

        def update(self, done: int, total: int) -> None:
            bars.append(f"{done}/{total}")

        def close(self) -> None:
            bars.append("closed")

    monkeypatch.setattr(progress, "_TerminalBar", Bar)
    with progress.showing(None, "a") as update:
        update(1, 2)
    assert bars == []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.showing(None, "b") as update:
        update(1, 2)  # too early: what is short needs no bar
    assert bars == []
    monkeypatch.setattr(progress, "LONG_S", 0.0)

    def interrupted() -> None:
        with progress.showing(None, "c") as update:
            update(1, 2)
            update(2, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert bars == ["c", "1/2", "2/2", "closed"]
    bars.clear()
    with progress.showing(False, "d") as update:
        update(1, 2)
    assert bars == []


def test_ctrl_c_in_a_terminal_ends_the_call_within_a_moment(tmp_path: Path) -> None:
    code = (
        "import numpy as np, os, signal, threading, time\n"
        "from stemd import api\n"
        "data = np.ones((16, 16, 64, 64), np.uint8)\n"
        "api.com(data)\n"  # kernels are compiled
        "class Slow:\n"
        "    shape, dtype, ndim = (400, 400, 64, 64), np.dtype('u1'), 4\n"
        "    def __getitem__(self, index):\n"
        "        time.sleep(0.02)\n"
        "        return np.ones(np.broadcast_to(np.uint8(0), self.shape)[index].shape, np.uint8)\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "began = time.monotonic()\n"
        "try:\n"
        "    api.com(Slow(), jobs=2)\n"
        "except KeyboardInterrupt:\n"
        "    found = [t for t in threading.enumerate() if t.name.startswith('process-')]\n"
        "    for thread in found: thread.join(2)\n"  # one that was just being started
        "    names = [thread.name for thread in found if thread.is_alive()]\n"
        "    print('interrupted', names, time.monotonic() - began < 5)\n"
    )
    done = run(code)
    assert done.stdout.strip() == "interrupted [] True", done.stderr
