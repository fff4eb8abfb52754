"""Direct ptychography: the phase of the bright field, through a lens measured in the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from stemd.aberrations import COEFFICIENTS, Aberrations
from stemd.acquisition import Acquisition, Optics
from stemd.beam import Beam
from stemd.blocks import Block, EventBlock
from stemd.engines.base import PositionMaps
from stemd.engines.bright_field.engine import BrightFieldEngine
from stemd.engines.bright_field.settings import BrightFieldSettings
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.averaged import averaged
from stemd.engines.direct.finished import ExactImage
from stemd.engines.direct.growing import GrowingPhase
from stemd.engines.direct.line_kernels import line_kernels
from stemd.engines.direct.live import IMAGE_EVERY_S, LivePhase, Wanted
from stemd.engines.direct.uncertainty import model_error, standard_error
from stemd.engines.lens.finer import MOST_TIMES
from stemd.engines.lens.refined import warm
from stemd.engines.lens.weights import Method
from stemd.errors import StemdError
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import Settings

MOST_KERNEL = 301
"""Positions across of the kernels of a live image, whatever the lens."""


class DirectSettings(BrightFieldSettings):
    """`lens`: "measured" uses what the data say of defocus and two-fold astigmatism where they are
    sure of it, else the mean over what may be it; "told" uses that of the optics.

    `method`: how the cells are weighted. "wiener" gives the least error at every dose; the others
    are there to compare with: "obf", "ssb", "parallax" (which shows nothing in focus) and "icom".
    `upsample`: pixels a position along each axis. Out of focus, cells that look from aside see more
    than the scan's steps do; by "wiener" alone, and live images only repeat their pixels.
    `pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.
    `live`: images of unfinished scans too, through the lens that is told until it is measured.
    `kernel_size`: positions across of the kernels of live images, odd, without what the lens
    itself spreads; the finished image is made without kernels. `search_...`: how far from what is
    told the lens is looked for.
    """

    lens: Literal["measured", "told"] = "measured"
    method: Method = "wiener"
    upsample: Annotated[int, Field(ge=1, le=MOST_TIMES)] = 1
    kernel_size: Annotated[int, Field(ge=3, le=255)] = 31

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, for example {value + 1}")
        return value

    @model_validator(mode="after")
    def _finer_by_wiener(self) -> DirectSettings:
        if self.upsample > 1 and self.method != "wiener":
            raise ValueError(f'upsample = {self.upsample} is for method = "wiener"')
        return self

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase and its standard error."""
        return (f"{engine}_phase", f"{engine}_uncertainty")

    @property
    def uses_measured_lens(self) -> bool:
        """Whether images are made with what was measured."""
        return self.lens == "measured"

    def through_lens_told(self) -> bool:
        """Only where that is asked for."""
        return self.lens == "told"


class DirectEngine(BrightFieldEngine):
    """`direct_phase` and `direct_uncertainty` in radian."""

    again_s = IMAGE_EVERY_S
    _own: DirectSettings

    def __init__(self, settings: DirectSettings) -> None:
        super().__init__(settings.name or "direct", settings)
        self._told_unsure = ""

    @property
    def _times(self) -> int:
        """Pixels of the images a position along each axis."""
        return self._own.upsample

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """See `BrightFieldEngine.start`."""
        self._live: LivePhase | None = None
        super().start(acquisition, settings, maps)

    def _take(self, block: Block, wake: Callable[[], object]) -> None:
        super()._take(block, lambda: None)
        if self._kept.origin is None:  # blocks wait until it is known where the disc is
            return
        new = self._live is None
        live = self._live or LivePhase(self._kept, self._seen, self._maps.shape)
        if new and (before := np.flatnonzero(self._seen.taken)).size:
            live.lines.touch(int(before[0]), int(before[-1]))
        for first, last in _touched(block):
            live.lines.touch(first, last)
        self._live = live
        wake()

    def _make_next(self) -> bool:
        live = self._live
        if self._all_in:
            return super()._make_next()
        if self._ending or not self._own.live or live is None:
            return False
        grown = live.grow((self._settings, *self._through()), self._wanted)
        made = live.image()
        if made is not None and (wanted := live.wanted) is not None:
            image, deviation = made
            there = live.lines.added
            phase, error = self._results(
                image, deviation**2, there, wanted.discs, wanted.lens, measured=wanted.measured
            )
            known = np.where(there, error.image, np.float32(0.0))
            results = [phase, replace(error, image=known)]
            if self._times > 1:
                step = wanted.discs.step_angstrom / self._times
                results = [
                    replace(r, image=_repeated(r.image, self._times), pixel_size=step)
                    for r in results
                ]
            self._newest = [self._whole(r, wanted.discs, wanted.optics) for r in results]
        return grown

    def _wanted(self) -> Wanted | None:
        """What kernels are to be made for; None while the disc is not found."""
        optics, lens, measured = self._through()
        try:
            discs, _ = self._discs(optics, self._maps.shape[0], whole=False)
        except StemdError:  # few patterns have a vague centre; the finished image raises it
            return None
        spread = math.ceil(lens.reach(discs.beam) / discs.step_angstrom)
        size = min(self._own.kernel_size + 2 * spread, MOST_KERNEL, 2 * max(self._maps.shape) - 1)
        return Wanted(discs, optics, lens, measured, size, self._own.method)

    def _through(self) -> tuple[Optics, Aberrations, bool]:
        """How the camera stands, the lens that images are made through, whether it was measured."""
        optics, found = self._settings.optics, self.lens_found
        if found is None or not found.sure or not self._own.uses_measured_lens:
            return optics, Aberrations.of_optics(optics), False
        lens = found.found.apparent or found.found.aberrations
        return found.in_optics(optics) if found.turned else optics, lens, True

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        _, lens, measured = self._through()
        own, found = self._own, self.lens_found
        others = own.method == "wiener" and own.uses_measured_lens and not measured
        possible = found.possible if found is not None and others else ()
        exact = ExactImage(discs, own.method, self._times, own.memory_mb * 1e6)
        exact = exact.for_lenses([lens, *possible])
        made = averaged(exact, lens, possible, go_on)
        if made is None:
            return None
        if made.told < 1.0 and discs.done.shape == self._maps.shape:
            self._tell_unsure(made.words())
        (mostly, _), *_ = made.lenses
        results = self._results(
            made.phase, made.variance, discs.done, discs, mostly, measured=measured,
            apart=made.apart,
        )  # fmt: skip
        about = {**made.about(), "steps_fold": exact.apart > 1}
        return [replace(each, extra={**each.extra, **about}) for each in results]

    def _tell_unsure(self, words: str) -> None:
        """Say that no lens is sure, each time it is new."""
        if words != self._told_unsure:
            self._say(
                "lens_unsure", words,
                remedy="scan with more dose, finer steps or a larger field, or set the optics and "
                'lens = "told" of the engine',
            )  # fmt: skip
        self._told_unsure = words

    def _results(
        self,
        phase: NDArray[np.float32],
        variance: float,
        there: NDArray[np.bool_],
        discs: Discs,
        lens: Aberrations,
        *,
        measured: bool,
        apart: NDArray[np.float32] | None = None,
    ) -> Sequence[Result]:
        """The phase, and its standard error; `there`: the positions that are in the image;
        `apart` (ny, nx): variance of what else is not known.
        """
        names, times = self._own.outputs(self.name), phase.shape[0] // there.shape[0]
        step = discs.step_angstrom / times
        about = {
            **lens.as_optics(),
            "lens": "measured" if measured else "told",
            "method": self._own.method,
        }
        reach = (lens.reach(discs.beam) + discs.beam.airy_radius) / step
        explained = None if self.lens_found is None else self.lens_found.found.explained
        error = standard_error(
            phase, _repeated(there, times), variance, reach, model_error(explained), apart
        )
        return [
            Result(names[0], phase, "rad", "scan", step, about),
            Result(names[1], error, "rad", "scan", step, about),
        ]


def _repeated(image: NDArray[Any], times: int) -> NDArray[Any]:
    """Each pixel times x times."""
    return image.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else image


def _touched(block: Block) -> Iterator[tuple[int, int]]:
    """First and last positions of which a block brings something, or which it completes."""
    probe = block.probe[: block.count]
    if probe.size and (last := int(probe.max())) >= 0:
        yield max(0, int(probe.min())), last
    if isinstance(block, EventBlock):
        for first, stop in block.complete:
            yield first, stop - 1


def _warm(settings: DirectSettings) -> Iterable[object]:
    """The kernels of growing images: a tiny scan's image is made in the other way."""
    points, one = np.zeros((1, 4, 2)), np.ones(1)
    kernels = line_kernels(
        points, one, np.zeros(1, np.int64), np.zeros(COEFFICIENTS), Beam(), 0.5, 3, 4, None
    )
    phase = GrowingPhase(kernels, (2, 4))
    counts = np.zeros((4, 1), np.float32)
    phase.add(np.arange(2), lambda line: counts, np.ones((2, 4), np.bool_))
    return warm(settings)


PLUGIN = Plugin(
    name="direct",
    summary="direct ptychography: phase of the bright field, through a lens measured in the data",
    settings=DirectSettings,
    build=DirectEngine,
    warm=_warm,
)
