"""Commands that are cut off: `process ... && rm originals` must never go on to the `rm`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ..conftest import wait_until


def _start(*arguments: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stemd", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,  # type: ignore[call-overload]
    )


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that do not outlive the test."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _recordings(folder: Path) -> list[str]:
    """One that is done at once and two that take long, the first of them much longer."""
    np.save(folder / "small.npy", np.ones((4, 5, 8, 8), np.uint16))
    big = np.lib.format.open_memmap(
        folder / "big.npy", "w+", dtype=np.uint16, shape=(1000, 1000, 64, 64)
    )
    del big  # 8 GB of holes
    np.save(folder / "last.npy", np.ones((4, 5, 8, 8), np.uint16))
    return [str(folder / f"{name}.npy") for name in ("small", "big", "last")]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_process_that_is_cut_off_names_the_files_that_are_not_done(
    number: signal.Signals, code: int, tmp_path: Path, ended: list[subprocess.Popen[str]]
) -> None:
    files = _recordings(tmp_path)
    out = tmp_path / "out"
    process = _start("process", *files, "--out", str(out), "--engine", "sum", "--jobs", "1")
    ended.append(process)
    wait_until((out / "small" / "scan.json").exists, "the first file is done", 60.0)
    time.sleep(0.3)
    os.killpg(process.pid, number)
    said, told = process.communicate(timeout=20.0)
    assert process.returncode == code
    assert "small.npy: 4x5 positions" in said
    assert "2 of 3 not processed" in told
    assert f"not processed: {files[1]}\n" in told
    assert f"not processed: {files[2]}\n" in told
    assert f"not processed: {files[0]}\n" not in told
    assert "Traceback" not in told
    assert not (out / "last").exists()


def test_process_whose_output_nobody_reads_any_more_has_not_succeeded(
    tmp_path: Path, ended: list[subprocess.Popen[str]]
) -> None:
    files = []
    for n in range(4):
        np.save(tmp_path / f"{n}.npy", np.ones((4, 5, 8, 8), np.uint16))
        files.append(str(tmp_path / f"{n}.npy"))
    process = _start(
        "process", *files, "--out", str(tmp_path / "o"), env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    ended.append(process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    assert process.wait(60.0) == 141
    assert "not processed: " in told
    assert "Traceback" not in told
    assert "Exception" not in told


def test_a_listing_that_cannot_be_written_has_not_succeeded(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "stemd", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert found.returncode == 1
    assert "stemd schema: its output cannot be written: No space left" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_every_other_command_that_is_cut_off_says_so(
    number: signal.Signals, code: int, ended: list[subprocess.Popen[str]]
) -> None:
    process = _start("bench", "--only", "memory/*", "--only", "moments/*", "--seconds", "1")
    ended.append(process)
    assert process.stdout is not None
    assert process.stdout.readline()  # the first figure is here, the others are not
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=20.0)
    assert process.returncode == code
    assert "not measured" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_commands_that_run_until_they_are_stopped_end_well(
    number: signal.Signals, ended: list[subprocess.Popen[str]]
) -> None:
    process = _start("virtual", "merlin", "--scan", "8x8", "--port", "0", "--json")
    ended.append(process)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "ready" in first, process.communicate(timeout=20.0)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=20.0)
    assert process.returncode == 0, told
    assert "Traceback" not in told


def test_a_name_that_is_no_utf8_is_processed_and_told(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"f\xfcr.npy")
    np.save(path, np.ones((4, 5, 8, 8), np.uint16))
    found = subprocess.run(
        [sys.executable, "-m", "stemd", "process", str(path), "--out", str(tmp_path / "o")],
        capture_output=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert found.returncode == 0, found.stderr.decode()
    assert rb"f\udcfcr.npy: 4x5 positions" in found.stdout


def _full(fd: int, data: bytes) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["process", "@/a.npy", "--out", "@/o"], "--out"),
        (["install-service", "--root", "@/r", "--executable", "/opt/stemd/bin/stemd"], "--root"),
    ],
    ids=["process", "install-service"],
)
def test_a_full_disk_is_told_in_words_of_the_command(
    arguments: list[str],
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stemd.cli.main import main
    from stemd.storage import files

    np.save(tmp_path / "a.npy", np.ones((4, 5, 8, 8), np.uint16))
    monkeypatch.setattr(files, "write_all", _full)
    with contextlib.suppress(SystemExit):
        assert main([text.replace("@", str(tmp_path)) for text in arguments]) == 1
    told = capsys.readouterr().err
    assert "no space left" in told
    assert option in told
    assert "daemon.data_dir" not in told


def test_a_bench_for_whose_file_there_is_no_room_names_the_folder_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stemd.cli.bench.limits import big_file
    from stemd.errors import StemdError

    class Context:
        file_bytes = 100_000

        def once(self, name: str, make: Callable[[], Path]) -> Path:
            return make()

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(os, "fsync", lambda fd: _full(fd, b""))
    with pytest.raises(StemdError, match="cannot be written: No space left") as error:
        big_file(Context(), 500, 2, b"MQ1,000001," + bytes(373))  # type: ignore[arg-type]
    assert "TMPDIR" in error.value.remedy
    assert not list(tmp_path.iterdir()), "nothing is left behind"


SIGTERM_WHILE_IT_IS_MADE = """
import os, signal, sys, time
from stemd.cli import main as commands

class Slow:
    EXAMPLE = ""

    @staticmethod
    def configure(parser):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30.0)

commands._module = lambda name: Slow
sys.exit(commands.main(["virtual"]))
"""


def test_sigterm_before_an_endless_command_listens_ends_it_well() -> None:
    ended = subprocess.run([sys.executable, "-c", SIGTERM_WHILE_IT_IS_MADE], timeout=25.0)
    assert ended.returncode == 0
