"""A scan that is over, as long as its images may still be made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.storage.completions import OUTSTANDING
from stemd.storage.files import FileRecord
from stemd.storage.scan_files import ScanFiles


@dataclass(slots=True)
class FinishedScan:
    """The last finished scan of a pipeline, kept so that its images can be made anew.

    `from_record`: names of the images that are, or are to be, completed from the record.
    """

    run: ScanRun
    files: ScanFiles
    final: Snapshot
    from_record: frozenset[str]

    @property
    def id(self) -> str:
        """The scan's."""
        return self.run.acquisition.id

    def completed(
        self, snapshot: Snapshot, files: Sequence[FileRecord], completion: Mapping[str, Any]
    ) -> None:
        """These images have been made again from the record, and written."""
        names = frozenset(result.name for result in snapshot.results)
        kept = [result for result in self.final.results if result.name not in names]
        self.final = replace(self.final, results=[*kept, *snapshot.results])
        self.from_record = names
        self.files.completed(files, completion)

    def not_completed(self, completion: Mapping[str, Any]) -> None:
        """The images stay as they were when the scan ended."""
        self.from_record = frozenset()
        self.files.completed((), completion)

    def recomputed(self, every: Snapshot) -> Snapshot:
        """Of images made anew from the maps those that are to be taken, by `take`.

        What comes from the record is better than what maps and engines still have of it.
        """
        anew = [result for result in every.results if result.name not in self.from_record]
        return replace(every, results=anew)

    def take(self, anew: Snapshot) -> None:
        """These are the finished images from now on, beside those that come from the record."""
        kept = [result for result in self.final.results if result.name in self.from_record]
        self.final = replace(anew, results=[*anew.results, *kept])


def to_complete(run: ScanRun, files: ScanFiles) -> tuple[dict[str, int], frozenset[str]]:
    """Positions that images lack and the record has, by engine, and the names of the images."""
    recorded = files.recorder is not None and files.recorder.recording
    lacking = run.lacking() if recorded else {}
    return lacking, frozenset(name for each in lacking for name in run.images.of_slow.get(each, ()))


def marked(final: Snapshot, names: frozenset[str]) -> Snapshot:
    """These images say that they will be completed."""
    results = [
        replace(result, extra={**result.extra, "completion": OUTSTANDING})
        if result.name in names
        else result
        for result in final.results
    ]
    return replace(final, results=results)
