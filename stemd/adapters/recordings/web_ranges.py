"""Ranges of a file on a web server: each must be of the same file, at its place, in time."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from stemd.adapters.recordings.address import RemoteFile
from stemd.adapters.recordings.remote_errors import QUIET_S, SLOWEST_BYTES_S, replaced
from stemd.errors import CameraError

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_LOOK_BYTES = 256 * 1024
TAGS = ("ETag", "Last-Modified")


class WebRanges:
    """Asks for ranges with If-Range, and compares tag, place and size of what comes.

    `info` is what the server said of the file at first. `get` runs on fsspec's own event loop.
    """

    def __init__(
        self, file: RemoteFile, system: Any, address: str, info: Mapping[str, Any]
    ) -> None:
        self._file, self._system, self._address = file, system, address
        self._size = int(info["size"])
        self._tags = {key: str(info[key]) for key in TAGS if info.get(key)}

    async def get(self, first: int, stop: int) -> bytes:
        """Bytes first..stop-1. Raises CameraError for another file, or none in reasonable time."""
        import asyncio  # whoever reads no remote file must not wait for it

        session = await self._system.set_session()
        more = dict(self._system.kwargs)
        headers = {**more.pop("headers", {}), "Range": f"bytes={first}-{stop - 1}"}
        headers["Accept-Encoding"] = "identity"
        if condition := self._condition():
            headers["If-Range"] = condition
        url = self._system.encode_url(self._address)
        async with asyncio.timeout(2 * QUIET_S) as limit:
            async with session.get(url, headers=headers, **more) as reply:
                limit.reschedule(None)  # from here on its speed is watched
                if reply.status == 416:
                    raise replaced(self._file, "size", str(self._size), "smaller")
                self._system._raise_not_found_for_status(reply, url)
                whole = reply.status != 206
                self._compare(reply.headers, first, stop, whole=whole)
                return await self._body(reply, first, stop)

    def _condition(self) -> str:
        tag = self._tags.get("ETag", "")
        return tag if tag and not tag.startswith("W/") else self._tags.get("Last-Modified", "")

    def _compare(self, headers: Mapping[str, str], first: int, stop: int, *, whole: bool) -> None:
        for key, before in self._tags.items():
            now = headers.get(key, before)
            if now != before:
                raise replaced(self._file, key, before, now)
        if whole:
            size = headers.get("Content-Length", str(self._size))
            if size != str(self._size):
                raise replaced(self._file, "size", str(self._size), size)
            if first > 0 or stop < self._size:
                raise CameraError(
                    f"{self._file}: the server cannot send parts of a file",
                    "use a server that supports Range requests, or copy the file",
                )
            return
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or (int(found[1]), int(found[2])) != (first, stop - 1):
            raise OSError(
                f"bytes {first}-{stop - 1} were asked for, the server sent "
                f"{headers.get('Content-Range', 'a part without Content-Range')!r}"
            )
        if found[3] not in ("*", str(self._size)):
            raise replaced(self._file, "size", str(self._size), found[3])

    async def _body(self, reply: Any, first: int, stop: int) -> bytes:
        import asyncio

        parts: list[bytes] = []
        came, since, counted = 0, time.monotonic(), 0
        while True:
            now = time.monotonic()
            try:
                part = await asyncio.wait_for(
                    reply.content.read(_LOOK_BYTES), max(0.1, since + QUIET_S - now)
                )
            except TimeoutError:
                part = None
            if part == b"":
                return b"".join(parts)
            if part:
                parts.append(part)
                came += len(part)
                if came > stop - first:
                    raise OSError(f"more than {stop - first} bytes came")
            now = time.monotonic()
            if now - since >= QUIET_S:
                rate = (came - counted) / (now - since)
                if rate < SLOWEST_BYTES_S:
                    raise CameraError(
                        f"{self._file}: the server sends {rate:.0f} bytes a second at byte "
                        f"{first + came}: it is given up",
                        "copy the file from a faster place, or repeat the command later; "
                        f"at least {SLOWEST_BYTES_S} bytes a second are needed",
                    )
                since, counted = now, came
