"""Training images drawn beforehand, each with all that networks are shown.

    python -m training.restoration.pool POOL --count 8000

The estimates (`stemd.engines.restoration.estimate`) need a whole image and take as long as training
on it, so images are made once, kept, and cut differently each time they are used. Image number n of
a seed is always the same image; a run that was ended goes on with the files that are missing.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.channels import estimate
from training.restoration.pairs import pair

log = structlog.get_logger()

SIZE, IMAGES = 256, 32
"""Side of an image in pixels, images a file."""
KEPT = ("noisy", "truth", "waves", "shown", "aligned", "deviation")
"""What is kept of an image, in this order, float16."""

F16 = NDArray[np.float16]


def drawn(seed: int, number: int, size: int = SIZE) -> F16:
    """Image number `number`: (len(KEPT), size, size) on the scale of its noisy image."""
    both = pair(seed, number, size)
    known = estimate(both.noisy)
    parts = (
        both.noisy, both.truth, known.waves, known.shown, known.aligned, np.sqrt(known.variance)
    )  # fmt: skip
    return np.clip(np.stack(parts), -6e4, 6e4).astype(np.float16)


def path_of(pool: Path, file: int) -> Path:
    """Where file number `file` of a pool is; it holds the images from IMAGES x file on."""
    return pool / f"{file:05d}.npy"


def fill(
    pool: Path, seed: int, first: int, count: int, size: int = SIZE, images: int = IMAGES
) -> None:
    """Make the files of images 0 to `count` - 1 that are not there, from file `first` on."""
    pool.mkdir(parents=True, exist_ok=True)
    for file in range(first, -(-count // images)):
        path = path_of(pool, file)
        if path.exists():
            continue
        drawings = np.stack([drawn(seed, images * file + n, size) for n in range(images)])
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as out:
            np.save(out, drawings)
        partial.replace(path)
        log.info("images", file=path.name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("pool", type=Path, help="folder of the files")
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--first", type=int, default=0, help="file to begin with")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    fill(options.pool, options.seed, options.first, options.count)


if __name__ == "__main__":
    main()
