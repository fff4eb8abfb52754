"""All methods' images of one scan side by side, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.airpi.measures import on_common
from benchmarks.airpi.scan4d import Picture, Scan4D

SIDE = 300
COLUMNS = 4


def montage(pictures: Mapping[str, Picture], scan: Scan4D, path: Path) -> None:
    """A PNG of the scored area on the common grid, each image from its 1st to 99.5th percentile."""
    from PIL import Image, ImageDraw

    images: dict[str, NDArray[np.float64]] = {}
    for name, picture in pictures.items():
        images[name], images["truth"] = on_common(picture, scan)
    names = ["truth", *pictures]
    rows = -(-len(names) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * SIDE, rows * (SIDE + 16)), 255)
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(names):
        low, high = np.percentile(images[name], [1.0, 99.5])
        grey = np.clip((images[name] - low) / max(high - low, 1e-12), 0.0, 1.0) * 255
        tile = Image.fromarray(grey.astype(np.uint8)).resize((SIDE - 2, SIDE - 2))
        x, y = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + 16)
        sheet.paste(tile, (x, y + 16))
        draw.text((x + 4, y + 2), name, fill=0)
    sheet.save(path)
