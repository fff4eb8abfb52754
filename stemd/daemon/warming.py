"""What takes seconds is done before the daemon is ready; who never gets ready is left out.

Kernels are compiled and networks are loaded in threads beside the event loop, so that a stop is
obeyed meanwhile. Engines and models may be somebody else's: none of them is waited for for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, MutableMapping

from stemd import compilation
from stemd.config.resolved import PipelineConfig
from stemd.daemon.beside import beside
from stemd.errors import StemdError
from stemd.inference import activity
from stemd.logs import get_logger
from stemd.scan.warm import steps

LATE_S = 60.0
"""A step that has shown no progress for so long is not waited for. Compiling a kernel takes one to
ten seconds, loading a network as long; a GPU's engine is built for minutes, but tells of it."""
LOOK_S = 0.5
REMEDY = (
    "name another model or engine (stemd models check tries a model); it is used from the next "
    "scan on should it get ready after all"
)

log = get_logger(__name__)


class Warming:
    """Gets pipelines ready. On the event loop.

    `told` is where health is told of an engine that is left out, by a name for each.
    """

    def __init__(self, told: MutableMapping[str, StemdError]) -> None:
        self.now = ""
        """What is being made ready, for a status line: `ricom (2 of 11)`; "" when all is."""
        self._told = told
        self._left_out: dict[str, dict[str, StemdError]] = {}

    def left_out(self, pipeline: str) -> dict[str, StemdError]:
        """Engines of a pipeline that are not ready, and why; changes as they get ready."""
        return self._left_out.setdefault(pipeline, {})

    async def warm(self, pipelines: Iterable[PipelineConfig]) -> None:
        """Return when everything of these pipelines is ready, or left out."""
        try:
            for pipeline in pipelines:
                self._forget(pipeline.name)
                every = list(steps(pipeline))
                for number, (engine, step) in enumerate(every, 1):
                    self.now = (
                        f"{engine or pipeline.adapter_plugin.name} ({number} of {len(every)})"
                    )
                    await self._step(pipeline.name, engine, step)
        finally:
            self.now = ""

    async def _step(self, pipeline: str, engine: str, step: Callable[[], None]) -> None:
        done = asyncio.ensure_future(beside(step, name="warm-up"))
        if not await self._waited_for(done):
            self._leave_out(pipeline, engine, done)
        elif (error := done.exception()) is not None:
            log.warning(
                "a part could not be made ready beforehand",
                pipeline=pipeline,
                part=engine or "adapter",
                error=f"{type(error).__name__}: {error}",
            )

    async def _waited_for(self, done: asyncio.Future[None]) -> bool:
        """Whether it has ended, waiting as long as there is progress."""
        began = time.monotonic()
        signs = [began]
        with activity.watched(lambda text: signs.append(time.monotonic())):
            try:
                while not done.done():
                    del signs[:-1]
                    sign = max(signs[-1], compilation.last_progress())
                    if time.monotonic() - sign > LATE_S:
                        return False
                    await asyncio.wait({done}, timeout=LOOK_S)
            except asyncio.CancelledError:
                done.cancel()
                raise
        return True

    def _leave_out(self, pipeline: str, engine: str, done: asyncio.Future[None]) -> None:
        if not engine:
            log.error(
                "the adapter is not ready; it is used anyway",
                pipeline=pipeline,
                late_s=LATE_S,
            )
            return
        text = f"{pipeline}: the engine {engine} was not ready within {LATE_S:g} s"
        error = StemdError(f"{text} and is left out", REMEDY)
        left_out = self._left_out[pipeline]
        left_out[engine] = self._told[_kind(pipeline, engine)] = error
        log.error(error.message, remedy=error.remedy)

        def over(done: asyncio.Future[None]) -> None:
            if done.cancelled() or left_out.get(engine) is not error:
                return
            del left_out[engine]
            self._told.pop(_kind(pipeline, engine), None)
            log.info("an engine is ready after all", pipeline=pipeline, engine=engine)

        done.add_done_callback(over)

    def _forget(self, pipeline: str) -> None:
        """A pipeline is made anew: its engines get another try."""
        for engine in self._left_out.pop(pipeline, {}):
            self._told.pop(_kind(pipeline, engine), None)
        self._left_out[pipeline] = {}


def _kind(pipeline: str, engine: str) -> str:
    return f"engine {pipeline}/{engine}"
