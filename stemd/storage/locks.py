"""Lock files that a dead process cannot leave locked."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from stemd.errors import SinkError
from stemd.portable import OPEN_FLAGS, lock_file
from stemd.storage.files import disk_error

_LOCKS = ".locks"
STOPPED = b"stopped"
"""In the lock file of a daemon that was told to stop: what it left undone is no death's work."""


_MOMENT_S = 0.2
"""For far less `holder_is_dead` has a lock, while another daemon looks after cut off scans."""


class TakenError(SinkError):
    """Another daemon of the same instrument has the data folder."""


def lock_path(data_dir: Path, name: str) -> Path:
    """Where the lock of this name lies."""
    return data_dir / _LOCKS / f"{name}.lock"


def instrument_lock(data_dir: Path, instrument: str) -> Path:
    """Where the lock of the daemon of an instrument lies."""
    return lock_path(data_dir, f"instrument-{instrument}")


def take_lock(path: Path) -> int:
    """Lock a file, made on first use; the descriptor holds the lock. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o644)
    try:
        lock_file(fd, wait=False)
    except OSError:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock, after waiting for whoever has it. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o644)
    try:
        lock_file(fd, wait=True)
        yield
    finally:
        os.close(fd)


def holder_is_dead(path: Path) -> bool:
    """True when nobody holds the lock any more, or its file is gone."""
    try:
        fd = os.open(path, os.O_RDWR | OPEN_FLAGS)
    except OSError:
        return not path.exists()
    try:
        lock_file(fd, wait=False)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def was_stopped(path: Path) -> bool:
    """Whether the holder of a lock ended as it was told to: a killed one leaves an empty file."""
    try:
        return path.read_bytes() == STOPPED
    except FileNotFoundError:
        return True
    except OSError:
        return False


def take_instrument(data_dir: Path, instrument: str) -> int:
    """Be the only daemon of an instrument in a data folder; the descriptor holds the lock.

    Raises TakenError that names the process which has it, SinkError for any other reason.
    """
    path = instrument_lock(data_dir, instrument)
    try:
        fd = _take_after_a_moment(path)
    except BlockingIOError as error:
        with contextlib.suppress(OSError):
            holder = path.read_text(encoding="ascii", errors="replace").strip()
            raise TakenError(
                f"another stemd (process {holder or 'unknown'}) runs the instrument "
                f"{instrument!r} with {data_dir}",
                "stop it first, or give this one a daemon.instrument and a data_dir of its own",
            ) from error
        raise TakenError(f"{path}: is locked", "stop the other stemd first") from error
    except OSError as error:
        raise disk_error(error, "lock the data folder", path) from error
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
    return fd


def _take_after_a_moment(path: Path) -> int:
    """Lock a file; who has it is asked twice. Raises OSError."""
    try:
        return take_lock(path)
    except BlockingIOError:
        time.sleep(_MOMENT_S)
        return take_lock(path)
