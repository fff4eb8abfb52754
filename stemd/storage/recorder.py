"""The record: the camera's bytes as they came, written as fast as they come.

Three threads share the work. The pipeline's thread hands blocks in; one thread writes them in
whole and asks the kernel to start writing back, so that dirty memory does not pile up; one, at
the lowest priority, follows with the checksum, reading from the page cache what was just
written. One core hashes at 1.3 GB/s (measured), so a checksum in line would hold a fast camera
back; behind, it only costs what is idle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from stemd.acquisition import Acquisition
from stemd.blocks import Block, ImageBlock
from stemd.errors import SinkError, StemdError
from stemd.portable import OPEN_FLAGS
from stemd.storage.files import (
    PART,
    FileRecord,
    disk_error,
    fsync_folder,
    plain_file_name,
    write_all,
    write_atomic,
)
from stemd.storage.write_queue import StopFlag, WriteQueue

QUEUE_BYTES = 24 * 1024 * 1024
"""Blocks that may wait: well below the camera's block pool, so that others find free blocks."""
WRITE_BACK_BYTES = 16 * 1024 * 1024
HASH_BYTES = 4 * 1024 * 1024
RESERVE_BYTES = 64 * 1024 * 1024
"""Free space at which recording stops, so that images and the catalogue still find room."""
_HASH_NICENESS = 5
"""Gives way to the data path, yet ends in bounded time when every core is busy."""


