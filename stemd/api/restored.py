"""`restore`: an image of any microscope through a restoration network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.api import plan
from stemd.api.images import Image
from stemd.errors import StemdError, UsageError


def restore(
    image: Any,
    *,
    model: str = "restoration",
    backend: str = "auto",
    threads: int = 1,
    pixel_size_angstrom: float | None = None,
    picture: str | None = None,
) -> Image:
    """The image without noise, scan jitter and fast-scan tails: same unit, mean and pixels.

    `image`: an `Image`, an array (y, x), or the path of a TIFF, MRC, DM3, DM4, EMD or SER file,
    and of several images in it the name of one in `picture` (`"HAADF"`, or `"HAADF[3]"` of a
    stack).
    `model`: a name of `stemd models list`, or a path. `threads` of the processor. The result is
    named `<name>_restored`. It has no notion of missing positions: for a scan that lacks some,
    `process` with the engine `restoration` fills and blanks them. Raises UsageError for what is
    not an image, FormatError for a file that cannot be read, ModelError where the network cannot
    be used.
    """
    from stemd.blocks import ImageBlock
    from stemd.scan.run import ScanRun

    given = _given(image, pixel_size_angstrom, picture)
    own = {"input": given.name, "model": model, "backend": backend, "threads": threads}
    chosen = plan.engines_of({"restoration": own})
    acquisition = Acquisition(
        scan=plan.validated(
            Scan,
            {"shape": given.shape, "flyback": 0, "step_size_angstrom": given.pixel_size},
            "image",
        ),
        detector=Detector("image", (1, 1), "f4", 32),
        source=given.name,
    )
    settings = plan.settings_of(chosen, Optics(), None, (given.name,))
    errors: list[StemdError] = []
    run = ScanRun(acquisition, settings, chosen, report=lambda _, error: errors.append(error))
    pixels = np.ascontiguousarray(given.image)
    run.take(ImageBlock(acquisition, given.name, pixels, np.zeros(0, np.uint8), time.time_ns()))
    run.end("complete")
    results = {result.name: result for result in run.snapshot(final=True).results}
    for name, why in run.failed.items():
        raise next(iter(errors), StemdError(f"engine {name}: {why}"))
    found = results[f"{given.name}_restored"]
    return Image(
        found.name, found.image, given.units, given.axes, given.pixel_size,
        dict(found.extra), given.about,
    )  # fmt: skip


def _given(image: Any, pixel_size_angstrom: float | None, name: str | None) -> Image:
    if isinstance(image, Image):
        return image
    if isinstance(image, str | os.PathLike):
        from stemd.adapters.recordings.pictures import read_image

        picture = read_image(Path(image).expanduser(), name)
        size = pixel_size_angstrom or picture.pixel_size_angstrom
        return Image("image", _sound(picture.pixels), "counts", "scan", size)
    return Image("image", _sound(image), "counts", "scan", pixel_size_angstrom)


def _sound(image: Any) -> Any:
    try:
        pixels = np.asarray(image)
    except ValueError as error:
        raise UsageError(f"the image is not an array: {error}", "give an array (y, x)") from error
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise UsageError(
            f"an array of shape {pixels.shape} is not an image",
            "give one image (y, x); of a stack, each image",
        )
    if pixels.dtype.kind not in "uifb":
        raise UsageError(f"an image of type {pixels.dtype} cannot be restored", "give real numbers")
    with np.errstate(over="ignore"):
        image32 = pixels.astype(np.float32)
    if not np.isfinite(image32).all():
        raise UsageError(
            "the image has pixels that are not finite in float32",
            "fill them, numpy.nan_to_num(image)",
        )
    return image32
