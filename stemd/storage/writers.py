"""The writers that `record.results` names: what puts the finished images of a scan on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from stemd import plugins
from stemd.config.tables import DEFAULT_RESULTS
from stemd.errors import SinkError, StemdError
from stemd.logs import get_logger
from stemd.results import Snapshot
from stemd.storage.files import FileRecord, plain_file_name

log = get_logger(__name__)


class Written(NamedTuple):
    """The files that were written, and why others could not be."""

    files: Sequence[FileRecord]
    errors: Sequence[StemdError] = ()


class ResultWriter(Protocol):
    """A sink of finished images: what the `build` of a plugin that `takes` "images" makes.

    Made anew for each use, and used in a thread that may wait for the disk.
    """

    def write(self, folder: Path, snapshot: Snapshot, settings: Mapping[str, Any]) -> Written:
        """Write the snapshot's images into a scan's folder.

        `settings` are the live settings they were made with. Names of files begin with no `raw`,
        which is the record's; `stemd.storage.files` has what makes a FileRecord. It may be
        called again for some of the scan's images: these take the place of those written
        earlier, and all others stay. One image that cannot be written must not keep the others
        from it. Raises SinkError where nothing can be written.
        """
        ...


def writers_of(settings: Mapping[str, Any]) -> Sequence[str]:
    """The writers that live settings, or those of a scan.json, name."""
    found: Sequence[str] = settings.get("record", {}).get("results", DEFAULT_RESULTS)
    return found


def write_results(
    writers: Iterable[str], folder: Path, snapshot: Snapshot, settings: Mapping[str, Any]
) -> Written:
    """Have the images written by each of the writers; one that fails does not hold up others."""
    files: list[FileRecord] = []
    errors: list[StemdError] = []
    for name in writers:
        try:
            plugin = plugins.load("sinks", name)
            writer: ResultWriter = plugin.build(plugin.settings())
            written = writer.write(folder, snapshot, settings)
            for record in written.files:
                plain_file_name(record.name)
        except StemdError as error:
            errors.append(error)
        except Exception as error:
            log.exception("a writer of results failed", writer=name)
            text = f"{folder}: the writer {name!r} failed: {type(error).__name__}: {error}"
            remedy = f"see the daemon's log, or take {name!r} out of record.results"
            errors.append(SinkError(text, remedy))
        else:
            files += written.files
            errors += written.errors
    return Written(files, errors)
