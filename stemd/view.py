"""What is known of one pipeline now: its documents, and the newest of its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from stemd.documents import Json
from stemd.results import Snapshot, is_older, joined


@dataclass(slots=True)
class View:
    """The newest documents and images of a pipeline.

    `snapshot` is the newest that was published, `last_final` the finished images of the last scan
    that has some. Finished images come in parts: `growing` are those of the same scan that the
    engines still work on, None where there are none.
    """

    state: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    optics: Json = field(default_factory=dict)
    session: Json = field(default_factory=dict)
    snapshot: Snapshot | None = None
    last_final: Snapshot | None = None
    growing: Snapshot | None = None

    def take(self, snapshot: Snapshot) -> None:
        """Images have been published; those of an earlier scan do not replace a later one's."""
        whole = joined(self.last_final, snapshot) if snapshot.final else snapshot
        if self.snapshot is None or not is_older(snapshot, self.snapshot):
            self.snapshot = whole
            self.growing = self._unfinished(whole)
        if snapshot.final and (self.last_final is None or not is_older(snapshot, self.last_final)):
            self.last_final = whole

    def newest_first(self) -> Iterator[Snapshot]:
        """Where to look for the newest image of a name: the first that has it."""
        yield from {id(s): s for s in (self.snapshot, self.growing, self.last_final) if s}.values()

    def _unfinished(self, newest: Snapshot) -> Snapshot | None:
        """Growing images of the same scan that `newest` does not have."""
        if not newest.final:
            return newest
        growing = self.growing
        if growing is None or growing.acquisition.id != newest.acquisition.id:
            return None
        done = {result.name for result in newest.results}
        left = [result for result in growing.results if result.name not in done]
        return replace(growing, results=left) if left else None
