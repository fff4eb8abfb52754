"""The image of a stitched object: its coarse structure restored, held to what the data say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.airpi.bright import THREADS, Evidence
from stemd.engines.airpi.claims import belief
from stemd.engines.airpi.geometry import ObjectGeometry
from stemd.engines.airpi.joined import Joined, joined, mixed, waves_of
from stemd.engines.airpi.measured_slopes import correction
from stemd.engines.airpi.patch_offsets import image_of, restored_spectrum, without_mean
from stemd.engines.airpi.side_by_side import side_by_side
from stemd.engines.airpi.slopes import Frame, Slopes, near_known
from stemd.engines.airpi.strong import Strong, fitted, strong
from stemd.engines.lens.estimate import REACH

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]


EVEN, EVEN_STRONG = 0.2, 0.5
"""Part of the error's power that is the same everywhere; and of strong specimens, of which the
thin support has errors of its own. Chosen on seeds 7501 and 7502, see decision 48."""
IGNORANT = math.pi / math.sqrt(3.0)
"""Standard deviation in radian of a phase of which nothing is known."""
COARSE = 4.0
"""Standard deviation, in positions, of the blur behind which the joined image is believed."""


@dataclass(frozen=True, slots=True)
class Averaged:
    """Weights (p, p) on the object's pixels by which a patch's mean was `taken`, and by which
    patches are averaged, `by`.
    """

    taken: F64
    by: F64


@dataclass(frozen=True, slots=True)
class Images:
    """Phase in radian, of mean 0, and weight, float32; 0 where nothing is known.

    `sigma` (h, w): standard error of the phase in radian, `gain`: slope of the data against the
    network's image, `believed`: part of the network's image that was used, 0 to 1; None where
    nothing says how large they are. `fitted`: of a strong specimen, the part of the image that was
    fitted to what the cells count, 0 where there was no time for more than its middle; None of any
    other.
    """

    phase: F32
    weight: F32
    sigma: F32 | None = None
    gain: float | None = None
    believed: float | None = None
    fitted: float | None = None


def finished(
    phase: F32,
    weight: F32,
    lines: NDArray[np.int64],
    of: ObjectGeometry,
    columns: int,
    averaged: Averaged,
    least_transfer: float,
    slopes: Slopes | None,
    evidence: Sequence[Evidence],
) -> Images:
    """What is shown of a stitched object (h, w) of which these scan `lines` are made.

    `least_transfer`: see `patch_offsets.restored_spectrum`. `slopes` of the whole scan, if
    the phase is to agree with them; `evidence` likewise, once the scan is over, through each lens
    that may be the true one: the mean is shown, and what they differ by is in `sigma`. What lies
    outside of the lines made, about which patches are on one side only, is left out.
    """
    whole, sure = np.zeros_like(phase), np.zeros_like(weight)
    if not lines.size:
        return Images(whole, sure)
    rows = of.between(int(lines[0]), int(lines[-1]))
    inside = of.between(0, columns - 1)
    box = np.s_[rows.start : rows.stop, inside.start : inside.stop]
    known = weight[box] > 0
    if not known.any():
        return Images(whole, sure)
    shape = rows.stop - rows.start, inside.stop - inside.start
    spectrum = restored_spectrum(
        without_mean(phase[box], known), averaged.taken, averaged.by, least_transfer
    )
    pixel, step = of.pixel_angstrom, of.step_size_angstrom
    first = (
        (rows.start - of.origin) * pixel - int(lines[0]) * step,
        (inside.start - of.origin) * pixel,
    )
    network = _Network(spectrum, image_of(spectrum, shape), of, slopes, int(lines[0]), first)
    sure[box] = weight[box]
    if slopes is not None:
        part = slopes.lines(int(lines[0]), int(lines[-1]) + 1)
        network = replace(network, part=part)
        # between patches that do not meet, positions still have a slope
        known |= near_known(shape, Frame(pixel, first), part)
    if not evidence:
        whole[box] = without_mean(network.held(1.0, None), known)
        return Images(whole, sure)
    joint, found = network.joined_and_strong(evidence)
    if found is None:
        whole[box] = without_mean(joint.phase, known)
        error = error_map(whole, sure, joint.sigma, joint.there, EVEN)
        return Images(whole, sure, error, joint.gain, joint.believed)
    image, sigma, done = network.of_strong(evidence[0], found, joint)
    whole[box] = without_mean(image, known)
    error = error_map(whole, sure, sigma, joint.there, EVEN_STRONG)
    return Images(whole, sure, error, None, 1.0, fitted=done)


def error_map(phase: F32, weight: F32, sigma: float, there: float, even: float) -> F32:
    """The standard error (h, w) of a phase, 0 where nothing is shown; `sigma` is its root mean
    square, but no phase is less known than one of which nothing is.

    Where less is shown or known to be unsure than there is, by the dark field, that is added: half
    way, by geometric mean, between what an image lacks that is too weak as a whole, and one that
    lacks waves. What is not known of atoms is where they are: of the error's power so large a part
    is `even`, the rest is in proportion to the phase.
    """
    inside = (weight > 0.0) | (phase != 0.0)
    number = max(1, int(np.count_nonzero(inside)))
    size = np.abs(phase)
    mean = float(size.sum(dtype=np.float64)) / number
    if mean == 0.0:
        return np.where(inside, np.float32(IGNORANT), np.float32(0.0))
    known = sigma**2 + float(np.square(phase, dtype=np.float64).sum()) / number
    variance = sigma**2 + max(0.0, there - math.sqrt(there * known))
    spread = np.float32(even) + np.float32((1.0 - even) / mean) * size
    error = np.minimum(np.sqrt(np.float32(variance) * spread), np.float32(IGNORANT))
    return np.where(inside, error, np.float32(0.0))


@dataclass(frozen=True, slots=True)
class _Joint:
    """A phase (h, w), the mean through all lenses that may be the true one; as of `Images`, but
    for `sigma`, the root mean square of the standard error. `there`: as of `joined.Compromise`.
    """

    phase: F32
    sigma: float
    gain: float
    believed: float
    there: float


@dataclass(frozen=True, slots=True)
class _Network:
    """A network's `image` (h, w) and its `spectrum`, before anything else is known.

    `slopes` of the whole scan and the `part` of them in whose lines the image lies, from `line`
    on; `first`: where its first pixel lies from that line's first position, angstrom.
    """

    spectrum: C64
    image: F32
    of: ObjectGeometry
    slopes: Slopes | None
    line: int
    first: tuple[float, float]
    part: Slopes | None = None

    def held(self, believed: float, lens: Aberrations | None) -> F32:
        """So much of it, held to the slopes as seen through this lens, else the beam's."""
        image = self.image * np.float32(believed)
        if self.part is not None:
            frame = Frame(self.of.pixel_angstrom, self.first)
            spectrum = self.spectrum * np.float32(believed)
            image += correction(spectrum, image.shape, frame, self.part, self.of.beam, lens)
        return image

    def through(self, evidence: Evidence) -> tuple[Joined, float]:
        """Joined with the linear estimate through a lens; and how far it was believed before."""
        step, beam, at = self.of.step_size_angstrom, self.of.beam, self._from_first()
        believed = belief(waves_of(self.image, at, evidence, step, beam), evidence)
        if evidence.expected is None or believed == 1.0:
            image = self.held(believed, evidence.lens)
            return joined(image, at, evidence, step, beam, self.slopes, believed), believed
        nothing = np.zeros_like(self.image)
        without = joined(nothing, at, evidence, step, beam)
        if not believed:
            return without, believed
        image = self.held(1.0, evidence.lens)
        both = joined(image, at, evidence, step, beam, self.slopes)
        return mixed(both, without, believed), believed

    def joined(self, evidence: Sequence[Evidence]) -> _Joint:
        """Joined with the linear estimates; what they differ by is in the standard error."""
        threads = THREADS if evidence[0].hasty else 1
        made = side_by_side(self.through, evidence, threads)
        image = np.zeros(self.image.shape, np.float32)
        variance = gain = believed = there = 0.0
        for (both, belief_in), each in zip(made, evidence, strict=True):
            image += np.float32(each.part) * both.phase
            gain += each.part * both.gain
            believed += each.part * belief_in
            there += each.part * both.there
        for (both, _), each in zip(made, evidence, strict=True):
            apart = float(np.square(both.phase - image, dtype=np.float64).mean())
            variance += each.part * (both.sigma**2 + apart)
        return _Joint(image, math.sqrt(variance), gain, believed, there)

    def joined_and_strong(self, evidence: Sequence[Evidence]) -> tuple[_Joint, Strong | None]:
        """See `joined` and `strong`; side by side where the image is waited for."""
        if not evidence[0].hasty:
            return self.joined(evidence), self.strong(evidence[0])
        with ThreadPoolExecutor(1, "side-by-side") as pool:
            found = pool.submit(self.strong, evidence[0])
            return self.joined(evidence), found.result()

    def strong(self, evidence: Evidence) -> Strong | None:
        """What counts say of a strong specimen, if it is one."""
        return strong(self.image, self._from_first(), evidence)

    def of_strong(
        self, evidence: Evidence, found: Strong, joint: _Joint
    ) -> tuple[F32, float, float]:
        """The phase of a strong specimen, its standard error, and which part of it is fitted.

        As far as that is better it is the fitted one, else the joined one.
        Where there is no time for the whole scan it is the network's or the joined one: that which
        is more like what was fitted in the middle. That began at the network's, so where the linear
        estimate is not wrong it is the joined one.
        """
        at, better = self._from_first(), found.better
        if not evidence.hasty:
            made = fitted(self.image, at, evidence, found)
            best = np.where(made.where, made.phase, joint.phase)
            image = self._within(joint.phase, best, better)
            # the greater one: with the less of the two fewer of the true phases lay within
            return image, max(made.sigma, joint.sigma), made.part
        image = joint.phase
        if found.wrong > 0.0:
            network = self._within(joint.phase, np.float32(found.scale) * self.image, 1.0)
            image = max(network, joint.phase, key=lambda image: found.alike(image, at))
        unlike = math.sqrt(max(0.0, 1.0 - found.alike(image, at) ** 2))
        return image, max(joint.sigma, unlike * float(image.std())), 0.0

    def _within(self, joint: F32, image: F32, part: float) -> F32:
        """The joined image, and so much of what the other one has besides where counts decide.

        Not of what is coarse: patches have no mean phase, and the fit in tiles begins at what they
        say and hardly moves what is coarser than its surroundings, so that holes were brighter than
        the crystal about them. Nor of what is finer than cells see: there a strength that the
        counts have found for the coarser waves would make the network's errors stronger.
        """
        more = np.pad(image - joint, [(n // 2, n - n // 2) for n in image.shape], mode="symmetric")
        pixel = self.of.pixel_angstrom
        frequency = np.hypot(
            np.fft.fftfreq(more.shape[0], pixel)[:, None], np.fft.rfftfreq(more.shape[1], pixel)
        )
        sigma = COARSE * self.of.step_size_angstrom
        kept = part * (1.0 - np.exp(-2.0 * (np.pi * sigma * frequency) ** 2))
        kept[frequency >= REACH * self.of.beam.aperture] = 0.0
        more = np.fft.irfft2(np.fft.rfft2(more) * kept, more.shape)
        inner = tuple(slice(n // 2, n // 2 + n) for n in image.shape)
        return np.asarray(joint + more[inner], np.float32)

    def _from_first(self) -> Frame:
        """Where the image lies from the scan's first position."""
        step = self.of.step_size_angstrom
        return Frame(self.of.pixel_angstrom, (self.first[0] + self.line * step, self.first[1]))
