"""A scan that is over, as long as its images may still be made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stemd.events import Json
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.settings import Settings, SlowEngineSettings
from stemd.storage.completions import OUTSTANDING
from stemd.storage.files import FileRecord
from stemd.storage.scan_files import ScanFiles


@dataclass(slots=True)
class FinishedScan:
    """The last finished scan of a pipeline, kept so that its images can be made anew.

    `from_record`: names of the images that are, or are to be, completed from the record;
    `made_with`: optics of those that keep their lens.
    """

    run: ScanRun
    files: ScanFiles
    final: Snapshot
    from_record: frozenset[str]
    made_with: Json = field(init=False)
    _made_before: Json = field(init=False)

    def __post_init__(self) -> None:
        self.made_with = self._made_before = _optics(self.run.settings)

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
        self._made_before = self.made_with
        self.files.completed(files, completion)

    def not_completed(self, completion: Mapping[str, Any]) -> None:
        """The images stay as they were when the scan ended."""
        self.from_record = frozenset()
        self.made_with = self._made_before
        self.files.completed((), completion)

    def recomputed(self, every: Snapshot) -> Snapshot:
        """Of images made anew from the maps those that are to be taken, by `take`.

        What comes from the record is better than what maps and engines still have of it.
        """
        anew = [result for result in every.results if result.name not in self.from_record]
        return replace(every, results=anew)

    def make_from_record(self, settings: Settings) -> None:
        """Where images keep the lens of the scan and the settings have other optics, the record is
        to give them these. `completed` tells when that is done.
        """
        optics = _optics(settings)
        other = {key: value for key, value in optics.items() if self.made_with[key] != value}
        names = _of_lens(self.run, settings) if self.files.record_is_whole else {}
        if not names or not other:
            return
        positions = dict.fromkeys(names, self.run.positions_done)
        self.files.complete_again(positions, self.final.sequence, optics)
        self.made_with = optics
        self.from_record |= {image for each in names.values() for image in each}
        self.final = marked(self.final, self.from_record)

    def take(self, anew: Snapshot) -> None:
        """These are the finished images from now on, beside those that come from the record."""
        kept = [result for result in self.final.results if result.name in self.from_record]
        self.final = replace(anew, results=[*anew.results, *kept])


def to_complete(run: ScanRun, files: ScanFiles) -> tuple[dict[str, int], frozenset[str]]:
    """Positions that images lack and the record has, by engine, and the names of the images."""
    lacking = run.lacking() if files.recording else {}
    return lacking, frozenset(name for each in lacking for name in run.images.of_slow.get(each, ()))


def _optics(settings: Settings) -> Json:
    """What of the optics decides how images of lenses are made."""
    return settings.optics.model_dump(mode="json", exclude={"measured", "mask"})


def _of_lens(run: ScanRun, settings: Settings) -> dict[str, tuple[str, ...]]:
    """Engines whose images keep the lens of the scan and are completed, and these images."""
    return {
        name: run.images.of_slow[name]
        for name, own in settings.engines.items()
        if own.keeps_lens
        and isinstance(own, SlowEngineSettings)
        and own.complete
        and run.images.of_slow.get(name)
    }


def marked(final: Snapshot, names: frozenset[str]) -> Snapshot:
    """These images say that they will be completed."""
    results = [
        result.changed(extra={**result.extra, "completion": OUTSTANDING})
        if result.name in names
        else result
        for result in final.results
    ]
    return replace(final, results=results)
