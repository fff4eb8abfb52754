"""The score table of restoration: our network against classical filters, on unseen structures.

    python -m benchmarks.restoration.score --model stemd/models/restoration.onnx

Doses 5e2 to 5e5 e/A^2, without and with scan noise (AR(1), phi 0.5, 0.5 and 0.25 pixels), and
with a fast scan's tail on top; detector pulses spread by 30 %. Classical results do not change:
`--cache benchmarks/restoration/classical.json` keeps them (without it: half an hour). Needs
scipy, scikit-image, bm3d and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.restoration.measures import column_errors, psnr, ssim
from benchmarks.restoration.methods import METHODS
from benchmarks.restoration.specimens import Specimen, specimens
from stemd.engines.restoration.distortions import Distortions, Jitter, Tail, distort
from stemd.engines.restoration.finished import finished
from stemd.engines.restoration.tiling import restore
from stemd.inference import choice
from stemd.inference.choice import BackendName
from stemd.inference.model_file import read_model

Image = NDArray[np.float32]
Row = dict[str, float]

DOSES = (5e2, 1e3, 5e3, 2e4, 1e5, 5e5)
CONDITIONS: dict[str, Distortions] = {
    "still": Distortions(),
    "jitter": Distortions(jitter=Jitter()),
    "fast": Distortions(jitter=Jitter(), tail=Tail("exponential", 1.0)),
}
NETWORK = "network"


class Network:
    """An exported network as the engine uses it, on one thread of a backend."""

    def __init__(self, path: Path, backend: BackendName = "onnxruntime") -> None:
        self.model = read_model(path)
        self.network = choice.load(self.model, backend)

    def __call__(self, image: Image) -> Image:
        """Restore one image (ny, nx) of any size."""
        return finished(image, self.model, self.network).image

    def alone(self, image: Image) -> Image:
        """What the network makes of it, before the recorded image is asked."""
        return restore(image, self.model, self.network)


def measured(image: Image, truth: Image, specimen: Specimen) -> Row:
    """All numbers of one restored image."""
    row = {"psnr": psnr(image, truth), "ssim": ssim(image, truth)}
    if len(specimen.columns):
        sigma = 0.42 / specimen.pixel_angstrom
        position, section = column_errors(
            image, truth, specimen.columns, specimen.fit_radius_px, sigma
        )
        row["position_pm"] = position * specimen.pixel_angstrom * 100.0
        row["section_percent"] = 100.0 * section
    return row


def recorded(specimen: Specimen, number: int, condition: str, dose: float) -> tuple[Image, Image]:
    """(distorted, truth) in electrons; the same for the same arguments."""
    truth = specimen.electrons(dose)
    rng = np.random.default_rng([number, list(CONDITIONS).index(condition), int(dose)])
    return distort(truth, CONDITIONS[condition], rng), truth


def invented(image: Image, distorted: Image) -> Row:
    """What is left on an empty specimen: deviation, as a fraction of the noise's, in percent."""
    return {"left_percent": 100.0 * float(image.std() / distorted.std())}


def score(network: Network, cache: dict[str, Row]) -> dict[str, Row]:
    """Every number, by 'condition|dose|specimen|method'. `cache` holds the classical ones."""
    rows: dict[str, Row] = {}
    for number, specimen in enumerate(specimens()):
        empty = float(np.ptp(specimen.fraction)) == 0.0
        for condition in CONDITIONS:
            for dose in DOSES:
                distorted, truth = recorded(specimen, number, condition, dose)
                key = f"{condition}|{dose:g}|{specimen.name}"
                restored = network(distorted)
                if empty:
                    rows[f"{key}|{NETWORK}"] = invented(restored, distorted)
                    continue
                rows[f"{key}|{NETWORK}"] = measured(restored, truth, specimen)
                for name, method in METHODS.items():
                    if f"{key}|{name}" not in cache:
                        best = max(method(distorted), key=lambda image: psnr(image, truth))
                        cache[f"{key}|{name}"] = measured(best, truth, specimen)
                    rows[f"{key}|{name}"] = cache[f"{key}|{name}"]
    return rows


def table(rows: dict[str, Row], quantity: str) -> str:
    """Means over specimens as a Markdown table, a line for each condition and dose."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for key, row in rows.items():
        condition, dose, _, method = key.split("|")
        if quantity in row:
            values[condition, dose][method].append(row[quantity])
    methods = [m for m in (*METHODS, NETWORK) if any(m in v for v in values.values())]
    lines = [f"| {quantity} | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for (condition, dose), by_method in values.items():
        cells = [f"{np.mean(by_method[m]):.2f}" for m in methods]
        lines.append(f"| {condition}, {dose} e/A^2 | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("stemd/models/restoration.onnx"))
    parser.add_argument(
        "--backend", default="onnxruntime", choices=[b.name for b in choice.best_first()]
    )
    parser.add_argument("--cache", type=Path, help="JSON file that keeps the classical results")
    parser.add_argument("--json", type=Path, help="write every number here")
    options = parser.parse_args()
    cache: dict[str, Any] = {}
    if options.cache is not None and options.cache.exists():
        cache = json.loads(options.cache.read_text())
    rows = score(Network(options.model, options.backend), cache)
    if options.cache is not None:
        options.cache.write_text(json.dumps(cache))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))
    for quantity in ("psnr", "ssim", "position_pm", "section_percent", "left_percent"):
        print(table(rows, quantity), end="\n\n")


if __name__ == "__main__":
    main()
