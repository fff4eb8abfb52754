"""Whether the disk would take a record now: found out by writing as a record is written."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from stemd.errors import SinkError
from stemd.storage.files import PART, disk_error, write_all
from stemd.storage.store import Store

TRIAL_BYTES = 1 << 20
"""Enough to meet a full disk and a quota, and far less than any record."""


def trial(store: Store) -> SinkError | None:
    """Write, sync, read and delete a small file; what keeps that from going well, or None.

    Blocks as long as the disk does. That it goes well says that the folder takes files now, not
    that it will take the next one.
    """
    path = store.data_dir / f".stemd-trial-{os.getpid()}{PART}"
    try:
        store.check()
        free, needed = shutil.disk_usage(store.data_dir).free, store.reserve_bytes + TRIAL_BYTES
        if free < needed:
            return SinkError(
                f"{store.data_dir}: only {free // 2**20} MiB are free: nothing is recorded",
                f"free space; {store.reserve_bytes // 2**20} MiB are kept for images",
            )
        return _write(path)
    except SinkError as error:
        return error
    except OSError as error:
        return disk_error(error, "write a trial file", path)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _write(path: Path) -> SinkError | None:
    """Raises OSError."""
    written = os.urandom(TRIAL_BYTES)  # what compresses well says nothing of a full disk
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, written)
        os.fsync(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb", closefd=False) as file:
            read = file.read()
    finally:
        os.close(fd)
    if read != written:
        text = f"{path.parent}: a trial file is not read as it was written"
        return SinkError(text, "the disk is damaged: see dmesg, and write elsewhere")
    return None
