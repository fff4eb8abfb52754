"""Ids of the commands that were taken in, also by an earlier run: none is carried out twice."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stemd.documents import object_from_json, to_json
from stemd.errors import FormatError
from stemd.logs import get_logger
from stemd.storage.files import write_atomic

Key = tuple[str, str, str | int]
"""(pipeline, "settings" | "command", id)."""

DUPLICATE_SECONDS = 600.0
MAX_REMEMBERED = 10_000
_MOST_BYTES = 16 * 1024 * 1024
_WRITE_PATIENCE_SECONDS = 2.0
"""A command waits so long for a slow disk, and is then carried out."""

log = get_logger(__name__)


class RequestIds:
    """Ids for ten minutes, so many and no more.

    With a file those of commands are also kept there, and known to the next run: a file of each
    instrument, as several may share a data folder and call their pipelines alike.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._seen: OrderedDict[Key, float] = OrderedDict()
        self._path = path
        self._unwritten: list[tuple[Key, float]] = []
        self._writing: asyncio.Task[None] | None = None
        self._lines = 0
        self._failed = False
        if self._path is not None:
            self._read(self._path)

    def is_new(self, key: Key) -> bool:
        """Whether this id comes for the first time; it is known from now on."""
        now = time.time()
        while self._seen:
            oldest, when = next(iter(self._seen.items()))
            # a clock that was set back must not keep an id for ever
            if abs(now - when) < DUPLICATE_SECONDS and len(self._seen) < MAX_REMEMBERED:
                break
            del self._seen[oldest]
        if key in self._seen:
            return False
        self._seen[key] = now
        if self._path is not None and key[1] == "command":
            self._unwritten.append((key, now))
        return True

    async def written(self) -> None:
        """Return when every id is in the file, or the disk has been waited for long enough."""
        if self._path is None:
            return
        if self._unwritten and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(self._path), name="request-ids")
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_WRITE_PATIENCE_SECONDS)

    async def _write(self, path: Path) -> None:
        while self._unwritten:
            fresh, self._unwritten = self._unwritten, []
            self._lines += len(fresh)
            whole = self._lines > 2 * MAX_REMEMBERED
            kept = [item for item in self._seen.items() if item[0][1] == "command"]
            try:
                if whole:
                    await asyncio.to_thread(write_atomic, path, [_text(kept)])
                    self._lines = len(kept)
                else:
                    await asyncio.to_thread(_append, path, _text(fresh))
                self._failed = False
            except Exception as error:
                if not self._failed:
                    log.warning(
                        "the ids of requests cannot be saved", path=str(path), error=str(error)
                    )
                self._failed = True

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                lines = file.read(_MOST_BYTES).splitlines()
        except OSError:
            return
        now = time.time()
        self._lines = len(lines)
        for line in lines[-MAX_REMEMBERED:]:
            found = _known(line)
            if found is not None and abs(now - found[1]) < DUPLICATE_SECONDS:
                self._seen[found[0]] = found[1]


def _known(line: bytes) -> tuple[Key, float] | None:
    """What a line says; None for one that was cut off or damaged."""
    try:
        document = object_from_json(line)
    except FormatError:
        return None
    pipeline, name, when = (document.get(key) for key in ("pipeline", "id", "time"))
    of_kind = isinstance(pipeline, str) and isinstance(when, (int, float))
    if not of_kind or isinstance(name, bool) or not isinstance(name, (str, int)):
        return None
    key: Any = (pipeline, "command", name)
    return key, float(when or 0)


def _text(ids: Iterable[tuple[Key, float]]) -> bytes:
    lines = [to_json({"pipeline": key[0], "id": key[2], "time": when}) for key, when in ids]
    return "".join(f"{line}\n" for line in lines).encode()


def _append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
