"""Which images the broker keeps, remembered over restarts, so that none stays there for ever.

The broker keeps the last image of each name until somebody clears it. What engines and pipelines
that are in no config any more have left there is known from a file only: stemd does not subscribe
to its own images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from stemd.documents import object_from_json, to_json
from stemd.errors import FormatError
from stemd.logs import get_logger
from stemd.storage.files import write_atomic

Images = Callable[[str], Collection[str] | None]
"""Names of the images that a pipeline makes by its config; None: nobody knows."""

log = get_logger(__name__)


def nobody_knows(pipeline: str) -> None:
    """Of a sink without a config."""


class RetainedImages:
    """Pipelines and names of the images that were retained, in a file where there is a `path`."""

    def __init__(self, path: Path | None = None, made_by: Images = nobody_knows) -> None:
        self._path, self._made_by = path, made_by
        self._names: dict[str, set[str]] = {}
        self._changed = False
        if path is not None:
            self._read(path)

    def is_made(self, pipeline: str, name: str) -> bool:
        """Whether the config has an image of this name, as far as anybody knows."""
        made = self._made_by(pipeline)
        return made is None or name in made

    def add(self, pipeline: str, name: str) -> None:
        """An image is about to be retained."""
        names = self._names.setdefault(pipeline, set())
        if name not in names:
            names.add(name)
            self._changed = True

    def stale(self, pipeline: str) -> set[str]:
        """Names of a pipeline's images that nothing makes any more; they are forgotten."""
        names = self._names.get(pipeline, set())
        return self._forget({pipeline: {n for n in names if not self.is_made(pipeline, n)}})

    def forget(self, pipeline: str) -> set[str]:
        """Names of the images of a pipeline that is gone; they are forgotten."""
        return self._forget({pipeline: set(self._names.get(pipeline, ()))})

    def others(self, pipelines: Iterable[str]) -> list[str]:
        """Pipelines with retained images that are none of these."""
        return sorted(self._names.keys() - set(pipelines))

    def _forget(self, gone: Mapping[str, set[str]]) -> set[str]:
        found: set[str] = set()
        for pipeline, names in gone.items():
            if names:
                left = self._names.pop(pipeline) - names
                self._names |= {pipeline: left} if left else {}
                found |= names
        if found:
            self._changed = True
        return found

    def _read(self, path: Path) -> None:
        try:
            found = object_from_json(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, FormatError) as error:
            log.warning("what the broker keeps is not known", file=str(path), error=str(error))
            return
        for pipeline, names in found.items():
            if isinstance(names, list):
                self._names[pipeline] = {name for name in names if isinstance(name, str)}

    async def keep(self) -> None:
        """Write what has changed; a slow disk holds up whoever waits for this, and nothing else."""
        if self._path is None or not self._changed:
            return
        self._changed = False
        document = {pipeline: sorted(names) for pipeline, names in sorted(self._names.items())}
        await asyncio.to_thread(_write, self._path, to_json(document).encode())


def _write(path: Path, text: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, [text])
    except OSError as error:  # images are published all the same
        log.warning("what the broker keeps cannot be noted", file=str(path), error=str(error))
