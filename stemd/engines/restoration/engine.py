"""Image restoration: any image of the pipeline through a network, beside the scan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.restoration.finished import finished
from stemd.engines.restoration.steady import steadied_scan, warm
from stemd.engines.restoration.tiling import CancelledError
from stemd.errors import ModelError
from stemd.inference.catalogue import find
from stemd.inference.choice import BackendName
from stemd.inference.worker import shared
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings

LIVE_SHARE = 0.25
"""At most this part of the time goes into restoring images that are not finished."""
LEAST_LINES = 16
"""Complete scan lines from which on an unfinished image is worth restoring."""

Image = NDArray[np.float32]


class RestorationSettings(EngineSettings):
    """`input`: the image to restore; `model`: a name of `stemd models list`, or a path.

    `final_model` (default: `model`) is used for finished images; `live` restores unfinished
    ones too, when there is time; `threads` of the CPU for one image, or the number
    of the GPU, `device`.
    """

    input: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
    model: Annotated[str, Field(min_length=1)] = "restoration"
    final_model: Annotated[str, Field(min_length=1)] | None = None
    backend: BackendName = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    device: Annotated[int, Field(ge=0, le=63)] = 0
    live: bool = True

    needs: ClassVar[Literal["images"]] = "images"

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The input's name with endings."""
        return (f"{self.input}_restored", f"{self.input}_uncertainty")

    def key_of(self, image: str) -> tuple[str, ...]:
        """Its name comes from the input's."""
        return ("input",)

    def inputs(self) -> dict[str, str]:
        """The image to restore."""
        return {"input": self.input}


class RestorationEngine:
    """`<input>_restored`: same unit and mean as the input. Implements engines.base.ImageEngine.

    Of finished images `<input>_uncertainty` too: the standard error of an average over a column.

    All work is done in the process's thread for networks (`inference.worker`), so the scan
    never waits. Unfinished images are restored as far as their lines are complete; what has
    not been scanned is 0.
    """

    def __init__(self, settings: RestorationSettings) -> None:
        self.name = settings.name or "restoration"
        self._own = settings

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._maps, self._scan = maps, acquisition.scan
        self._job: Future[list[Result]] | None = None
        self._newest: list[Result] = []
        self._lines = 0
        self._restored: tuple[int | None, int] = None, 0
        self._began = 0.0
        self._rest_until = 0.0
        self._abandoned = False
        self.update(settings)

    def update(self, settings: Settings) -> None:
        """Another input, model or backend, from the next image on."""
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, RestorationSettings)
        if own.input != self._own.input:
            self._newest = []
        self._own = own

    def consume(self, item: Positions | Block) -> None:
        """Nothing to do: it takes images."""

    def offer(self, results: Sequence[Result], *, final: bool) -> None:
        """See engines.base.ImageEngine. Raises ModelError when a finished image is not there."""
        own = self._own
        found = next((result for result in results if result.name == own.input), None)
        if final:
            if found is None:
                names = ", ".join(result.name for result in results) or "none"
                raise ModelError(
                    f"there is no image {own.input!r} to restore",
                    f"set its input to one of the scan's images: {names}",
                )
            self._abandoned = True  # a job for an unfinished image that still runs
            self._begin(found, self._done(found), own.final_model or own.model, urgent=True)
            return
        # what is in the image for certain: the lines that were complete when asked last time
        lines, self._lines = self._lines, self._complete_lines()
        idle = self._job is None and time.monotonic() >= self._rest_until
        if not (found and own.live and idle and lines >= LEAST_LINES):
            return
        shown = self._maps.frames, lines
        if shown == self._restored or found.shape != self._maps.shape:
            return
        self._restored = shown
        done = np.zeros(self._maps.shape, np.bool_)
        done[:lines] = True
        if self._maps.frames is not None:
            done = self._done(found)
        self._began = time.monotonic()
        self._begin(found, done, own.model, urgent=False)

    def wait(self, timeout_s: float) -> bool:
        """See engines.base.ImageEngine."""
        if self._job is None:
            return True
        try:
            self._job.exception(timeout_s)
        except TimeoutError:
            return False
        return True

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The newest restored image, and its uncertainty, float32 (ny, nx). Raises ModelError."""
        if self._job is not None and self._job.done():
            job, self._job = self._job, None
            ended = time.monotonic()
            self._rest_until = ended + (ended - self._began) * (1 / LIVE_SHARE - 1)
            self._newest = job.result()
        return self._newest

    def _complete_lines(self) -> int:
        if self._maps.frames is not None:  # of a place that was scanned before
            return self._maps.shape[0]
        complete = self._maps.done.reshape(self._maps.shape).all(axis=1)
        return int(complete.size if complete.all() else np.argmin(complete))

    def _done(self, result: Result) -> NDArray[np.bool_]:
        if result.shape != self._maps.shape:  # of another sampling: it knows itself
            return np.ones(result.shape, np.bool_)
        return self._maps.done.reshape(self._maps.shape).copy()

    def _begin(self, source: Result, done: NDArray[np.bool_], model: str, *, urgent: bool) -> None:
        own, thread = self._own, shared()

        def job() -> list[Result]:
            if not urgent and self._abandoned:
                raise CancelledError
            file, network = thread.network(model, own.backend, own.threads, device=own.device)
            given = source.image
            image, error = np.zeros_like(given), np.zeros_like(given)
            told: dict[str, Any] = {}
            lines = np.flatnonzero(done.any(axis=1))
            if lines.size:
                part = slice(int(lines[0]), int(lines[-1]) + 1)
                whole = without_holes(given[part], done[part])
                undone: dict[str, Any] = {}
                if urgent and self._maps.frames is None and whole.shape == self._maps.shape:
                    whole, undone = steadied_scan(whole, self._scan)
                cancelled = (lambda: False) if urgent else (lambda: self._abandoned)
                found = finished(whole, file, network, cancelled)
                image[part], error[part] = found.image, found.uncertainty
                image[~done] = error[~done] = 0.0
                told = {**found.told(), **undone}
            info = network.info
            extra = {
                "input": source.name,
                "model": info.model,
                "model_sha256": file.sha256,
                "backend": str(info),
                "lines": int(lines.size),
                **told,
            }
            images = {"restored": image} | ({"uncertainty": error} if urgent else {})
            return [
                Result(
                    f"{source.name}_{name}", pixels, source.units, source.axes, source.pixel_size,
                    extra,
                )
                for name, pixels in images.items()
            ]  # fmt: skip

        self._job = shared().submit(job, urgent=urgent)


def without_holes(image: Image, done: NDArray[np.bool_]) -> Image:
    """Pixels that were not recorded filled from their line, or from the line above.

    `image` and `done` are (ny, nx); the first line has a recorded pixel.
    """
    if done.all():
        return image
    filled = image.copy()
    columns = np.arange(image.shape[1])
    for line in np.flatnonzero(~done.all(axis=1)):
        known = np.flatnonzero(done[line])
        if known.size:
            filled[line] = np.interp(columns, known, image[line, known])
        else:
            filled[line] = filled[line - 1]
    return filled


def _doubt(settings: RestorationSettings) -> str | None:
    for model in (settings.model, settings.final_model):
        try:
            find(model or settings.model)
        except ModelError as error:
            return f"{error.message}; {error.remedy}"
    return None


PLUGIN = Plugin(
    name="restoration",
    summary="an image of the scan restored by a network: noise, scan jitter, fast-scan tails",
    settings=RestorationSettings,
    build=RestorationEngine,
    doubt=_doubt,
    warm=warm,
)
