"""Recordings that are no local files: ranges of bytes from any file system that fsspec knows.

Not a camera: a module without a PLUGIN, used by those that open recordings. A range is asked for
again when it breaks, a bounded number of times; nothing reads a whole file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from stemd.adapters.recordings import remote_errors
from stemd.adapters.recordings.address import WEB, RecordingPath, RemoteFile
from stemd.adapters.recordings.file_systems import file_system
from stemd.adapters.recordings.remote_errors import (
    QUIET_S,
    SLOWEST_BYTES_S,
    ForbiddenError,
    broken,
    explained,
    replaced,
)
from stemd.adapters.recordings.remote_stream import RangeStream
from stemd.adapters.recordings.web_ranges import WebRanges
from stemd.errors import CameraError, FormatError, StemdError

_SCATTERED = 16  # small ranges all over a file that are asked for at a time
_TAGS = (
    *("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "modified"),
    *("created", "md5", "md5Hash", "Content-MD5", "Digest", "checksum", "generation", "VersionId"),
)
"""What file systems tell of a file's content or time, besides its size."""
_TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified")

T = TypeVar("T")
Range = tuple[int, int]
"""Bytes first..stop-1"""


class RemoteBytes:
    """The bytes of a remote file, read by any number of threads.

    Raises FormatError when there is no such file or the package for its protocol is missing,
    CameraError when it cannot be read: with the file's name, and the offset where it broke.
    """

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self._closed = threading.Event()
        self._system, self._address = file_system(file)
        # a web server without ranges would send the whole file: fsspec's file object sees to it
        self._web = file.protocol in WEB
        self.info: Mapping[str, Any] = self._trying(0, self._look)
        if self.info.get("type") == "directory":
            raise FormatError(f"{file} is not a file", "name the recording itself")
        size = self.info.get("size")
        if size is None:
            raise CameraError(
                f"{file}: the server does not tell the size", "use one that does, or copy the file"
            )
        self.size = int(size)
        self._ranges = WebRanges(file, self._system, self._address, self.info)

    def _look(self) -> Mapping[str, Any]:
        self._system.invalidate_cache()
        found: Mapping[str, Any] = self._timed("info", 2 * QUIET_S)
        return found

    def _timed(self, what: str, limit_s: float, **more: Any) -> Any:
        """A method of the file system; one that runs on an event loop ends after `limit_s`."""
        from fsspec.asyn import AsyncFileSystem, sync

        if isinstance(self._system, AsyncFileSystem):
            method = getattr(self._system, f"_{what}")
            return sync(self._system.loop, method, self._address, timeout=limit_s, **more)
        return getattr(self._system, what)(self._address, **more)

    @property
    def tags(self) -> dict[str, str]:
        """What else the file system tells the content by; nothing where it tells nothing."""
        return {key: str(self.info[key]) for key in _TAGS if self.info.get(key)}

    @property
    def modified_ns(self) -> int:
        """When it was written (UTC, ns since 1970), 0 where nobody tells."""
        return next((time_ns(self.info[key]) for key in _TIMES if self.info.get(key)), 0)

    def read(self, first: int, stop: int) -> bytes:
        """Bytes first..stop-1, which must be in the file."""

        def attempt() -> bytes:
            data = self._get(first, stop)
            if len(data) != stop - first:
                raise OSError(f"{len(data)} bytes came of {stop - first}")
            return data

        return self._trying(first, attempt) if stop > first else b""

    def _get(self, first: int, stop: int) -> bytes:
        if self._web:
            from fsspec.asyn import sync

            return bytes(sync(self._system.loop, self._ranges.get, first, stop))
        limit_s = QUIET_S + (stop - first) / SLOWEST_BYTES_S
        data = bytes(self._timed("cat_file", limit_s, start=first, end=stop))
        self._compare(self._look())
        return data

    def _compare(self, now: Mapping[str, Any]) -> None:
        """After each range: what the store says of the file must be what it said at first."""
        for key in ("size", *self.tags):
            if str(now.get(key)) != str(self.info[key]):
                raise replaced(self.file, key, str(self.info[key]), str(now.get(key)))

    def _trying(self, offset: int, work: Callable[[], T]) -> T:
        for pause in (*remote_errors.PAUSES_S, None):
            try:
                return work()
            except StemdError:
                raise
            except Exception as raised:  # what file systems raise is as manifold as they are
                error = self._meant(raised)
                final = explained(self.file, offset, error)
                if final is None and pause is not None and not self._closed.wait(pause):
                    continue
                raise final or broken(self.file, offset, error) from error
        raise AssertionError

    def _meant(self, raised: Exception) -> Exception:
        """A web server that cannot be reached is no missing file, as fsspec has it."""
        cause = raised.__cause__
        hidden = isinstance(raised, FileNotFoundError) and isinstance(cause, Exception)
        return cause if self._web and hidden and isinstance(cause, Exception) else raised

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """Small ranges anywhere, many at a time."""
        if len(ranges) <= 1:
            return [self.read(*each) for each in ranges]
        with ThreadPoolExecutor(_SCATTERED) as threads:
            return list(threads.map(lambda each: self.read(*each), ranges))

    def stream(self, first: int, stop: int) -> RangeStream:
        """The bytes from `first` on, read ahead up to `stop`."""
        return RangeStream(self, first, stop)

    def close(self) -> None:
        """Whoever waits to try again gives up."""
        self._closed.set()


def read_beside(path: RecordingPath, suffix: str, limit: int) -> bytes | None:
    """At most `limit` bytes of the small file beside a recording, None where there is none.

    Stores that do not let their content be listed say "forbidden" of what is not there.
    Raises OSError or CameraError when it is there and cannot be read.
    """
    beside = path.with_suffix(suffix)
    if isinstance(beside, Path):
        try:
            with beside.open("rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            return None
    try:
        source = RemoteBytes(beside)
        return source.read(0, min(limit, source.size))
    except (FormatError, ForbiddenError):
        return None


def time_ns(value: Any) -> int:
    """A file system's idea of a time as UTC nanoseconds since 1970; 0 for none of those known."""
    try:
        if isinstance(value, str):
            text = value.replace("Z", "+00:00")
            value = datetime.fromisoformat(text) if text[:1].isdigit() else _web_time(text)
        if isinstance(value, datetime):
            return int(value.timestamp()) * 1_000_000_000 + value.microsecond * 1000
        return int(float(value) * 1e9)
    except (ValueError, TypeError, OverflowError):
        return 0


def _web_time(text: str) -> datetime:
    return parsedate_to_datetime(text)


def pieces(first: int, stop: int, each: int) -> Iterator[Range]:
    """first..stop-1 in consecutive ranges of at most `each`."""
    return ((at, min(at + each, stop)) for at in range(first, stop, each))


def now_ns(source: RemoteBytes) -> int:
    """The time of a recording: when it was written, or now where nobody tells."""
    return source.modified_ns or time.time_ns()
