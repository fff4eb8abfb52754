"""Recordings that are no local files: ranges of bytes from any file system that fsspec knows.

Not a camera: a module without a PLUGIN, used by those that open recordings. A range is asked for
again when it breaks, a bounded number of times; nothing reads a whole file.
"""

from __future__ import annotations

import dataclasses
import io
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from stemd.errors import CameraError, FormatError, StemdError

CHUNK_BYTES = 4 * 1024 * 1024
"""A range that is asked for at a time: object stores answer after some ten milliseconds, so that
smaller ones wait more than they read."""
AHEAD = 3
"""Ranges of a stream that are on their way while the one before them is worked on."""
PAUSES_S = (0.2, 1.0, 3.0)
"""Waits before a broken read is tried again; after the last one it is given up."""
QUIET_S = 30.0
"""A web server that sends nothing for so long is as good as dead."""
_SCATTERED = 16  # small ranges all over a file that are asked for at a time
_LOCAL = ("file", "local")
_WEB = ("http", "https")
_TAGS = (
    *("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "modified"),
    *("created", "md5", "md5Hash", "Content-MD5", "Digest", "checksum", "generation", "VersionId"),
)
"""What file systems tell of a file's content or time, besides its size."""
_TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified")
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("webdav", "dav"), "webdav4"),
    "smb": "smbprotocol",
    "hdfs": "pyarrow",
    "webhdfs": "requests",
    "oss": "ossfs",
    "oci": "ocifs",
    "hf": "huggingface_hub",
}

T = TypeVar("T")
Range = tuple[int, int]
"""Bytes first..stop-1"""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """The address of a recording: `s3://bucket/night/scan.mib`, `https://host/scan.tpx3`, ...

    Has what stemd uses of a `Path`. As a text it is without passwords and signatures, since it
    stands in messages and documents.
    """

    url: str

    @property
    def protocol(self) -> str:
        """What stands before the first `:`, such as `s3`."""
        return self.url.partition(":")[0].lower()

    def _split(self) -> tuple[str, str]:
        """(address, what is not a part of the path: a web address's query)"""
        if self.protocol not in _WEB:
            return self.url, ""
        plain = urlunsplit(urlsplit(self.url)._replace(query="", fragment=""))
        return plain, self.url[len(plain) :]

    def _path(self) -> PurePosixPath:
        return PurePosixPath(self._split()[0].partition("://")[2])

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self._path().name

    @property
    def suffix(self) -> str:
        """Its ending, with the dot."""
        return self._path().suffix

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return self._path().stem

    def with_suffix(self, suffix: str) -> RemoteFile:
        """A file beside this one."""
        address, query = self._split()
        return RemoteFile(f"{address.removesuffix(self.suffix)}{suffix}{query}")

    def __str__(self) -> str:
        protocol, separator, rest = self._split()[0].partition("://")
        host, slash, path = rest.partition("/")
        _, at, name = host.rpartition("@")
        return f"{protocol}{separator}{'***@' if at else ''}{name}{slash}{path}"


RecordingPath = Path | RemoteFile


def recording_path(text: str) -> RecordingPath:
    """What the user has written: an address with `://` is remote unless it is `file://`."""
    protocol, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    return Path(rest) if protocol.lower() in _LOCAL else RemoteFile(text)


class RemoteBytes:
    """The bytes of a remote file, read by any number of threads.

    Raises FormatError when there is no such file or the package for its protocol is missing,
    CameraError when it cannot be read: with the file's name, and the offset where it broke.
    """

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self._closed = threading.Event()
        self._system, self._address = _file_system(file)
        # a web server without ranges would send the whole file: fsspec's file object sees to it
        self._web = file.protocol in _WEB
        self.info: Mapping[str, Any] = self._trying(0, self._look)
        if self.info.get("type") == "directory":
            raise FormatError(f"{file} is not a file", "name the recording itself")
        size = self.info.get("size")
        if size is None:
            raise CameraError(
                f"{file}: the server does not tell the size", "use one that does, or copy the file"
            )
        self.size = int(size)

    def _look(self) -> Mapping[str, Any]:
        self._system.invalidate_cache()
        found: Mapping[str, Any] = self._system.info(self._address)
        return found

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
            with self._system.open(self._address, size=self.size, cache_type="none") as file:
                file.seek(first)
                return bytes(file.read(stop - first))
        return bytes(self._system.cat_file(self._address, start=first, end=stop))

    def _trying(self, offset: int, work: Callable[[], T]) -> T:
        for pause in (*PAUSES_S, None):
            try:
                return work()
            except StemdError:
                raise
            except Exception as raised:  # what file systems raise is as manifold as they are
                error = self._meant(raised)
                final = _explained(self.file, offset, error)
                if final is None and pause is not None and not self._closed.wait(pause):
                    continue
                raise final or _broken(self.file, offset, error) from error
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


