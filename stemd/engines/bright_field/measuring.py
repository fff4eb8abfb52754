"""The lens of a scan from its bright-field cells, and the disc of its summed pattern."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.engines.bright_field.counted import (
    SMALL_CELL,
    counts_of,
    patterns_of,
    points_of,
    usable_cells,
)
from stemd.engines.bright_field.view import Discs, Vectors
from stemd.engines.lens.beyond import found_beyond, may_spread_beyond, spreads_beyond
from stemd.engines.lens.cells import TURN, Cells
from stemd.engines.lens.estimate import Cell, Frequencies
from stemd.engines.lens.finer import CLEARLY_FOLDED, Finer, grid_times, times_for
from stemd.engines.lens.folded import Folded
from stemd.engines.lens.found import DiscFound, LensFound
from stemd.engines.lens.measure import NOTHING_AT_TOP, STRONG, Measured, Search, measured
from stemd.engines.lens.patterns import Patterns
from stemd.engines.lens.refined import refined
from stemd.engines.lens.shifts import Shifts
from stemd.engines.probe import RAYS, fit_disc
from stemd.engines.vectors import to_scan_axes
from stemd.errors import StemdError
from stemd.pixels import Mask

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SEARCHED_SIDE, FITTED_SIDE = 32, 96
"""Positions across the middle part of a scan in which the lens is searched for, and fitted."""
FOLDED_SIDE = 24
"""Likewise, where waves that the steps fold together are told apart."""
REFINED_SIDE, REFINED_POINTS = 48, 150
"""Likewise, and points of the disc, with which phase and lens are found together: 3 s."""
LEAST_SIDE = 16
"""Positions across below which no lens is looked for."""
CONVINCING = 0.95
"""Quality of a peak from which on no other rotation of the camera is tried, if it is that told."""
SAME_STAND_DEG = 10.0
"""Two rotations that are no further apart are one."""
CLEAR = 6.0
"""Times the scatter of all shifts that the best one must stand out before lens and phase are looked
for by it, which takes some 20 s."""
LEAST_CENTER, LEAST_RADIUS, LEAST_OVAL = 0.0125, 0.012, 0.05
"""Pixels by which the disc's edge is off beside its scatter: it is sampled by pixels."""


def lens_found(
    discs: Discs,
    vectors: Vectors,
    turns: Sequence[tuple[float, bool]],
    optics: Optics,
    search: Search,
    go_on: Callable[[], bool],
    sooner: Callable[[LensFound], object] | None,
) -> LensFound | None:
    """What the cells of a whole scan say of the optics; None where the scan is too small for it.

    `vectors`: those of the discs for other optics; `turns`: other rotations and flips that the
    camera may have, which are tried where those told do not explain the data. A lens that is sure
    is found once more, together with the phase (`lens.refined`), which takes seconds; `sooner` is
    told what it is before, None: that is all. Raises StoppedError once `go_on` says no.
    """
    told = Aberrations.of_optics(optics)
    best = _measured(discs, told, search, go_on)
    if best is None:
        return None
    stands, possible = optics, best.possible
    # one that is found turned may be mirrored instead, and a mirrored crystal may look as one
    # that is not: then the other hand explains the cells better
    as_told = _aside(best.turn_deg, 0.0) < SAME_STAND_DEG
    as_told &= not turns or any(flip == optics.flip for _, flip in turns)
    for rotation, flip in () if as_told and best.sure and best.quality > CONVINCING else turns:
        other = optics.model_copy(update={"rotation_deg": rotation, "flip": flip})
        second = _measured(replace(discs, vectors=vectors(other)), told, search, go_on)
        if second is None:
            continue
        aside = _aside(rotation + second.turn_deg, stands.rotation_deg + best.turn_deg)
        if flip == stands.flip and aside < SAME_STAND_DEG:
            # climbed to from far away, where the search does not show how clear the peak is
            better = second.quality > best.quality
        else:
            better = second.evidence > best.evidence + STRONG
        if better:
            best, stands = second, other

    if not best.sure:
        beyond = _found_beyond(discs, told, best, search, go_on)
        if beyond is not None and beyond.sure:
            best, stands, possible = beyond, optics, beyond.possible

    def found_with(lens: Measured) -> LensFound:
        lens = _without_descan(lens, discs, stands)
        return LensFound(
            told=told,
            found=lens,
            rotation_deg=180.0 - (180.0 - stands.rotation_deg - lens.turn_deg) % 360.0,
            flip=stands.flip,
            told_rotation_deg=optics.rotation_deg,
            told_flip=optics.flip,
            possible=possible,
        )

    folds = times_for(discs.beam, discs.step_angstrom) > 1
    if sooner is not None and best.sure:
        if not folds:  # else it may not be sure in the end
            sooner(found_with(best))
        best = _refined(best, replace(discs, vectors=vectors(stands)), go_on)
    found = found_with(best)
    if not folds:
        return found
    seen = replace(discs, vectors=vectors(found.in_optics(optics) if found.turned else optics))
    return _told_apart(found, seen, search, go_on)


