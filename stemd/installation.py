"""Whether the files of stemd are still those that this process has read.

An update replaces them under a running daemon. What it has imported stays as it was; what it
would read later is of another version, and the two must not be mixed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from functools import cache
from pathlib import Path

from stemd import __version__
from stemd.errors import StemdError

PACKAGE = Path(__file__).parent
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
REMEDY = "restart stemd; until then it goes on with what it has read at its start"

_Stamp = tuple[int, int, int]
"""Size, time of change in ns, and inode of a file."""


class ReplacedError(StemdError):
    """Other code has been installed than that which runs."""


class Installation:
    """The files of a package as they are when this is made. May be used by any thread."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self._package = package
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._digests = {name: self._digest(name) for name in self._stamps}
        whole = hashlib.sha256()
        for name, digest in sorted(self._digests.items()):
            whole.update(f"{name} {digest}\n".encode())
        self.digest = whole.hexdigest()
        """Of all names and contents: equal for equal code, wherever it is installed."""

    def changed(self) -> ReplacedError | None:
        """What has been replaced, None where all files have the contents that they had.

        Takes some milliseconds: only files that look different are read again.
        """
        with self._lock:
            if not self._differs():
                return None
        found = self._version()
        if found is None:
            text = "stemd is being replaced or was removed while it runs: a restart is needed"
        elif found == __version__:
            text = f"files of stemd {found} were changed while it runs: a restart is needed"
        else:
            text = f"stemd {found} was installed while {__version__} runs: a restart is needed"
        return ReplacedError(text, REMEDY)

    def _differs(self) -> bool:
        now = self._look()
        for name, stamp in now.items():
            if self._stamps.get(name) == stamp:
                continue
            if name not in self._digests or self._digest(name) != self._digests[name]:
                return True
            self._stamps[name] = stamp
        return now.keys() != self._digests.keys()

    def _look(self) -> dict[str, _Stamp]:
        found: dict[str, _Stamp] = {}
        folders = [str(self._package)]
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders += [entry.path] if entry.name != "__pycache__" else []
                        continue
                    about = entry.stat()
                    name = str(Path(entry.path).relative_to(self._package))
                    found[name] = about.st_size, about.st_mtime_ns, about.st_ino
        return found

    def _digest(self, name: str) -> str:
        try:
            with (self._package / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    def _version(self) -> str | None:
        try:
            found = _VERSION.search((self._package / "__init__.py").read_text("utf-8"))
        except OSError:
            return None
        return found[1] if found is not None else None


@cache
def at_start() -> Installation:
    """As it was when this was called first, which is to be early."""
    return Installation()
