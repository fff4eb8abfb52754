"""Settings that were changed live, kept on disk for the next start of their pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemd.documents import read_object, to_json
from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.storage.files import STATE_FOLDER, write_atomic
from stemd.storage.locks import holder_is_dead, instrument_lock
from stemd.tasks import end_all

WRITE_PACE_S = 0.5
"""Least time between two writes: a slider costs two of them a second. The first is at once."""

log = get_logger(__name__)


class KeptSettings:
    """One small file a pipeline: {"of": {...}, "changed": {"section.key": value}}.

    What was tuned belongs to one camera of one instrument: `instrument`, `pipeline` and the kind
    of `camera` stand in the file, and several instruments may share a `data_dir`. On the event
    loop.
    """

    def __init__(self, data_dir: Path, instrument: str, pipeline: str, camera: str) -> None:
        self._data_dir, self._pipeline = data_dir, pipeline
        self._of = {"instrument": instrument, "pipeline": pipeline, "camera": camera}
        # names of instruments and pipelines have no dot: no two pairs have one file
        self._path = data_dir / STATE_FOLDER / f"settings-{instrument}.{pipeline}.json"
        self.foreign = ""
        """After `read`: what is kept and is not taken over, since it is another camera's."""
        self._wanted: Mapping[str, Any] = {}
        self._fresh = False
        self._next_write = 0.0
        self._writing: asyncio.Task[None] | None = None
        self._failed = False

    def read(self) -> dict[str, Any]:
        """What the run before has kept; {} where there is nothing that can be read."""
        try:
            document = read_object(self._path)
        except FileNotFoundError:
            self.foreign = self._of_others()
            return {}
        except (OSError, StemdError) as error:
            log.warning("kept settings cannot be read", path=str(self._path), error=str(error))
            return {}
        found, of = document.get("changed"), document.get("of")
        if not isinstance(found, dict) or not found:
            return {}
        if of != self._of:
            camera = of.get("camera") if isinstance(of, dict) else None
            self.foreign = (
                f"settings that were changed live with the camera {camera or 'of another kind'} "
                f"are not taken over, for the camera is {self._of['camera']} now: "
                f"{', '.join(found)}"
            )
            return {}
        return found

    def _of_others(self) -> str:
        """Of which other instruments, that do not run, there are settings of such a pipeline."""
        ending = f".{self._pipeline}.json"
        try:
            paths = sorted(self._path.parent.glob(f"settings-*{ending}"))
        except OSError:
            return ""
        names = [path.name.removeprefix("settings-").removesuffix(ending) for path in paths]
        others = [n for n in names if holder_is_dead(instrument_lock(self._data_dir, n))]
        if not others:
            return ""
        return (
            f"settings that were changed live by the instrument {', '.join(others)} are kept in "
            f"this data folder; they are not taken over, for this is {self._of['instrument']}"
        )

    def keep(self, changed: Mapping[str, Any]) -> None:
        """Keep these from now on; returns at once."""
        self._wanted, self._fresh = dict(changed), True
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name=f"keep-{self._path.stem}")

    async def close(self) -> None:
        """Return when the newest are on disk, or cannot be written."""
        self._next_write = 0.0
        if self._writing is not None:
            await end_all((self._writing,))
        await self._write()

    async def _write(self) -> None:
        while self._fresh:
            await asyncio.sleep(self._next_write - time.monotonic())
            self._next_write = time.monotonic() + WRITE_PACE_S
            wanted, self._fresh = self._wanted, False
            try:
                await asyncio.to_thread(self._replace, wanted)
                self._failed = False
            except (OSError, StemdError) as error:
                if not self._failed:
                    text = "settings cannot be saved for the next start"
                    log.warning(text, path=str(self._path), error=str(error))
                self._failed = True
            except asyncio.CancelledError:
                self._fresh = True  # whether it was written is not known
                raise

    def _replace(self, changed: Mapping[str, Any]) -> None:
        if not changed:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, [to_json({"of": self._of, "changed": changed}, indent=1).encode()])