def _aside(one_deg: float, other_deg: float) -> float:
    """How far apart two rotations are, in degree."""
    return abs((one_deg - other_deg + 180.0) % 360.0 - 180.0)


def _refined(found: Measured, discs: Discs, go_on: Callable[[], bool]) -> Measured:
    """What was found, made more exact on the middle of the scan."""
    return refined(found, _patterns(discs), discs.beam, discs.step_angstrom, go_on)


def _patterns(discs: Discs) -> Patterns:
    """What cells count in the middle of the scan."""
    every = -(-points_of(discs) // REFINED_POINTS)
    return patterns_of(discs, *_middle(discs, REFINED_SIDE), slice(None, None, every))


def _found_beyond(
    discs: Discs, told: Aberrations, found: Measured, search: Search, go_on: Callable[[], bool]
) -> Measured | None:
    """The lens by the shifts of the cells, of a scan not much wider than the probe; else None."""
    width = min(discs.done.shape) * discs.step_angstrom
    folds = times_for(discs.beam, discs.step_angstrom) > 1
    if folds or not may_spread_beyond(told, search, discs.beam, width):
        return None
    used, points = usable_cells(discs)
    counts, done = counts_of(discs, used, *_middle(discs, REFINED_SIDE))
    shifts = Shifts(counts, points.mean(axis=1), done, discs.beam, discs.step_angstrom)
    at = shifts.place(told, search, go_on)
    if at is None:
        return None
    place, clear = at
    lens = Aberrations.of(place[:TURN], discs.beam)
    if clear < CLEAR or not spreads_beyond(lens, discs.beam, width):
        return None
    return found_beyond(
        place, found.possible, told, _patterns(discs), discs.beam, discs.step_angstrom, search,
        go_on,
    )  # fmt: skip


def _told_apart(
    found: LensFound, discs: Discs, search: Search, go_on: Callable[[], bool]
) -> LensFound:
    """What was found in a scan whose steps fold, by waves that are told apart.

    The lens is not ahead of one that explains these better, and the images are made through that.
    """
    used, points = usable_cells(discs)
    part = _part(discs, used, points, FOLDED_SIDE, whole=True).coarser()
    folded = Folded(part, discs.beam, discs.step_angstrom, go_on)
    # of cells that show nothing these may still show a lens, if it is clear
    tops = folded.tops(found.told, search, -math.inf if found.possible else NOTHING_AT_TOP)
    if not tops:
        return found
    lens, best = found.found.apparent or found.found.aberrations, found.found
    if folded.apart(lens, tops[0][1]):
        best = replace(best, lead=min(best.lead, folded.evidence(lens) - tops[0][0]))
    possible = [top for _, top in tops]
    for other in found.possible:  # the search for the tops does not reach so far
        if all(folded.apart(other, top) for top in possible):
            possible.append(other)
    return replace(found, found=best, possible=tuple(possible))


def folds_seen(discs: Discs, lens: Aberrations) -> bool:
    """Whether the middle of a scan clearly shows waves that its steps fold, through this lens."""
    used, points = usable_cells(discs)
    times = grid_times(discs.beam, discs.step_angstrom)
    if times == 1 or not used.size or min(discs.done.shape) < LEAST_SIDE:
        return False
    plain, whole = (_part(discs, used, points, REFINED_SIDE, whole=each) for each in (False, True))
    place = np.append(lens.coefficients(discs.beam), 0.0)
    apart = Finer(whole.at, discs.beam, discs.step_angstrom, times, place[:TURN])
    for cell in whole:
        apart.add(cell)
    return apart.solved()[2] > plain.evidence(place) + CLEARLY_FOLDED


def _without_descan(found: Measured, discs: Discs, stands: Optics) -> Measured:
    """What was measured, of a disc that wanders over the detector.

    The lens moves the image of a cell at the angle t by M t, M the second derivatives of the
    aberration function. Where the disc wanders by D an angstrom a cell has the angle t - D r at
    the position r, so that what is there as M is M' with 1 / M' = 1 / M - D.
    """
    if discs.wanders is None:
        return found
    y, x = to_scan_axes(discs.wanders[0], discs.wanders[1], stands)
    lens = found.aberrations
    seen = np.array(
        [
            [-lens.defocus - lens.astigmatism_x, lens.astigmatism_y],
            [lens.astigmatism_y, -lens.defocus + lens.astigmatism_x],
        ]
    )
    true = seen @ np.linalg.inv(np.eye(2) + np.stack([y, x]) @ seen)
    moved = replace(
        lens,
        defocus=float(-(true[0, 0] + true[1, 1]) / 2),
        astigmatism_x=float((true[1, 1] - true[0, 0]) / 2),
        astigmatism_y=float((true[0, 1] + true[1, 0]) / 2),
    )
    return replace(found, aberrations=moved, apparent=lens)


def _measured(
    discs: Discs, told: Aberrations, search: Search, go_on: Callable[[], bool]
) -> Measured | None:
    used, points = usable_cells(discs)
    if min(discs.done.shape) < LEAST_SIDE or not used.size:
        return None
    coarse, fine = (_part(discs, used, points, side) for side in (SEARCHED_SIDE, FITTED_SIDE))
    return measured(coarse, fine, told, discs.beam, search, go_on)


def middle_cells(discs: Discs, side: int) -> Cells | None:
    """The cells of the middle of a scan, at most `side` positions across, by their middles; None
    where there are none."""
    used, points = usable_cells(discs)
    return _part(discs, used, points, side).with_middles() if used.size else None


def disc_found(pattern: NDArray[np.int64], masked: Mask | None) -> DiscFound | None:
    """The disc of a summed pattern, None where there is none to be seen.

    The edge is found along rays; its scatter about the circle gives the errors, of which
    neighbouring rays have only one to a pixel.
    """
    image = pattern.astype(np.float64)
    if masked is not None and masked.any():
        image[masked] = float(np.median(image[~masked])) if not masked.all() else 0.0
    try:
        disc = fit_disc(image)
    except StemdError:
        return None
    edges = max(8.0, min(RAYS, 2.0 * np.pi * disc.radius) / 2.0)
    scatter = 1.48 * disc.spread / np.sqrt(edges)
    return DiscFound(
        disc.center,
        float(np.hypot(np.sqrt(2.0) * scatter, LEAST_CENTER)),
        disc.radius,
        float(np.hypot(scatter, LEAST_RADIUS)),
        (float(np.hypot(*disc.oval)), float(np.degrees(np.arctan2(*disc.oval[::-1]))) / 2),
        float(np.hypot(np.sqrt(8.0) * scatter, LEAST_OVAL) / disc.radius),
    )


def _middle(discs: Discs, side: int) -> tuple[slice, slice]:
    """Rows and columns of the middle of a scan, at most `side` positions across."""
    ny, nx = (
        slice((n - min(n, side)) // 2, (n - min(n, side)) // 2 + min(n, side))
        for n in discs.done.shape
    )
    return ny, nx


def _part(
    discs: Discs, used: NDArray[np.int64], points: F64, side: int, *, whole: bool = False
) -> Cells:
    """The middle of a scan, at most `side` positions across; `whole`: at all frequencies."""
    ny, nx = discs.done.shape
    rows, columns = _middle(discs, side)
    at = Frequencies(
        discs.done[rows, columns], discs.beam, discs.step_angstrom, level=True, whole=whole
    )
    cells = []
    for cell, point in zip(used, points, strict=True):
        image = discs.images(slice(int(cell), int(cell) + 1))[0].reshape(ny, nx)[rows, columns]
        spectrum, counts = at.spectrum_of(np.ascontiguousarray(image))
        if counts > 0.0:
            cells.append(Cell(spectrum, counts, point))
    part = Cells.of(at, cells)
    return part if discs.cell / discs.radius > SMALL_CELL else part.with_middles()
