"""Where a recording lies: a path, or an address that fsspec knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

LOCAL = ("file", "local")
WEB = ("http", "https")


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
        if self.protocol not in WEB:
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
    return Path(rest) if protocol.lower() in LOCAL else RemoteFile(text)