class RangeStream:
    """Consecutive bytes of a remote file; the next ranges come while one is worked on.

    For one thread. Holds at most AHEAD + 1 ranges. Bytes behind the planned end are read when
    they are asked for. A context manager: leaving it lets go of what is under way.
    """

    def __init__(self, source: RemoteBytes, first: int, stop: int) -> None:
        self._source = source
        self._asked, self._stop = first, min(stop, source.size)
        self._threads = ThreadPoolExecutor(AHEAD, thread_name_prefix="ranges")
        self._coming: deque[Future[bytes]] = deque()
        self._here: NDArray[np.uint8] = np.zeros(0, np.uint8)
        for _ in range(AHEAD):
            self._ask(self._stop)

    def _ask(self, stop: int) -> None:
        first, last = self._asked, min(self._asked + CHUNK_BYTES, stop)
        if first < last:
            self._asked = last
            self._coming.append(self._threads.submit(self._source.read, first, last))

    def read_into(self, out: NDArray[np.uint8]) -> None:
        """Fill a flat array with the next bytes. Raises CameraError, also beyond the file."""
        filled = 0
        while filled < out.size:
            if not self._here.size:
                self._here = self._next()
            count = min(self._here.size, out.size - filled)
            out[filled : filled + count] = self._here[:count]
            self._here = self._here[count:]
            filled += count

    def _next(self) -> NDArray[np.uint8]:
        if not self._coming:
            self._ask(self._source.size)
        if not self._coming:
            raise CameraError(f"{self._source.file} has no bytes behind {self._source.size}")
        data = self._coming.popleft().result()
        self._ask(self._stop)
        return np.frombuffer(data, np.uint8)

    def close(self) -> None:
        """No further range is asked for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._coming.clear()

    def __enter__(self) -> RangeStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class RemoteReader(io.RawIOBase):
    """A remote file for libraries that want a Python file; wrap it in a `BufferedReader`."""

    def __init__(self, source: RemoteBytes) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where the next bytes are read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next bytes are read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As many bytes as there are, at most as many as fit."""
        view = memoryview(buffer).cast("B")
        stop = min(self._source.size, self._at + len(view))
        data = self._source.read(self._at, max(stop, self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


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
    except (FormatError, _ForbiddenError):
        return None


class _ForbiddenError(CameraError):
    """Access is denied: trying again does not help."""


def _file_system(file: RemoteFile) -> tuple[Any, str]:
    try:
        import fsspec
        from fsspec.config import conf
    except ImportError as error:
        raise FormatError(
            f"{file}: reading {file.protocol}:// needs fsspec, which is not installed",
            "pip install 'stemd[remote]'",
        ) from error
    options: dict[str, Any] = {}
    if file.protocol in _WEB and "client_kwargs" not in conf.get(file.protocol, {}):
        try:
            from aiohttp import ClientTimeout
        except ImportError as error:
            raise _needs_package(file, error) from error
        limits = ClientTimeout(total=None, sock_connect=QUIET_S / 3, sock_read=QUIET_S)
        options = {"client_kwargs": {"timeout": limits}}
    try:
        system, address = fsspec.core.url_to_fs(file.url, **options)
    except ImportError as error:
        raise _needs_package(file, error) from error
    except ValueError as error:
        raise FormatError(
            f"{file}: {error}",
            "for example s3://, gs://, abfs://, sftp://, https://, or a path without ://",
        ) from error
    except Exception as error:  # a server that must be greeted first, credentials that are none
        raise _explained(file, 0, error) or _broken(file, 0, error) from error
    return system, str(address)


def _needs_package(file: RemoteFile, error: ImportError) -> FormatError:
    package = _PACKAGES.get(file.protocol)
    return FormatError(
        f"{file}: reading {file.protocol}:// needs a package that is not installed ({error})",
        f"pip install {package}" if package else "install what fsspec asks for",
    )


def _explained(file: RemoteFile, offset: int, error: Exception) -> StemdError | None:
    """The error to end with, None for one that another attempt may not meet."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FormatError(f"{file} does not exist", "check the address")
    if isinstance(error, PermissionError) or status in (401, 403, 407):
        return _ForbiddenError(
            f"{file} may not be read ({_said(error)})",
            "give fsspec the credentials, where the command and where the workers run",
        )
    if isinstance(error, IsADirectoryError):
        return FormatError(f"{file} is not a file", "name the recording itself")
    if "range requests" in str(error):
        return CameraError(
            f"{file}: the server cannot send parts of a file",
            "use a server that supports Range requests, or copy the file",
        )
    if isinstance(error, (TypeError, AttributeError, NotImplementedError)) or (
        isinstance(status, int) and 400 <= status < 500 and status not in (408, 416, 425, 429)
    ):
        return _broken(file, offset, error, tries=1)
    return None


def _broken(
    file: RemoteFile, offset: int, error: Exception, tries: int = len(PAUSES_S) + 1
) -> CameraError:
    return CameraError(
        f"{file} cannot be read at byte {offset}: {_said(error)}"
        + (f" ({tries} attempts)" if tries > 1 else ""),
        "check the connection and the server, then repeat the command",
    )


def _said(error: Exception) -> str:
    status, message = getattr(error, "status", None), getattr(error, "message", "")
    if status:  # the text of such an error holds the whole address
        return f"{status} {message}".strip()
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


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
