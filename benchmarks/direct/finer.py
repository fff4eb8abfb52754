"""What `upsample` of `direct` gains over a scan's own grid.

    python -m benchmarks.direct.finer

Coarse steps, a probe of 10 mrad at 300 kV (Airy radius 1.2 angstrom), 20 nm of underfocus that is
told. Printed: correlation with the true phase on the finer grid, of the image on the scan's grid,
interpolated without loss, and of the finer one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.direct import specimens
from benchmarks.direct.cases import Case, counts_of, made, truth_of
from stemd.aberrations import Aberrations
from stemd.virtual.diffraction import Camera

NAMES = (("silica", 20.0), ("rutile", 8.877))
STEPS, TIMES, SIDE, DOSE, DEFOCUS = (0.8, 1.5, 2.2, 3.0), (2, 3), 48, 2e4, 200.0


def interpolated(image: NDArray[np.float32], times: int) -> NDArray[np.float64]:
    """The same frequencies on a finer grid."""
    aside = [(times - 1) * n // 2 for n in image.shape]
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    padded = np.pad(spectrum, [(n, n) for n in aside])
    return np.asarray(np.fft.ifft2(np.fft.ifftshift(padded)).real * times**2)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.parse_args()
    specimens.register()
    for name, thickness in NAMES:
        for step in STEPS:
            case = Case(name, DOSE, Aberrations(DEFOCUS), SIDE, step, thickness, 5,
                        Camera((36, 36), 1.0), angle_mrad=10.0)  # fmt: skip
            counts, told = counts_of(case.microscope()), case.lens.as_optics() | {"measured": "off"}
            coarse = made(case, counts, {"direct": {}}, **told)[0]["direct_phase"].image
            for times in TIMES:
                own = {"direct": {"upsample": times}}
                fine = made(case, counts, own, **told)[0]["direct_phase"].image
                truth = truth_of(replace(case, side=SIDE * times, step=step / times))
                inner = (slice(8 * times, -8 * times),) * 2
                found = [
                    np.corrcoef(image[inner].ravel(), truth[inner].ravel())[0, 1]
                    for image in (interpolated(coarse, times), fine)
                ]
                print(f"{name:8s} step {step}  x {times}: interpolated {found[0]:.3f}, "
                      f"upsample {found[1]:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
