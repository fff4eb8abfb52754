"""What backends find out once and keep for later starts, in the user's cache."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


def folder(backend: str) -> Path:
    """Where a backend keeps its files.

    `XDG_CACHE_HOME`, else a service's own cache (systemd names it in `CACHE_DIRECTORY`; a service
    often has no home that it may write), else `~/.cache`.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    service = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    base = Path(named) / "stemd" if named else Path(service) if service else None
    return (base or _home() / ".cache" / "stemd") / backend


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        # a user without a home keeps nothing: a path that cannot be made says so when it is tried
        return Path(os.devnull) / str(error)


def plain(text: str) -> str:
    """A text as a part of a file's name: other characters than letters and digits become "-"."""
    return "".join(c if c.isalnum() or c == "." else "-" for c in text.lower())


def read(place: Path) -> bytes:
    """What is kept there; nothing where there is no such file, or none that can be read."""
    try:
        return place.read_bytes()
    except OSError:
        return b""


def keep(place: Path, data: bytes) -> None:
    """Write a file whole, in the place of one that is there. Raises OSError."""
    with _written(place, data) as part:
        part.replace(place)


def keep_first(place: Path, data: bytes) -> bytes:
    """Write a file whole unless there is one already. Returns what is there: of several processes
    that start at once all have the same. Raises OSError."""
    with _written(place, data) as part, contextlib.suppress(FileExistsError):
        os.link(part, place)
    return place.read_bytes()


@contextlib.contextmanager
def _written(place: Path, data: bytes) -> Iterator[Path]:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        yield part
    finally:
        part.unlink(missing_ok=True)