class RawRecorder:
    """Records one scan after the other. `offer` is called by one thread, the reader's fan-out.

    Policy "required": `offer` waits when the disk is behind, and so does the camera. On a disk
    error the recording stops, what was written in whole blocks is kept, `error` says why and
    the blocks that follow are refused at once: the scan's images go on.
    """

    def __init__(
        self,
        on_error: Callable[[StemdError], None] | None = None,
        *,
        queue_bytes: int = QUEUE_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self.error: StemdError | None = None
        self._on_error = on_error
        self._queue_bytes = queue_bytes
        self._reserve_bytes = reserve_bytes
        # looked at often enough that not even a small reserve is used up between two looks
        self._step_bytes = max(1 << 20, min(WRITE_BACK_BYTES, reserve_bytes // 4))
        self._queue = WriteQueue(queue_bytes)
        self._queue.close()
        self._fd = -1
        self._running = False
        self._threads: list[threading.Thread] = []
        self._digest = hashlib.sha256()
        self._hashed_bytes = 0
        self._path = self._part = Path()
        self._sidecars: list[FileRecord] = []
        self._opened = threading.Event()

    @property
    def recording(self) -> bool:
        """True between `start` and `finish` while nothing has gone wrong."""
        return self._running and self.error is None

    @property
    def bytes_written(self) -> int:
        """Bytes of the record that the disk has taken."""
        return self._queue.written_bytes

    @property
    def blocks_refused(self) -> int:
        """Blocks that are not in the record."""
        return self._queue.refused

    @property
    def waits(self) -> int:
        """How often the camera had to wait for the disk."""
        return self._queue.waits

    @property
    def queue_depth(self) -> int:
        """Blocks waiting to be written."""
        return len(self._queue)

    @property
    def stalled_s(self) -> float:
        """Seconds for which blocks have been waiting and none was written."""
        return self._queue.stalled_s

    def start(
        self, acquisition: Acquisition, folder: Path, ready: Callable[[], bool] | None = None
    ) -> None:
        """Begin a record; returns at once, the disk is waited for by the record's own thread.

        It first waits for `ready`, which says whether the folder is there, then opens
        `<raw name>.part` and writes the sidecars. What cannot be done stands in `error`.
        """
        if self._running:
            raise RuntimeError("finish the running record before starting another")
        self.error = None
        self._queue = WriteQueue(self._queue_bytes)
        self._hashed_bytes = 0
        self._digest = hashlib.sha256()
        self._running = True
        self._sidecars = []
        self._opened = threading.Event()
        self._path = self._part = Path()
        self._threads = [
            threading.Thread(
                target=self._record,
                args=(acquisition, folder, ready),
                name="record-write",
                daemon=True,
            ),
            threading.Thread(
                target=self._hash, args=(acquisition, folder), name="record-hash", daemon=True
            ),
        ]
        for thread in self._threads:
            thread.start()

    def _record(
        self, acquisition: Acquisition, folder: Path, ready: Callable[[], bool] | None
    ) -> None:
        try:
            if ready is None or ready():
                self._open(acquisition, folder)
            else:
                text = f"{folder}: the folder could not be made: nothing is recorded"
                self._give_up(SinkError(text, "see the error before"), told=False)
            self._opened.set()
            self._write_loop()
        except BaseException as error:  # whatever it is: nobody else would hear of it
            if self._fd >= 0:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.bytes_written)
            self._fail(_thread_ended("writes", self._part, error))
        finally:
            self._opened.set()
            self._queue.drop()

    def _open(self, acquisition: Acquisition, folder: Path) -> None:
        try:
            self._path = folder / plain_file_name(acquisition.raw_name)
            self._part = self._path.with_name(self._path.name + PART)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | OPEN_FLAGS
            self._fd = os.open(self._part, flags, 0o644)
            self._check_space()
        except OSError as error:
            self._give_up(disk_error(error, "open the record", self._part))
        except SinkError as error:
            self._give_up(error)

    def _give_up(self, error: SinkError, *, told: bool = True) -> None:
        """Nothing was recorded and nothing will be."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                self._part.unlink()
        self._fail(error, told=told)

    def offer(self, block: Block | ImageBlock, stop: StopFlag) -> bool:
        """Hand a block over; it is retained until written. False when it will not be written."""
        return self._queue.put(block, stop)

    def finish(self) -> list[FileRecord]:
        """Write what waits, flush, rename. The record first, then its sidecars; [] if none.

        May take as long as the disk and the checksum need: call it from a worker thread. A
        record that a disk error cut short has `complete` False; one that could not be given its
        name is listed as `.part`.
        """
        self._queue.close()
        for thread in self._threads:
            thread.join()
        self._threads, self._running = [], False
        if self._fd < 0:
            return []
        if self.bytes_written == 0 and self.error is not None:
            self._give_up(SinkError("", ""))
            return self._sidecars
        self._try("finish the record", lambda: os.fsync(self._fd))
        fd, self._fd = self._fd, -1
        self._try("finish the record", lambda: os.close(fd))  # where some network disks say it
        self._try("give the record its name", lambda: self._part.rename(self._path))
        self._try("keep the record's name", lambda: fsync_folder(self._path.parent))
        complete = self.error is None and self.blocks_refused == 0
        # after a fault what reached the disk is unknown: the checksum of what was sent tells it
        hashed = self._hashed_bytes == self.bytes_written
        digest = self._digest.hexdigest() if hashed else ""
        name = self._path.name if self._path.exists() else self._part.name
        return [FileRecord(name, self.bytes_written, digest, complete), *self._sidecars]

    def _try(self, what: str, step: Callable[[], object]) -> None:
        """One step of the end; a failure is told and keeps no other step from being tried."""
        try:
            step()
        except OSError as error:
            self._fail(disk_error(error, what, self._path))

    def _hash(self, acquisition: Acquisition, folder: Path) -> None:
        """Write the sidecars, which wait for the disk, then follow with the checksum."""
        try:
            self._opened.wait()
            if self._fd >= 0:
                self._write_sidecars(acquisition, folder)
            self._hash_loop()
        except BaseException as error:  # as above
            self._fail(_thread_ended("checks", self._part, error))

    def _write_sidecars(self, acquisition: Acquisition, folder: Path) -> None:
        try:
            for name, content in acquisition.sidecars:
                record = write_atomic(folder / plain_file_name(name), [content])
                self._sidecars.append(record)
        except SinkError as error:
            self._fail(error)

    def _write_loop(self) -> None:
        since_write_back = 0
        while self.error is None and (block := self._queue.next()) is not None:
            try:
                write_all(self._fd, block.wire.data.cast("B"))
            except OSError as error:
                # a torn frame at the end would make the whole file unreadable to some readers
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.bytes_written)
                self._fail(disk_error(error, "write the record", self._part))
            since_write_back += self._queue.done(written=self.error is None)
            if since_write_back >= self._step_bytes:
                self._write_back(self.bytes_written - since_write_back, since_write_back)
                since_write_back = 0

    def _write_back(self, offset: int, length: int) -> None:
        """Ask the kernel to write this range back now, without waiting for it."""
        with contextlib.suppress(OSError, AttributeError):  # macOS has none
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)
        try:
            self._check_space()
        except SinkError as error:
            self._fail(error)

    def _check_space(self) -> None:
        state = os.fstatvfs(self._fd)
        free = state.f_bavail * state.f_frsize
        if free < self._reserve_bytes:
            raise SinkError(
                f"{self._path.parent}: only {free // 2**20} MiB are free: recording has stopped",
                f"free space; {self._reserve_bytes // 2**20} MiB are kept for images",
            )

    def _hash_loop(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _HASH_NICENESS)
        buffer = bytearray(HASH_BYTES)
        view = memoryview(buffer)
        while (length := self._queue.written_after(self._hashed_bytes, HASH_BYTES)) > 0:
            try:
                got = os.preadv(self._fd, [view[:length]], self._hashed_bytes)
            except OSError as error:
                self._fail(disk_error(error, "read the record back", self._part))
                return
            self._digest.update(view[:got])
            self._hashed_bytes += got

    def _fail(self, error: StemdError, *, told: bool = True) -> None:
        first = self.error is None
        self.error = self.error or error
        self._queue.close()
        if first and told and self._on_error is not None:
            self._on_error(error)


def _thread_ended(does: str, path: Path, error: BaseException) -> SinkError:
    text = f"{path}: the thread that {does} the record ended: {type(error).__name__}: {error}"
    return SinkError(text, "the next scan gets a new one; see the daemon's log")
