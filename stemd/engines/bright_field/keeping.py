"""Engines that keep the bright-field discs of a scan: in one process or in many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemd.acquisition import Acquisition, Optics
from stemd.beam import Beam
from stemd.blocks import Block
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.beside.scan import BesideScan, phase_beam
from stemd.engines.bright_field.collecting import Collecting
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.lattice import lattice_for
from stemd.engines.bright_field.optics import OpticsMeasurement
from stemd.engines.bright_field.settings import BrightFieldSettings
from stemd.settings import Settings

SPARE = {"auto": 1.4, "given": 1.15}
"""Radius that is kept, in semi-angles: the centre moves while it is being found."""


class KeepsDiscs(BesideScan):
    """Their discs as small integers. Implements base.SpreadEngine and base.FindingEngine.

    What is made of them, and when, says one that inherits.
    """

    def __init__(self, name: str, settings: BrightFieldSettings) -> None:
        super().__init__(name)
        self._own = settings

    # engines.base.FindingEngine: parts of few counts cannot tell where the disc is

    def finds(self, settings: Settings) -> bool:
        """Whether the first patterns decide which cells are kept."""
        return settings.optics.center == "auto"

    def found(self) -> Gathered | None:
        """See `Collecting.found`."""
        return self._discs_of.found()

    def follow(self, found: Gathered) -> None:
        """See `Collecting.follow`."""
        self._discs_of.follow(found)

    # engines.base.SpreadEngine

    def merge(self, other: KeepsDiscs) -> None:
        """Add what another part of the same scan has kept."""
        self._discs_of.merge(other._discs_of)

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """See `BrightFieldSettings.gathers_by`."""
        return self._own_of(settings).gathers_by(settings)

    def gathered(self) -> Gathered:
        """See `Collecting.gathered`."""
        return self._discs_of.gathered()

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        self._discs_of.restore(gathered)

    # for those that inherit

    def _keep(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. Raises StemdError for optics that are missing or a scan too large."""
        self._begin(acquisition, maps)
        self._use(settings)
        optics = settings.optics
        beam, pixel, _ = self._beam(optics)
        most, positions = int(self._own.memory_mb * 1e6), acquisition.scan.positions
        lattice = lattice_for(
            beam.convergence_semi_angle_mrad / pixel,
            self._own.pixels_per_angle,
            SPARE["auto" if optics.center == "auto" else "given"],
            positions,
            most,
        )
        detector = acquisition.detector.shape
        self._kept = BrightField(lattice, detector, positions, most, lambda: maps.masked)
        if optics.center != "auto":
            self._kept.place(optics.center)
        bounded = self._is_beside and not self._own.uses_measured_lens
        self._optics = OpticsMeasurement(self.name, maps, detector, bounded=bounded)
        self._discs_of = Collecting(
            self._kept, self._optics.sum, optics, self._optics.disc_so_far, lambda: maps.masked
        )

    def _use(self, settings: Settings) -> None:
        """What is kept of a pattern stays as it was when the scan began."""
        self._settings, self._own = settings, self._own_of(settings)

    def _own_of(self, settings: Settings) -> BrightFieldSettings:
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, BrightFieldSettings)
        return own

    def _beam(self, optics: Optics) -> tuple[Beam, float, float]:
        return phase_beam(self._acquisition, optics)

    def _add_now(self, block: Block) -> None:
        """Keep the discs of a block's patterns."""
        self._discs_of.optics = self._settings.optics
        self._discs_of.add(block)

    def _settle(self) -> None:
        """Everything is there that says which cells are kept."""
        self._discs_of.optics = self._settings.optics
        self._discs_of.settle()
