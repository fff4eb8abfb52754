"""What AIRPI tells of a scan, each kind once."""

from __future__ import annotations

import weakref
from types import MethodType
from typing import Any, Protocol, cast

from stemd.beam import Beam
from stemd.blocks import Level
from stemd.engines.airpi.neighbourhoods import Neighbourhood
from stemd.engines.first_patterns import Found

ANGLE_OFF = 0.15
"""Part by which a fitted disc may differ from the convergence angle without a word."""
LEAST_GAIN = 0.5
"""Slope of the data against the network's image below which the two contradict each other."""
FASTER = "a faster processor, or fewer positions, makes it whole during the scan"


class Say(Protocol):
    """Tells a notice: its kind, its text, what to do about it (empty: what the record can do)."""

    def __call__(
        self,
        kind: str,
        text: str,
        *,
        remedy: str = "",
        level: Level = "warning",
        mended: bool = False,
    ) -> None:
        """Tell it. `mended`: by a record, where there is one."""
        ...


class Warnings:
    """Of one scan. `say`, a method, is called at most once for each kind, by any thread.

    Its owner is not held: an engine that has ended is gone at once, with its scan.
    """

    def __init__(self, say: Say) -> None:
        self._say = weakref.WeakMethod(cast(MethodType, say))
        self._said = set[str]()

    def _once(self, kind: str, text: str, remedy: str = "", **more: Any) -> None:
        if kind not in self._said:
            self._said.add(kind)
            say = self._say()
            if say is not None:
                say(kind, text, remedy=remedy, **more)

    def angle(self, found: Found, beam: Beam, pixel_mrad: float) -> None:
        """The disc is not as large as the optics say, if so."""
        if found.radius is None:
            return
        fitted, alpha = found.radius * pixel_mrad, beam.convergence_semi_angle_mrad
        if abs(fitted / alpha - 1.0) > ANGLE_OFF:
            self._once(
                "angle",
                f"the disc of the first patterns has a radius of {fitted:.3g} mrad, "
                f"optics.convergence_semi_angle_mrad is {alpha:g}: the disc's is taken",
                "correct convergence_semi_angle_mrad or pixel_size_mrad",
            )

    def lens(self, text: str) -> None:
        """The scan is not of those that the network was trained with, if there is a text."""
        if text:
            self._once("lens", text, "change that at the microscope, or use the engine direct")

    def other_lens(self, text: str) -> None:
        """The data have another lens than the network was told, if there is a text."""
        if text:
            self._once(
                "lens_disagrees", text,
                "focus the microscope, or set what was measured in the optics; "
                'optics.measured = "use" does it by itself',
            )  # fmt: skip

    def lens_unsure(self, unsure: bool) -> None:
        """The data do not show the lens, if so, and no other reason was told."""
        if unsure and not self._said & {"thick", "lens"}:
            self._once(
                "lens_unsure",
                "the data do not show which lens they were taken with. The network believes the "
                "one that was told: if the beam was not as told, the image shows what is not there",
                "focus on a place that shows more, or scan with more dose, finer steps or a larger "
                "field",
            )

    def thick(self, part: float) -> None:
        """So large a part of what the bright field sees is no thin specimen's, if any."""
        if part > 0.0:
            self._once(
                "thick",
                f"one thin specimen does not explain {part:.0%} of what the bright field sees: the "
                "specimen is thicker than those that the network was trained with (up to 3 nm). "
                "Atoms may be shown too weak, doubled or ringed, and the phase is no measure",
                "scan a thinner place; for where atoms are, a dark-field image of virtual_detector",
            )

    def gain(self, gain: float) -> None:
        """The data contradict the network, if so, and nothing else that was told explains it."""
        if gain < LEAST_GAIN and "thick" not in self._said:
            self._once(
                "doubt",
                "the data do not bear out what the network shows: its part of the image was made "
                "weaker. The specimen may be too thick for it, or the optics other than was told",
                "correct the microscope or the optics, or use the engine direct",
            )

    def coarser(self, line: int, chosen: Neighbourhood, remedy: str) -> None:
        """From this line on the network is given fewer positions."""
        m = chosen.repetition
        each = f", each with the electrons of {m**2}" if m > 1 else ""
        text = (
            f"the network is slower than the camera: from line {line} on it works on one of "
            f"{chosen.every**2} positions{each}"
        )
        self._once("coarser", text, f"{remedy}; {FASTER}")

    def hurried(self, remedy: str) -> None:
        """There was no time to look for the lens."""
        self._once(
            "hurried",
            "there was no time to measure the lens to the end after the scan: the image is held to "
            "the data through what was known of it until then",
            f"{remedy}; a faster processor looks for it in time",
        )

    def fitted(self, part: float) -> None:
        """So large a part of the image of a strong specimen was fitted to what the cells count."""
        strong = "the phase of this specimen is too strong for the linear estimate, and "
        if part == 0.0:
            self._once(
                "unfitted",
                f"{strong}there was no time to fit the whole image to what the bright field "
                "counts: the middle of the scan was fitted, and the image is the one nearest to it "
                "that was at hand",
                mended=True,
            )
        elif part < 1.0:
            self._once(
                "fitted_in_part",
                f"{strong}the scan has so many positions that only {part:.0%} of them, those about "
                "its middle, were fitted to what the bright field counts: outside of them the "
                "image is joined with the linear estimate",
                "scan a smaller field where the outer parts matter",
                level="info",
            )

    def not_held(self, why: str, remedy: str) -> None:
        """The bright field cannot be kept."""
        text = f"the image is held to the centre of mass alone: {why}"
        self._once("not_held", text, remedy)
