"""What is to be done to the folder of a past scan, written down before it is done.

Deleting a record or writing images anew takes several steps: files, scan.json, the catalogue. If
the daemon is killed between two, the next start finds the intention and finishes or tells it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from stemd.documents import read_object, to_json
from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.storage.files import disk_error, write_atomic

Json = dict[str, Any]

FOLDER = ".intentions"
IMAGES, DELETE = "images", "delete"
"""Images are written anew; what `[daemon.retention]` says is deleted."""

log = get_logger(__name__)


class Intentions:
    """The intentions of one instrument's daemon. Methods block on the disk, from any thread."""

    def __init__(self, data_dir: Path, instrument: str) -> None:
        self._folder = data_dir / FOLDER
        self._instrument = instrument
        self._ours: set[str] = set()

    def begin(self, scan_id: str, what: str, about: Json | None = None) -> Json:
        """Write down that `what` is about to be done; returns the intention. Raises SinkError.

        One for the same that was not carried out is taken up again as it stands.
        """
        found = self.find(scan_id)
        self._ours.add(scan_id)
        if found is not None and found["what"] == what:
            return found
        intention = {
            "scan": scan_id,
            "instrument": self._instrument,
            "what": what,
            "about": about or {},
        }
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(error, "make the folder of intentions", self._folder) from error
        write_atomic(self._path(scan_id), [(to_json(intention, indent=1) + "\n").encode()])
        return intention

    def done(self, scan_id: str) -> None:
        """It is carried out."""
        with contextlib.suppress(OSError):
            self._path(scan_id).unlink()
        self._ours.discard(scan_id)

    def find(self, scan_id: str) -> Json | None:
        """What is still to be done to a scan, None for nothing."""
        return self._read(self._path(scan_id))

    def left(self) -> list[Json]:
        """What an earlier daemon of this instrument has left undone."""
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return []
        found = (self._read(path) for path in paths if path.stem not in self._ours)
        return [one for one in found if one is not None]

    def _path(self, scan_id: str) -> Path:
        return self._folder / f"{scan_id}.json"

    def _read(self, path: Path) -> Json | None:
        try:
            found = read_object(path)
        except FileNotFoundError:
            return None
        except (OSError, StemdError) as error:
            log.warning(
                "the note of a planned deletion or change cannot be read",
                file=str(path),
                error=str(error),
            )
            return None
        sound = found.get("scan") == path.stem and isinstance(found.get("about"), dict)
        if not sound or found.get("instrument") != self._instrument:
            return None
        return found if isinstance(found.get("what"), str) else None
