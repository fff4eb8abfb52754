"""What phase engines that may be slower than the camera share: queue and losses.

Without a camera `consume` does the work. Beside a scan blocks go through a bounded queue to two
threads (`Beside`); blocks that find no room are left out, and one notice tells each kind of loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics
from stemd.beam import Beam
from stemd.blocks import Block, Level, Notice
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.beside.positions_taken import PositionsTaken
from stemd.engines.beside.worker import Beside
from stemd.engines.diffraction_grid import beam_angles
from stemd.errors import StemdError

Wake = Callable[[], object]


class BesideScan(ABC):
    """Base of such engines; implements the part of base.SlowEngine that they share.

    `cut` is what becomes of an image that is abandoned, as kind of notice and in words; `again_s`
    as for `Beside`.
    """

    cut: ClassVar[tuple[str, str]]
    again_s: ClassVar[float | None] = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._tell: Callable[[Notice], None] = lambda notice: None
        self._is_beside = False
        self._beside: Beside | None = None
        self._ending = self._given_up = False
        self._told_left_out = self._counted_left_out = False

    def prepare(self, tell: Callable[[Notice], None], *, beside: bool) -> None:
        """See engines.base.SlowEngine."""
        self._tell, self._is_beside = tell, beside

    def consume(self, item: Positions | Block) -> None:
        """Take a block in, or put it into the queue."""
        assert not isinstance(item, tuple)
        if self._beside is None:
            self._add_now(item)
        elif not self._beside.offer(item) and not self._given_up:
            self._seen.leave_out(item)
            if self._seen.lost and not self._told_left_out:
                self._told_left_out = True
                self._say("left_out", "patterns come faster than they can be taken in: some are "
                          "left out of the image", 0)  # fmt: skip

    def finish(self) -> None:
        """No more blocks will come."""
        self._ending = True
        if self._beside is not None:
            self._beside.finish()

    def wait(self, timeout_s: float) -> bool:
        """After `finish`: whether everything is done, waiting for it for a while."""
        if self._beside is None:
            return True
        if not self._beside.wait(timeout_s):
            return False
        lost = self._lost
        if lost and not self._counted_left_out:
            self._counted_left_out = True
            self._say("left_out", f"{lost:,} positions are not in the image", lost)
        return True

    def abandon(self, why: str = "") -> None:
        """Abandon unfinished work; a notice gives the reason `why`."""
        undone = self._beside is not None and not self._beside.wait(0.0)
        self._ending = self._given_up = True
        if self._beside is not None and undone:
            self._beside.abandon()
            if why:
                kind, text = self.cut
                self._say(kind, f"the image was {text}: {why}")

    def lacking(self) -> int:
        """Positions that had a pattern and are not, or only coarsely, in the image."""
        if self._beside is None:
            return 0
        return int(np.count_nonzero(self._maps.done & ~self._in_image))

    # for those that inherit

    def _begin(self, acquisition: Acquisition, maps: PositionMaps) -> None:
        """A scan begins."""
        self._acquisition, self._maps = acquisition, maps
        self._seen = PositionsTaken(acquisition.scan.positions)
        self._ending = self._given_up = False
        self._told_left_out = self._counted_left_out = False

    def _start_threads(self) -> None:
        """Everything is allocated: blocks may come."""
        if self._is_beside:
            self._beside = Beside(
                self.name, self._take, self._complete, self._make_next, self.again_s
            )

    @property
    def _lost(self) -> int:
        """Positions that are left out of the image."""
        return self._seen.lost

    @property
    @abstractmethod
    def _in_image(self) -> NDArray[np.bool_]:
        """Flat, (positions,): which are in the image as finely as the engine can make them."""

    @abstractmethod
    def _add_now(self, block: Block) -> None:
        """Take a block in and do all of its work."""

    @abstractmethod
    def _take(self, block: Block, wake: Wake) -> None:
        """See `Beside`: take a block in."""

    @abstractmethod
    def _complete(self, wake: Wake) -> None:
        """See `Beside`: all blocks are in."""

    @abstractmethod
    def _make_next(self) -> bool:
        """See `Beside`: do one piece of work."""

    @property
    def _remedy(self) -> str:
        return (
            "the scan's record makes the whole image: by itself after the scan, where stemd "
            f"records and {self.name}.complete is on, else with stemd process"
        )

    @property
    def _completes(self) -> bool:
        """Whether a record is to make what the image lacks."""
        return True

    def _say(
        self,
        kind: str,
        text: str,
        count: int = 1,
        remedy: str = "",
        level: Level = "warning",
        *,
        mended: bool = False,
    ) -> None:
        """`mended`: a record, where there is one, makes it good by itself."""
        remedy, mended = remedy or self._remedy, mended and self._completes
        self._tell(
            Notice(f"{self.name}_{kind}", f"{self.name}: {text}", level, count, remedy, mended)
        )


def phase_beam(acquisition: Acquisition, optics: Optics) -> tuple[Beam, float, float]:
    """The beam with what is round of its lens, detector pixel (mrad) and scan step (angstrom).

    Raises StemdError: what is missing.
    """
    alpha, pixel = beam_angles(optics)
    if optics.energy_ev is None:
        raise _missing("optics.energy_ev", "[pipeline.optics]")
    step = acquisition.scan.step_size_angstrom
    if step is None:
        raise _missing("scan.step_size_angstrom", "the scan of [pipeline.adapter]")
    return Beam(optics.energy_ev, alpha, 10.0 * optics.defocus_nm, optics.cs_mm), pixel, step


def _missing(key: str, where: str) -> StemdError:
    """The error for a number without which there is no phase."""
    return StemdError(f"{key} is not set, and without it there is no phase",
                      f"set {key.split('.')[-1]} in {where}")  # fmt: skip
